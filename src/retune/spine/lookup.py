"""Why a stage is reused or has to run: the part of its key that differs from an earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from retune.spine.stage import Stage, StageRequest, find_lost_effect
from retune.spine.store import Store

_MAX_PARTS_SHOWN = 3
_ABSENT = object()


@dataclass(frozen=True)
class Lookup:
    """What the store has for a stage key.

    Attributes:
        state: `hit` when the stored artifact can be used as it is.
        reason: One sentence part for a person.
    """

    state: Literal["hit", "run"]
    reason: str


def look_up(
    store: Store, stage: Stage[..., Any], request: StageRequest, parts: Mapping[str, Any]
) -> Lookup:
    """Say whether a stage would be reused, and why or why not.

    Args:
        store: The artifact store.
        stage: The table's entry.
        request: The request whose key is looked up.
        parts: The parts that the key was made of.

    Returns:
        The state and its reason.
    """
    wrong = store.damage(stage.name, request.key)
    if wrong is not None:
        return Lookup("run", _reason_to_run(store, stage.name, request.key, parts, wrong))
    gone = find_lost_effect(store, stage, request)
    if gone is not None:
        return Lookup("run", gone)
    sealed = store.manifest(stage.name, request.key).provenance["sealed_at"]
    return Lookup("hit", f"same inputs, settings and versions as on {sealed[:16]}Z")


def _reason_to_run(store: Store, stage: str, key: str, parts: Mapping[str, Any], wrong: str) -> str:
    known = store.known_keys(stage)
    if any(other == key for other, _ in known) or "damaged" in wrong:
        return wrong
    if (store.folder(stage, key).parent / f"{key}.work" / "scratch").is_dir():
        return "an earlier run did not finish"
    if not known:
        return "first run"
    return _nearest_difference(parts, [earlier for _, earlier in known])


def _nearest_difference(parts: Mapping[str, Any], known: list[dict[str, Any]]) -> str:
    # min() keeps the first of equals, and known_keys lists the latest first.
    differences = min((_differences(parts, earlier) for earlier in known), key=len)
    shown = "; ".join(differences[:_MAX_PARTS_SHOWN])
    more = len(differences) - _MAX_PARTS_SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown


def _differences(now: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[str]:
    names = sorted(set(now) | set(earlier), key=lambda name: (name.startswith("library."), name))
    return [
        _difference(name, earlier.get(name, _ABSENT), now.get(name, _ABSENT))
        for name in names
        # A setting that is new and null is not the same as no such setting: the key differs.
        if earlier.get(name, _ABSENT) != now.get(name, _ABSENT)
    ]


def _difference(name: str, earlier: Any, now: Any) -> str:
    if name.startswith("input."):
        return f"{name.removeprefix('input.')} changed"
    return f"{name}: {_shown(earlier)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    text = "absent" if value is _ABSENT else "null" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
