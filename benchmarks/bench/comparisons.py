"""What is compared with what, the aim of it, and how a round of figures is read."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Measure = Literal["cpu", "wall", "peak"]
Taken = dict[str, Any]
"""One side in one round: `cpu` and `wall` in seconds, `peak` in bytes, and `found`."""
Round = list[Taken]
UNITS: dict[Measure, str] = {"cpu": "CPU", "wall": "wall", "peak": "peak"}


@dataclass(frozen=True)
class Side:
    """One way to do the work.

    Attributes:
        name: As the table says it.
        does: Function of this package, ``module:function``, that prepares the work.
        options: Its arguments, and part of what is kept.
    """

    name: str
    does: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Aim:
    """What the sides of a round shall be to each other.

    Attributes:
        kind: ``faster``: the first side's figure over the last one's is at least the limit;
            ``growth``: that of side `of` over the first one's is at most the limit; ``above``: the
            last side's is at most the limit above the first one's; ``own``: at most the limit;
            ``beyond``: at most the limit above the seconds that the last side itself tells of.
        measure: CPU seconds, seconds of the clock, or bytes.
        limit: A ratio, or seconds.
        of: Which side.
    """

    kind: Literal["faster", "growth", "above", "own", "beyond"]
    measure: Measure
    limit: float
    of: int = -1

    def read(self, sides: Round) -> float:
        """Return the figure of one round."""
        first, other = (float(sides[at][self.measure]) for at in (0, self.of))
        match self.kind:
            case "faster":
                return first / other
            case "growth":
                return other / first
            case "above":
                return other - first
            case "beyond":
                return other - float(sides[self.of]["found"])
            case "own":
                return other

    def is_met(self, figure: float) -> bool:
        """Tell whether a figure is what was aimed at."""
        return figure >= self.limit if self.kind == "faster" else figure <= self.limit

    def say(self, figure: float) -> str:
        """Return a figure of this kind with its unit."""
        return f"{figure:.2f}x" if self.kind in ("faster", "growth") else f"{figure:.2f} s"


class Found(NamedTuple):
    """A figure over all rounds."""

    median: float
    least: float
    most: float


def over_rounds(figures: Sequence[float]) -> Found:
    """Return median and range.

    Args:
        figures: One per round, at least one.

    Returns:
        The three.
    """
    return Found(statistics.median(figures), min(figures), max(figures))


@dataclass(frozen=True)
class Comparison:
    """Ways to do the same, run in turn.

    Attributes:
        name: By which it is asked for.
        what: One line.
        sides: The plain way or the smallest size first, ours or the largest last.
        aims: What is wanted of them; none where a figure is only kept.
        agree: Given what the sides of a round found, says how far they agree; raises a
            `Disagreement` where they do not.
    """

    name: str
    what: str
    sides: tuple[Side, ...]
    aims: tuple[Aim, ...]
    agree: Callable[[list[Any]], str] = lambda found: ""


class Disagreement(Exception):
    """Two ways do not do the same, so that their times cannot be compared."""


def same_answers(found: list[Any]) -> str:
    """See that all sides wrote the same tokens.

    Args:
        found: Of each side the ids of each answer.

    Returns:
        How many answers that were.

    Raises:
        Disagreement: An answer differs.
    """
    for other in found[1:]:
        different = [at for at, (a, b) in enumerate(zip(found[0], other, strict=True)) if a != b]
        if different:
            at = different[0]
            raise Disagreement(
                f"{len(different)} of {len(other)} answers differ; that of row {at} is "
                f"{found[0][at]} and {other[at]}."
            )
    return f"{len(found[0])} answers equal"


def same_losses(found: list[Any]) -> str:
    """See that all sides' losses are the same: to 1e-6 in sum, to 1e-5 in each row.

    A row of few tokens has little to even out what float32 rounds.

    Args:
        found: Of each side a loss in nats per row.

    Returns:
        The largest relative difference of the sums.

    Raises:
        Disagreement: A larger one than that.
    """
    sums = [math.fsum(losses) for losses in found]
    worst = max(abs(other - sums[0]) / sums[0] for other in sums[1:])
    rows = max(
        abs(a - b) / max(1.0, abs(a))
        for other in found[1:]
        for a, b in zip(found[0], other, strict=True)
    )
    if worst > 1e-6 or rows > 1e-5:
        raise Disagreement(
            f"losses differ by {worst:.1e} in sum and up to {rows:.1e} in a row; expected at most "
            "1e-6 and 1e-5."
        )
    return f"losses equal to {worst:.0e}"


def as_low_a_loss(found: list[Any]) -> str:
    """See that the last side's model is as good as the first one's.

    Args:
        found: Of each side the held-out loss in nats a token.

    Returns:
        The losses.

    Raises:
        Disagreement: The last one is over 2 % higher: it learned less.
    """
    if found[-1] > found[0] * 1.02:
        raise Disagreement(
            f"held-out losses are {found}; the last may be at most 2 % over the first."
        )
    return "held-out loss " + " / ".join(f"{each:.3f}" for each in found)


def same_weights(found: list[Any]) -> str:
    """See that all sides wrote the same weights.

    Args:
        found: Of each side the digest of each weight by name.

    Returns:
        How many weights that were.

    Raises:
        Disagreement: A weight differs or is missing.
    """
    for other in found[1:]:
        names = found[0].keys() | other.keys()
        different = sorted(name for name in names if found[0].get(name) != other.get(name))
        if different:
            raise Disagreement(f"{len(different)} weights differ, the first: {different[0]}.")
    return f"{len(found[0])} weights equal bit for bit"
