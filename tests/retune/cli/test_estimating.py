"""What `retune estimate` refuses before it looks at anything."""

from __future__ import annotations

from typer.testing import CliRunner

from retune.cli.app import app
from retune.errors import ConfigError


def test_an_unknown_device_is_refused() -> None:
    """Before any row is read."""
    result = CliRunner().invoke(app, ["estimate", "none.yaml", "--device", "tpu"])
    assert isinstance(result.exception, ConfigError)
    assert "tpu is neither cpu nor cuda" in str(result.exception)
