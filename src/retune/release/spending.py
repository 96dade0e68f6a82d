"""How much may still go wrong on a set of held-out rows, and at which level the next decision is.

Every decision on the same rows may err, and together they may err with `gate.error` at most. So
that is parted into `gate.decisions_per_test_set` equal shares. A decision that promotes nothing
uses one share up; one that promotes gets its share back, since it either was right and cannot have
been the error, or was the error, of which there is one to be bounded (alpha spending with the
fallback of Wiens, online: Tian and Ramdas 2021). docs/promotion.md has the proof and what it rests
on; `benchmarks/promotion_error.py` counts.

A promotion is a claim to one side, and the paired interval and test have two: at level alpha they
err to that side with alpha / 2. The level of a decision is therefore twice its share.

Rows that were in earlier decisions keep what was spent on them: an earlier decision counts by the
part of today's rows that it rested on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from retune.recipe.sections import GateConfig
from retune.records import Record
from retune.registry.records import LedgerEntry
from retune.release.error_budget import ErrorBudget, count_left

_SIDES = 2


class Question(Record):
    """What a decision is about: asked again it is the same decision, and spends nothing."""

    challenger: str
    """Content digest of the released model."""
    opponent: str
    """Content digest of the champion; empty for none."""
    test_rows: str
    """Digest of the held-out rows, or of the file of probes where a figure over cases decides."""
    metric: str | None
    """Figure that decides; None where that is not known."""


def find_level(gate: GateConfig) -> float:
    """Return the level of a decision while shares are left: that of a two-sided interval.

    Args:
        gate: The error, and in how many parts it is spent.
    """
    return _SIDES * gate.error / gate.decisions_per_test_set


def find_budget(
    entries: Sequence[LedgerEntry],
    gate: GateConfig,
    *,
    rows: int,
    shared: Mapping[str, float],
    question: Question | None = None,
    over_cases: bool = False,
) -> ErrorBudget:
    """Return what is left of the error of a set of held-out rows, and the level of a decision.

    Args:
        entries: The model's ledger, in its order.
        gate: The error, and in how many parts it is spent.
        rows: How many held-out rows there are today.
        shared: Of earlier held-out rows by their digest, the part of today's rows that is among
            them, 0 to 1. Those that it does not name count as the same rows: nothing says that
            they are others.
        question: What is decided; None: something that was not asked before.
        over_cases: Whether the rows are cases of probes, for the words that tell of them.

    Returns:
        The budget; its `alpha` is 0 where no share is left.
    """
    spent = math.fsum(each * shared.get(digest, 1.0) for digest, each in sum_spent(entries).items())
    alpha = _level_of(entries, question)
    asked_before = alpha is not None
    if alpha is None:
        left = count_left(gate.error, gate.decisions_per_test_set, spent)
        alpha = find_level(gate) if left else 0.0
    return ErrorBudget(
        rows=rows,
        error=gate.error,
        decisions=gate.decisions_per_test_set,
        spent=spent,
        alpha=alpha,
        asked_before=asked_before,
        over_cases=over_cases,
    )


def sum_spent(entries: Sequence[LedgerEntry]) -> dict[str, float]:
    """Add up what decisions spent on each set of held-out rows.

    Each decision counts once, however often the ledger has it, and one that promoted spends nothing
    unless it was taken back.

    Args:
        entries: The model's ledger, in its order.

    Returns:
        What was spent of the error, by the digest of the rows; the set that was used last is last.
    """
    spent: dict[str, dict[tuple[str | int, ...], float]] = {}
    taken_back = _find_taken_back(entries)
    for entry in entries:
        if entry.alpha and entry.test_rows:
            shares = spent.pop(entry.test_rows, {})
            key, share = _key_of(entry), entry.alpha / _SIDES
            returned = entry.kind == "promoted" and entry.number not in taken_back
            shares[key] = 0.0 if returned else max(share, shares.get(key, share))
            spent[entry.test_rows] = shares
    return {digest: math.fsum(shares.values()) for digest, shares in spent.items()}


def _find_taken_back(entries: Sequence[LedgerEntry]) -> set[int]:
    """Return the numbers of promotions after which an older version, or none, became champion.

    What comes after is compared with a model that had lost on these rows, which is then more likely
    to look worse than it is: the share is spent, as if nothing had been promoted. What goes back
    over several versions takes each of them back.
    """
    found, oldest = set(), math.inf
    for entry in reversed(entries):
        if entry.kind == "promoted" and entry.to_version is not None and oldest < entry.to_version:
            found.add(entry.number)
        if entry.from_version is not None and entry.from_version != entry.to_version:
            oldest = min(oldest, -math.inf if entry.to_version is None else entry.to_version)
    return found


def _level_of(entries: Sequence[LedgerEntry], question: Question | None) -> float | None:
    """Return the level at which a question was decided before, None where it was not."""
    if question is None:
        return None
    asked = (question.challenger, question.opponent, question.test_rows)
    levels: dict[str | None, float] = {}
    for entry in entries:
        if entry.alpha and (entry.challenger, entry.opponent, entry.test_rows) == asked:
            levels.setdefault(_metric_of(entry), entry.alpha)
    # Another figure is another chance to err. Where none is named nothing was compared, so that the
    # first figure that is has that level.
    return levels.get(question.metric, levels.get(None) if levels.keys() == {None} else None)


def _key_of(entry: LedgerEntry) -> tuple[str | int, ...]:
    if not entry.challenger:
        return (entry.number,)
    return (entry.challenger, entry.opponent, entry.test_rows, _metric_of(entry) or "")


def _metric_of(entry: LedgerEntry) -> str | None:
    """Return the figure that decided: the one that a line holds with its interval.

    Args:
        entry: A line of the ledger.

    Returns:
        Its name; None where the line has none, or several.
    """
    found = [name for name in entry.figures if f"{name}.low" in entry.figures]
    return found[0] if len(found) == 1 else None
