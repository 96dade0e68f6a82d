"""Where the reference sets lie."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the reference sets; without it the tests that need it are skipped."""
    named = os.environ.get("RETUNE_SHARED_DATA")
    folder = Path(named) if named else _ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; RETUNE_SHARED_DATA names another place")
    return folder


@pytest.fixture(scope="session")
def read_jsonl(shared_data: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Reads the rows of one reference file."""

    def read(name: str) -> list[dict[str, Any]]:
        lines = (shared_data / name).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    return read
