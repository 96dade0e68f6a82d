"""What ranks leave when they end, and which error of several is the one to tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import retune.errors as errors
from retune.errors import Interrupted, RetuneError, StageDied, StageError
from retune.training.distributed.messages import OUTCOME


def read_outcome(folder: Path, rank: int) -> dict[str, Any]:
    """Return a rank's record, or what it raised; nothing where it left nothing.

    Args:
        folder: Of the training's request.
        rank: Its number.
    """
    try:
        return dict(json.loads((folder / OUTCOME.format(rank=rank)).read_text("utf-8")))
    except FileNotFoundError:
        return {}


def explain_end(folder: Path, count: int, lost: Mapping[int, str], silent: str) -> NoReturn:
    """Raise the error of a training whose ranks did not all end well.

    Args:
        folder: Holds the outcomes.
        count: Ranks.
        lost: How each died that could say nothing, by rank.
        silent: What is told where no rank says anything.

    Raises:
        RetuneError: What the first rank raised that failed by itself.
        StageDied: One was lost, or none says anything.
    """
    outcomes = [read_outcome(folder, rank) for rank in range(count)]
    failed = [found for found in outcomes if "type" in found]
    # The first to fail has the cause; others fail in turn, since it no longer answers them.
    raised = [_rebuild(found) for found in sorted(failed, key=lambda found: found["time"])]
    for error in raised:
        if not isinstance(error, StageError | Interrupted):
            raise error
    # Where one was killed, the errors of the others only say that it is gone.
    if lost:
        rank, how = min(lost.items())
        raise StageDied(
            f"rank {rank} of {count} died ({how}), and the others were "
            "ended. Checkpoints are kept: run again to go on from the last one."
        )
    # Those that were asked to stop, because of another one, come last.
    for error in sorted(raised, key=lambda error: isinstance(error, Interrupted)):
        raise error
    raise StageDied(silent)


def _rebuild(outcome: dict[str, Any]) -> RetuneError:
    kind = getattr(errors, outcome["type"], None)
    if isinstance(kind, type) and issubclass(kind, RetuneError):
        error: RetuneError = kind(outcome["message"])
    else:
        error = StageError(f"rank {outcome['rank']}: {outcome['type']}: {outcome['message']}")
    error.add_note(outcome["traceback"])
    return error
