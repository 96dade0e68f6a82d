"""Where an artifact came from: versions, machine, time. Never secrets, never the environment."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import retune


def library_versions(names: Iterable[str]) -> dict[str, str]:
    """Map installed libraries to their versions.

    Args:
        names: Distribution names.

    Returns:
        Version per name; ``"absent"`` for a library that is not installed.
    """
    return {name: _version(name) for name in sorted(names)}


@lru_cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def machine_provenance() -> dict[str, Any]:
    """Describe the machine and the code that compute an artifact."""
    return {
        "retune": retune.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }


@lru_cache
def _commit() -> str | None:
    """Return the commit of the checkout that this code lies in, or None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def find_constraints() -> Path | None:
    """Return the file of pinned versions in the checkout that this code lies in, or None."""
    folders = Path(__file__).resolve().parents
    return next((path for each in folders if (path := each / "constraints.txt").is_file()), None)
