"""Reading the reference sets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def read_jsonl(shared_data: Path) -> Callable[[str], list[dict[str, Any]]]:
    """Reads the rows of one file of the larger sets."""

    def read(name: str) -> list[dict[str, Any]]:
        lines = (shared_data / name).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]

    return read
