"""Stopping hopeless trials: worse than half of the finished ones at the same point of training.

The rule is that of the median: at each evaluation before the last, the best held-out loss so far
is compared with the median of what the finished trials had reached by then. Only losses over the
same rows are compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from retune.digests import digest_json
from retune.records import Record
from retune.spine.stage import Reporter
from retune.whole_files import replacing

LEAST_FINISHED = 2
"""Fewer finished trials say nothing of what is usual."""
LEAST_SHARE = 0.2
"""Part of the training before which nothing is judged: warm-up is no promise."""

Curve = tuple[tuple[float, float], ...]
"""Share of the training (0 to 1) and held-out loss there, in order."""


class TrialStopped(Exception):
    """A trial was stopped because it was hopeless; raised where its training is watched.

    Args:
        reason: What was compared.
        training_key: Stage key of the training.
    """

    def __init__(self, reason: str, training_key: str) -> None:
        super().__init__(reason)
        self.reason, self.training_key = reason, training_key


class FinishedCurve(Record):
    """What a finished trial's held-out loss was over its training."""

    name: str
    loss_scope: str
    """Digest of the rows that the loss is over; others cannot be compared."""
    curve: Curve


class StoppedNote(Record):
    """That a training was stopped in this comparison, and why."""

    name: str
    reason: str


def best_by(curve: Curve, share: float) -> float | None:
    """Return the lowest loss up to a share of the training; None where there is none yet."""
    losses = [loss for at, loss in curve if at <= share + 1e-9]
    return min(losses, default=None)


def pruning_reason(curve: Curve, finished: Sequence[Curve]) -> str | None:
    """Say whether a trial is hopeless at its latest evaluation.

    Args:
        curve: What it has shown so far.
        finished: Curves of the trials that finished, over the same rows.

    Returns:
        Why it is; None where it is not, or nothing can be said yet.
    """
    share = curve[-1][0] if curve else 0.0
    if not LEAST_SHARE <= share < 1.0:
        return None
    ours = best_by(curve, share)
    theirs = [loss for each in finished if (loss := best_by(each, share)) is not None]
    if ours is None or len(theirs) < LEAST_FINISHED:
        return None
    median = statistics.median(theirs)
    if ours <= median:
        return None
    return (
        f"held-out loss {ours:.4f} after {share:.0%} of the training; the median of "
        f"{len(theirs)} finished trials was {median:.4f} there"
    )


def ledger_folder(store: Path, comparison: str) -> Path:
    """Return where a comparison remembers what it knows of its trials.

    Args:
        store: Root of the machine's store.
        comparison: Digest of the comparison.
    """
    return store / "comparisons" / comparison


class Ledger:
    """What a comparison remembers between processes and runs: small files below the store.

    Args:
        folder: Of one comparison.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add_finished(self, curve: FinishedCurve) -> None:
        """Remember how a finished trial's loss fell."""
        name = f"finished-{digest_json([curve.name, curve.loss_scope])[:16]}.json"
        self._write(name, curve)

    def finished(self, loss_scope: str, without: str) -> list[Curve]:
        """Return the curves over the same rows, but for a trial's own of an earlier run."""
        read = (
            FinishedCurve.model_validate_json(path.read_bytes())
            for path in sorted(self._folder.glob("finished-*.json"))
        )
        return [
            each.curve for each in read if each.loss_scope == loss_scope and each.name != without
        ]

    def add_stopped(self, key: str, note: StoppedNote) -> None:
        """Remember that a training, by its stage key, was stopped."""
        self._write(f"stopped-{key}.json", note)

    def stopped(self, key: str) -> StoppedNote | None:
        """Return why a training was stopped in this comparison; None where it was not."""
        path = self._folder / f"stopped-{key}.json"
        return StoppedNote.model_validate_json(path.read_bytes()) if path.is_file() else None

    def _write(self, name: str, record: Record) -> None:
        # Several trials may write at once, and one may be killed in the middle.
        with replacing(self._folder / name) as part:
            part.write_text(record.model_dump_json(indent=1) + "\n", "utf-8")


class Pruner:
    """Watches one training and stops it when it is hopeless.

    Args:
        name: The trial's.
        loss_scope: Digest of the rows that its loss is over.
        ledger: Of the comparison.
        key: Stage key of the training.
    """

    def __init__(self, name: str, loss_scope: str, ledger: Ledger, key: str) -> None:
        self._name, self._loss_scope, self._ledger, self._key = name, loss_scope, ledger, key
        self._steps = 0
        self._curve: Curve = ()

    def refuse_again(self) -> None:
        """Do not begin what an earlier run of the comparison stopped.

        Raises:
            TrialStopped: It did.
        """
        note = self._ledger.stopped(self._key)
        if note is not None:
            raise TrialStopped(note.reason, self._key)

    def progress(self, what: str, total: int) -> None:
        """Learn how many steps are planned."""
        if what == "steps":
            self._steps = total

    def metric(self, name: str, value: float, step: int) -> None:
        """Look at a live figure.

        Raises:
            TrialStopped: The training is hopeless; that is in the ledger.
        """
        if name != "validation_loss" or not step or not self._steps:
            return
        self._curve = (*self._curve, (step / self._steps, value))
        finished = self._ledger.finished(self._loss_scope, self._name)
        reason = pruning_reason(self._curve, finished)
        if reason is not None:
            self._ledger.add_stopped(self._key, StoppedNote(name=self._name, reason=reason))
            raise TrialStopped(reason, self._key)


class WatchedReporter:
    """Passes on what a training reports, and lets the pruner stop it.

    Args:
        reporter: Where it is passed on to.
        pruner: Of the training.
    """

    def __init__(self, reporter: Reporter, pruner: Pruner) -> None:
        self._reporter, self._pruner = reporter, pruner

    def started(self) -> None:
        """Pass it on."""
        self._reporter.started()

    def progress(self, what: str, done: int, total: int) -> None:
        """Pass it on, after the pruner has learned how many steps are planned."""
        self._pruner.progress(what, total)
        self._reporter.progress(what, done, total)

    def metric(self, name: str, value: float, step: int) -> None:
        """Pass it on, before the pruner may stop the training."""
        self._reporter.metric(name, value, step)
        self._pruner.metric(name, value, step)

    def log(self, message: str) -> None:
        """Pass it on."""
        self._reporter.log(message)
