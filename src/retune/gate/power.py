"""Power: the smallest gain that a test set shows in four of five tries, before anything is trained.

The gate promotes when the paired interval of the gain is clear of zero. With a standard error ``s``
that takes ``gain >= (t + z) * s`` for a power of 80 %: ``t`` is Student's quantile at half the
level, with one degree of freedom less than there are rows or groups (as the gate's intervals have),
``z`` the normal quantile of 0.8.

``s`` is known where an earlier decision on the same rows compared the figure: half its interval
over its own quantile. For rates without one it is assumed: ``s^2 = (d - gain^2) * e / n`` over
``n`` rows, as for McNemar's test (Miettinen 1968; Connor 1987), where ``d`` is the part of the rows
that only one of the two answers right, and ``e`` the design effect of rows in groups,
``1 + (sum of squared group sizes / n - 1) * r``. Assumed is ``d`` = 0.5, which two models reach
that are right on half of the rows each and have nothing in common, and ``r`` = 0.1. Macro F1 counts
as accuracy, which its rare classes make too hopeful. For perplexity and bits per byte without a
decision the base's own score on these rows says how far its losses scatter; the challenger's are
taken to scatter as far and to have nothing in common with them, as is assumed for rates: ``s`` is
the square root of two times the standard error of the base's figure. Before the base was scored
nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from retune.records import Record
from retune.score_records import Comparison, GateDecision, Metric, ScoreReport
from retune.scoring.figures import figure_of
from retune.scoring.uncertainty.exchanging import fewest_units
from retune.scoring.uncertainty.resampling import (
    ALPHA,
    count_groups,
    count_units,
    label_groups,
    weigh_units,
)
from retune.spine.store import Store

POWER = 0.8
DISCORDANCE = 0.5
CORRELATION = 0.1
"""Of the rows of one group: whether both models treat them alike."""
_HALVINGS = 60
_SCORED = "score_perplexity"


class DetectableGain(Record):
    """What a test set can show."""

    metric: str
    alpha: float
    rows: int
    groups: int | None
    gain: float | None
    """Smallest gain that is shown in four of five tries; None where no gain is, or it is unknown.
    """
    known: bool = True
    """False where nothing can be said before the base was scored on these rows."""
    pessimistic: bool = False
    """Whether two models are taken to have nothing in common: what is shown is likely smaller."""
    basis: str
    """What it rests on."""


def find_detectable_gain(
    metric: str,
    groups: Sequence[str | None],
    alpha: float,
    earlier: Comparison | None = None,
    base: Metric | None = None,
) -> DetectableGain:
    """Return the smallest gain that a decision on some rows shows in four of five tries.

    Args:
        metric: The figure that decides.
        groups: What each of its rows shares with others; None stands for itself.
        alpha: Level of the decision.
        earlier: The figure's comparison in an earlier decision on the same rows, if there is one.
        base: The base's figure on them, where it was scored: says how far losses scatter.

    Returns:
        The gain, as a positive number in the figure's own units.
    """
    rows = len(groups)
    shared = count_groups(rows, groups)
    units = count_units(rows, shared)
    basis = f"{rows:,} rows" + (f" in {shared:,} groups" if shared else "")
    found = DetectableGain(
        metric=metric, alpha=alpha, rows=rows, groups=shared, gain=None, basis=basis
    )
    if units < fewest_units(alpha):
        return found.model_copy(
            update={"basis": f"{basis}, and under {fewest_units(alpha)} show nothing"}
        )
    quantiles = _quantile(alpha, weigh_units(rows, groups)), NormalDist().inv_cdf(POWER)
    error = None if earlier is None else _error_of(earlier, earlier.alpha)
    if error is not None:
        said = f"{basis}, by how far the models differed there before"
        return found.model_copy(update={"gain": sum(quantiles) * error, "basis": said})
    figure = figure_of(metric)
    if figure.unit != "rate":
        scatter = _error_of(base, ALPHA)
        if scatter is None:
            return found.model_copy(update={"known": False})
        said = f"{basis}, by how far the base's losses scatter there, shared with no other model"
        least = sum(quantiles) * math.sqrt(2) * scatter
        return found.model_copy(update={"gain": least, "basis": said, "pessimistic": True})
    assumed = f"{basis}, of which one half is taken to be answered otherwise"
    gain = _solve_rate(rows / _design_effect(groups), *quantiles)
    return found.model_copy(update={"gain": gain, "basis": assumed})


def count_rows_needed(found: DetectableGain, gain: float) -> int | None:
    """Return about how many rows like these show a smaller gain; None where that is not known.

    Args:
        found: What the rows at hand show.
        gain: What they should.
    """
    return None if found.gain is None else math.ceil(found.rows * (found.gain / gain) ** 2)


def find_earlier(store: Store, rows_digest: str, metric: str) -> Comparison | None:
    """Return a figure's comparison in the latest decision on some rows.

    Args:
        store: Where decisions are kept.
        rows_digest: Of the held-out rows.
        metric: The figure.

    Returns:
        That with the champion, else with the base; None where there is no decision.
    """
    for key, parts in store.known_keys("decide"):
        if parts.get("input.rows") != rows_digest or store.damage("decide", key) is not None:
            continue
        decision = store.load("decide", key, GateDecision)
        found = [each for each in decision.comparisons if each.metric == metric]
        if found:
            # The base is listed first, and differs more than a champion does.
            return found[-1]
    return None


def find_base_figure(
    store: Store, rows_digest: str, base_digest: str, metric: str
) -> Metric | None:
    """Return the base's own figure on some rows, from its losses there.

    Args:
        store: Where scores are kept.
        rows_digest: Of the held-out rows.
        base_digest: Of the base.
        metric: The figure.

    Returns:
        None where the base was not scored on them, or has no such figure by its losses.
    """
    wanted = {"input.rows": rows_digest, "input.model": base_digest}
    for key, parts in store.known_keys(_SCORED):
        if any(parts.get(name) != digest for name, digest in wanted.items()):
            continue
        if store.damage(_SCORED, key) is None:
            return store.load(_SCORED, key, ScoreReport).metrics.get(metric)
    return None


def _error_of(found: Comparison | Metric | None, alpha: float) -> float | None:
    """Return the standard error behind an interval; None where there is none."""
    if found is None or found.low is None or found.high is None:
        return None
    half = (found.high - found.low) / 2
    return half / _quantile(alpha, count_units(found.n, found.groups)) or None


def _quantile(alpha: float, units: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(max(2.0, units) - 1, 1 - alpha / 2))


def _design_effect(groups: Sequence[str | None]) -> float:
    _, sizes = np.unique(label_groups(len(groups), groups), return_counts=True)
    return 1 + (float((sizes**2).sum()) / len(groups) - 1) * CORRELATION


def _solve_rate(rows: float, t: float, z: float) -> float | None:
    def is_shown(gain: float) -> bool:
        discordance = max(DISCORDANCE, gain)
        spread = t * math.sqrt(discordance) + z * math.sqrt(max(0.0, discordance - gain**2))
        return gain * math.sqrt(rows) >= spread

    if not is_shown(1.0):
        return None
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_shown(middle) else (middle, high)
    return high
