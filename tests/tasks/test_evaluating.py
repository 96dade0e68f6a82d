"""What of an evaluation is refused before anything is computed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from retune.errors import ConfigError
from tasks.evaluating import refuse_unknown_efforts
from tests.tiny_models import write_snapshot


def test_a_model_whose_template_knows_no_effort_is_refused_by_name(tmp_path: Path) -> None:
    """Without an effort it is welcome; and an effort is named once."""
    folder = write_snapshot(tmp_path / "llama", "llama")
    model: Any = SimpleNamespace(name="their-model", tokenizer=SimpleNamespace(folder=folder))
    job: Any = SimpleNamespace(inputs=SimpleNamespace(template=None))
    refuse_unknown_efforts(job, [model], [])
    with pytest.raises(ConfigError, match="template of their-model knows no reasoning_effort"):
        refuse_unknown_efforts(job, [model], ["low", "high"])
    with pytest.raises(ConfigError, match="expected each effort once"):
        refuse_unknown_efforts(job, [model], ["low", "low"])
