"""The machine that figures hold for, without any name of it."""

from __future__ import annotations

import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from retune.spine.children import count_cores

LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "prefect", "mlflow")
THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""How all sides use threads: spinning ones would make what they wait for part of the figures."""


def describe_hardware() -> dict[str, Any]:
    """Return the processor, how many cores are ours, and the memory in GiB."""
    return {
        "cpu": _processor(),
        "cores": count_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
    }


def describe_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def name_hardware(hardware: dict[str, Any]) -> str:
    """Return a name for files of figures.

    Args:
        hardware: As `describe_hardware` gives it.

    Returns:
        Processor and cores in small letters, joined by hyphens.

    Example:
        >>> name_hardware({"cpu": "AMD EPYC 7543 (TM)", "cores": 2})
        'amd-epyc-7543-tm-2-cores'
    """
    words = re.findall(r"[a-z0-9]+", str(hardware["cpu"]).lower())
    return "-".join([*words, str(hardware["cores"]), "cores"])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
