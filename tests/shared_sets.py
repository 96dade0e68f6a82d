"""Where larger sets lie, which only widen what the samples that ship check."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
SHARED = Path(os.environ.get("RETUNE_SHARED_DATA", _BESIDE))


def shared_set(*parts: str) -> Path:
    """Return a file or folder of the larger sets; a test that finds none is skipped.

    Args:
        *parts: Names below the folder of sets.
    """
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is absent; RETUNE_SHARED_DATA names another place")
    return path
