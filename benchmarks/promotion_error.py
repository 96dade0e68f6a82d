"""How often a sequence of retrainings promotes a model that is no better, and what it costs.

    python benchmarks/promotion_error.py --trials 1000

A sequence is `--retrains` challengers on one set of held-out rows. Each is compared with whoever is
champion then, by `paired_difference` and the gate's `refusal_of`, at the level that `find_budget`
takes from the ledger of the decisions before; the champion is replaced when the gate says so.

Whether a model answers a row is a threshold on a sum of normal parts, so that its true rate is
exact: what is hard about the row and about its group for every model, what is hard about the group
for this model (so that differences agree within a group, `--icc`), and the model's own luck on the
row, of which a challenger has a part in common with the champion at hand (`--kinship`). `true`
says how many points a challenger is better than the first champion, which answers half of all rows.
`mixed` draws it anew for each challenger.

False promotions: sequences with at least one promotion of a model that is no better than the
champion of that moment. Wrong rejections: the part of better challengers that was refused. Regret:
points of true rate, on average over the retrainings, that were missed against promoting every
challenger and against never promoting; below zero the gate did better.

The gate's whole rule decides each comparison. Most are refused by a part of it that is cheap: its
interval is never narrower than Agresti and Min's, so where that does not show a gain, nothing is
drawn. All is seeded: the same command prints the same figures.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retune.gate.deciding import refusal_of
from retune.recipe.sections import GateConfig
from retune.registry.records import LedgerEntry
from retune.release.spending import find_budget
from retune.score_records import Comparison
from retune.scoring.uncertainty.paired import agresti_min_interval, paired_difference
from retune.scoring.uncertainty.resampling import Floats

METRIC: Final = "accuracy"
ROWS = (100, 400, 1600)
TRUE = (-0.02, 0.0, 0.02, 0.05, 0.10)
MIXED = (-0.10, -0.05, -0.02, 0.0, 0.02, 0.05, 0.10)
ROWS_PER_GROUP = 5
_RIGHT = 0.5
_HARD_ROW, _HARD_GROUP = 0.3, 0.15  # shares of the variance that all models have in common

Right = NDArray[np.bool_]
Rule = Callable[[Sequence[LedgerEntry], GateConfig], float]
"""Takes the ledger and the gate, and gives the level of the next decision."""


class World(NamedTuple):
    """What is simulated.

    Attributes:
        rows: Held-out rows.
        gains: How much better than the first champion a challenger is; one is drawn each time.
        retrains: Challengers of a sequence.
        icc: Share of the variance that a model has for itself in each group.
        kinship: Part of its own luck that a challenger shares with the champion at hand.
    """

    rows: int
    gains: tuple[float, ...]
    retrains: int = 20
    icc: float = 0.1
    kinship: float = 0.2


class Model(NamedTuple):
    """A model: its true gain on the first champion, its own luck and what it answers right."""

    gain: float
    luck: Floats
    right: Right


class Outcome(NamedTuple):
    """What became of sequences, added up.

    Attributes:
        false_promotions: 1 where a model that is no better was promoted.
        better: Challengers that were better than the champion.
        refused: How many of these were refused.
        served: True gain of the champion after each decision, on average.
        always: The same where every challenger is promoted.
    """

    false_promotions: float
    better: float
    refused: float
    served: float
    always: float


def spend(entries: Sequence[LedgerEntry], gate: GateConfig) -> float:
    """Return the level that the product gives the next decision."""
    return find_budget(entries, gate, rows=1, shared={}).alpha


RULES: dict[str, Rule] = {
    "gate.error spent": spend,
    "equal parts, both sides": lambda _, gate: gate.error / gate.decisions_per_test_set,
    "each at 5 %": lambda _entries, _gate: 0.05,
}


def simulate(world: World, generator: np.random.Generator, rule: Rule, resamples: int) -> Outcome:
    """Retrain again and again on one set of held-out rows.

    Args:
        world: What is simulated.
        generator: Where chance comes from.
        rule: Gives the level of each decision.
        resamples: Bootstrap draws at the level 0.05.

    Returns:
        What became of it.
    """
    gate = GateConfig(metric=METRIC, decisions_per_test_set=world.retrains)
    numbers = np.arange(world.rows) // ROWS_PER_GROUP
    hard = math.sqrt(_HARD_ROW) * generator.normal(size=world.rows)
    hard += math.sqrt(_HARD_GROUP) * generator.normal(size=world.rows)[numbers]
    champion = _draw_model(world, hard, numbers, 0.0, None, generator)
    entries: list[LedgerEntry] = []
    wrong = better = refused = served = always = 0.0
    for gain in generator.choice(world.gains, world.retrains):
        challenger = _draw_model(world, hard, numbers, float(gain), champion, generator)
        alpha = rule(entries, gate)
        promote = alpha > 0 and passes(challenger.right, champion.right, alpha, gate, resamples)
        is_better = challenger.gain > champion.gain
        better += is_better
        refused += is_better and not promote
        wrong += promote and not is_better
        entries.append(_enter(len(entries) + 1, alpha, promote))
        champion = challenger if promote else champion
        served += champion.gain / world.retrains
        always += challenger.gain / world.retrains
    return Outcome(float(wrong > 0), better, refused, served, always)


def passes(
    challenger: Right, champion: Right, alpha: float, gate: GateConfig, resamples: int
) -> bool:
    """Decide as the gate does.

    Args:
        challenger: Which rows it answers right.
        champion: The same of the champion.
        alpha: Level of the decision.
        gate: What has to be shown.
        resamples: Bootstrap draws at the level 0.05.
    """
    wins, losses = int((challenger & ~champion).sum()), int((champion & ~challenger).sum())
    if agresti_min_interval(wins, losses, len(challenger), alpha)[0] <= gate.min_gain:
        return False  # the gate's interval is this one or a wider one
    found = paired_difference(
        challenger,
        champion,
        direction="higher_is_better",
        groups=[f"g{at // ROWS_PER_GROUP}" for at in range(len(challenger))],
        resamples=resamples,
        alpha=alpha,
    )
    comparison = Comparison(metric=METRIC, against="champion", **found.model_dump())
    return refusal_of(comparison, gate) is None


def run_sequences(
    world: World, rule: Rule, trials: int, resamples: int, seed: int
) -> tuple[Outcome, int]:
    """Simulate many sequences.

    Args:
        world: What is simulated.
        rule: Gives the level of each decision.
        trials: How many sequences.
        resamples: Bootstrap draws at the level 0.05.
        seed: Of all chance; the same for every rule.

    Returns:
        The sums over all of them, and how many there were.
    """
    where = [seed, world.rows, *(round(1000 * (1 + gain)) for gain in world.gains)]
    generator = np.random.default_rng(where)
    found = [simulate(world, generator, rule, resamples) for _ in range(trials)]
    return Outcome(*(math.fsum(each) for each in zip(*found, strict=True))), trials


def _draw_model(
    world: World,
    hard: Floats,
    numbers: NDArray[np.int64],
    gain: float,
    champion: Model | None,
    generator: np.random.Generator,
) -> Model:
    own = 1 - _HARD_ROW - _HARD_GROUP
    luck = math.sqrt(world.icc) * generator.normal(size=len(hard))[numbers]
    luck += math.sqrt(own - world.icc) * generator.normal(size=len(hard))
    if champion is not None:
        luck = math.sqrt(world.kinship) * champion.luck + math.sqrt(1 - world.kinship) * luck
    # Both parts are normal and their variances add up to 1: the true rate is exact.
    return Model(gain, luck, hard + luck < NormalDist().inv_cdf(_RIGHT + gain))


def _enter(number: int, alpha: float, promote: bool) -> LedgerEntry:
    return LedgerEntry(
        number=number,
        at="",
        kind="promoted" if promote else "rejected",
        model_name="simulated",
        actor="gate",
        to_version=number if promote else None,
        version=number,
        challenger=str(number),
        test_rows="rows",
        alpha=alpha,
        reason="",
    )


def _show(outcome: Outcome, trials: int) -> str:
    wrong = f"{100 * outcome.refused / outcome.better:.1f} %" if outcome.better else "none better"
    against = [100 * (each - outcome.served) / trials for each in (outcome.always, 0.0)]
    return (
        f"{100 * outcome.false_promotions / trials:>8.1f} %{wrong:>14}"
        f"{against[0]:>12.2f}{against[1]:>12.2f}"
    )


def _name(gains: tuple[float, ...]) -> str:
    return f"{100 * gains[0]:+.0f}" if len(gains) == 1 else "mixed"


_HEADS = f"{'false':>10}{'wrong':>14}{'regret to':>12}{'regret to':>12}"
_UNDER = f"{'promotions':>10}{'rejections':>14}{'always':>12}{'never':>12}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--table", choices=("rows", "rules"), help="both when left out")
    parser.add_argument("--trials", type=int, default=1000, help="sequences of each line")
    parser.add_argument("--retrains", type=int, default=20)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--icc", type=float, default=0.1)
    parser.add_argument("--kinship", type=float, default=0.2)
    parser.add_argument("--resamples", type=int, default=1000, help="at level 0.05")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    print(f"{given.trials} sequences of {given.retrains} retrainings, in points of the true rate")
    every = [*((gain,) for gain in TRUE), MIXED]

    def show(start: str, rows: int, gains: tuple[float, ...], rule: Rule) -> None:
        world = World(rows, gains, given.retrains, given.icc, given.kinship)
        found = run_sequences(world, rule, given.trials, given.resamples, given.seed)
        print(start + _show(*found), flush=True)

    if given.table in (None, "rows"):
        print(f"\n{'rows':>6}{'true':>8}{_HEADS}\n{'':>14}{_UNDER}")
        for rows in given.rows:
            for gains in every:
                show(f"{rows:>6}{_name(gains):>8}", rows, gains, spend)
    if given.table in (None, "rules"):
        middle = sorted(given.rows)[len(given.rows) // 2]
        print(f"\nOther rules, on {middle} rows\n\n{'':<24}{'true':>8}{_HEADS}\n{'':<32}{_UNDER}")
        for name, rule in RULES.items():
            for gains in ((0.0,), (0.05,), MIXED):
                show(f"{name:<24}{_name(gains):>8}", middle, gains, rule)


if __name__ == "__main__":
    main()
