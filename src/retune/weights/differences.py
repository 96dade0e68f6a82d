"""How far apart the weights of two models lie."""

from __future__ import annotations

from pathlib import Path

_FILES = "*.safetensors"


def largest_difference(one: Path, other: Path) -> float | None:
    """Return the largest difference between two weights of the same name.

    Args:
        one: Folder of a model or a bundle.
        other: Folder of another.

    Returns:
        ``max |a - b|`` over all weights, in float32; None where the two have not the same weights,
        by name and shape.
    """
    from safetensors import safe_open

    places = [_locate_weights(folder) for folder in (one, other)]
    if not places[0] or places[0].keys() != places[1].keys():
        return None
    largest = 0.0
    for name in places[0]:
        with safe_open(places[0][name], "pt") as first, safe_open(places[1][name], "pt") as second:
            key = name.rpartition(":")[2]
            a, b = first.get_tensor(key).float(), second.get_tensor(key).float()
        if a.shape != b.shape:
            return None
        largest = max(largest, float((a - b).abs().max()) if a.numel() else 0.0)
    return largest


def _locate_weights(folder: Path) -> dict[str, Path]:
    """Return the file of each weight, named by its folder (in a bundle) and its own name."""
    from safetensors import safe_open

    found: dict[str, Path] = {}
    for path in sorted(folder.rglob(_FILES)):
        with safe_open(path, "pt") as file:
            beside = path.parent.relative_to(folder).as_posix()
            found |= {f"{beside}:{name}": path for name in file.keys()}  # noqa: SIM118
    return found
