"""The dotted names of a model's parts, and what their ends say."""

from __future__ import annotations

from collections.abc import Iterable


def ends(name: str, ending: str) -> bool:
    """Tell whether a dotted name ends with whole parts of another.

    Args:
        name: Such as `model.layers.0.mlp.up_proj`.
        ending: `mlp.up_proj` is an end of it, and `proj` is none.
    """
    return f".{name}".endswith(f".{ending}")


def last_part(name: str) -> str:
    """Return what stands behind the last dot."""
    return name.rpartition(".")[2]


def list_endings(names: Iterable[str]) -> str:
    """Write the different last parts of names in one line, for messages."""
    return ", ".join(sorted(set(map(last_part, names))))
