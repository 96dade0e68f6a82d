"""How far estimates of memory were off in earlier trainings, kept beside what they made."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from retune.digests import digest_json
from retune.whole_files import replacing

CALIBRATION = "memory_calibration.json"
_KEPT = 20


def read_calibration(store: Path) -> dict[str, float]:
    """Return the ratio of measured to estimated peaks, both without libraries.

    Args:
        store: The store's root.

    Returns:
        The median of the last trainings by device and method, such as ``cpu/lora``; empty where
        there were none, or the file cannot be read.
    """
    ratios = {name: [each["ratio"] for each in kept] for name, kept in _read(store).items()}
    return {name: median(each) for name, each in ratios.items() if each}


def add_calibration(
    store: Path, name: str, training: str, *, measured: int, estimated: int
) -> None:
    """Keep how far one estimate was off; a training that is kept already is not kept twice.

    Args:
        store: The store's root.
        name: Device and method, such as ``cpu/lora``.
        training: Digest of what was trained.
        measured: Peak without libraries, in bytes.
        estimated: The same, as it was estimated.
    """
    if measured <= 0 or estimated <= 0:
        return
    found = _read(store)
    known = digest_json([training, measured, estimated])[:12]
    kept = [each for each in found.get(name, []) if each["of"] != known]
    entry = {"of": known, "ratio": measured / estimated}
    entry |= {"measured_bytes": measured, "estimated_bytes": estimated}
    found[name] = [*kept, entry][-_KEPT:]
    with replacing(store / CALIBRATION) as part:
        part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _read(store: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        found = json.loads((store / CALIBRATION).read_text("utf-8"))
        # A file that someone else wrote over is worth nothing, and stops no run.
        return {
            name: [{**each, "ratio": float(each["ratio"]), "of": str(each["of"])} for each in kept]
            for name, kept in dict(found).items()
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}
