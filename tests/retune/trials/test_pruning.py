"""When a trial is hopeless, and what a comparison remembers of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.trials.pruning import (
    FinishedCurve,
    Ledger,
    Pruner,
    TrialStopped,
    best_by,
    pruning_reason,
)

GOOD = ((0.25, 2.0), (0.5, 1.5), (0.75, 1.2), (1.0, 1.0))
FAIR = ((0.25, 2.4), (0.5, 1.9), (0.75, 1.7), (1.0, 1.6))
"""Their median at half of the training: (1.5 + 1.9) / 2 = 1.7."""


def test_worse_than_the_median_at_the_same_share_is_hopeless() -> None:
    """1.8 at one half is above 1.7; the finished ones' later losses do not count."""
    assert pruning_reason(((0.5, 1.8),), [GOOD, FAIR]) == (
        "held-out loss 1.8000 after 50% of the training; the median of 2 finished trials was "
        "1.7000 there"
    )


def test_the_median_itself_is_not_hopeless() -> None:
    """Only above it; half of all good trials lie at or above it."""
    assert pruning_reason(((0.5, 1.7),), [GOOD, FAIR]) is None


def test_the_best_loss_so_far_counts_on_both_sides() -> None:
    """A loss that rose again counts as what it was at its best.

    Of the trial itself: 1.6 was reached before. Of finished ones: both had reached 1.0 by then, so
    the median is 1.0.
    """
    assert pruning_reason(((0.25, 1.6), (0.5, 9.0)), [GOOD, FAIR]) is None
    risen = ((0.25, 1.0), (0.5, 5.0))
    assert pruning_reason(((0.5, 1.1),), [risen, risen]) is not None


def test_nothing_is_judged_too_early_at_the_end_or_without_others() -> None:
    """A tenth of the training, the last evaluation, and one finished trial say nothing."""
    early = ((0.1, 1.0),)
    assert pruning_reason(((0.1, 9.0),), [early, early]) is None
    assert pruning_reason(((1.0, 9.0),), [GOOD, FAIR]) is None
    assert pruning_reason(((0.5, 9.0),), [GOOD]) is None
    assert pruning_reason((), [GOOD, FAIR]) is None


def test_a_finished_trial_without_an_evaluation_by_then_does_not_count() -> None:
    """Its first one came at 0.5; at 0.25 only one finished trial is left, which is too few."""
    late = ((0.5, 1.0), (1.0, 0.5))
    assert best_by(late, 0.25) is None
    assert pruning_reason(((0.25, 9.0),), [GOOD, late]) is None


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Return a ledger that knows two finished trials over the rows `rows`."""
    found = Ledger(tmp_path / "comparison")
    for name, curve in (("good", GOOD), ("fair", FAIR)):
        found.add_finished(FinishedCurve(name=name, loss_scope="rows", curve=curve))
    return found


def test_a_watch_stops_a_hopeless_training_and_an_earlier_stop_holds(ledger: Ledger) -> None:
    """Step 10 of 20 is one half; the next run of the comparison does not begin it again."""
    pruner = Pruner("bad", "rows", ledger, "key")
    pruner.refuse_again()
    pruner.progress("steps", 20)
    pruner.metric("train_loss", 9.0, 10)
    pruner.metric("validation_loss", 9.0, 0)  # before the first step
    with pytest.raises(TrialStopped, match=r"9\.0000 after 50%"):
        pruner.metric("validation_loss", 9.0, 10)
    with pytest.raises(TrialStopped, match=r"9\.0000 after 50%"):
        Pruner("bad", "rows", ledger, "key").refuse_again()
    Pruner("bad", "rows", ledger, "other key").refuse_again()


def test_losses_over_other_rows_are_not_compared(ledger: Ledger) -> None:
    """The same loss over rows of another length means something else."""
    pruner = Pruner("bad", "other rows", ledger, "key")
    pruner.progress("steps", 20)
    pruner.metric("validation_loss", 9.0, 10)


def test_a_trial_is_not_compared_with_itself(ledger: Ledger) -> None:
    """Of an earlier run of the same comparison, whose artifact was deleted."""
    assert ledger.finished("rows", without="good") == [FAIR]
