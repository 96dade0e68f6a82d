"""How often the gate promotes a model that is no better, and how often one that is.

    python benchmarks/false_promotions.py --trials 400

Held-out rows fall into groups (databases, documents). Each of two models has an effect of its own
in each group, so that rows of one group agree; `icc` is the share of the latent variance that lies
between groups. Figures: yes/no outcomes, perplexity, macro F1 over three labels.

The first table has equal models: every promotion is false, and 5 % are allowed. The second has
models whose loss is exactly what `gate.min_gain` accepts (a tenth, and for perplexity a tenth of a
nat): every promotion is false again. The third has models that are better. Groups are of one size,
or (`uneven`) each holds a share of the rows that is drawn anew, so that one can hold most of them.
All is seeded: the same command prints the same figures.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import numpy as np

from retune.gate.deciding import refusal_of
from retune.recipe.sections import GateConfig
from retune.score_records import Comparison, PairedDifference
from retune.scoring.classification.counts import macro_f1, tabulate_counts
from retune.scoring.figures import figure_of
from retune.scoring.uncertainty.paired import paired_difference
from retune.scoring.uncertainty.resampling import Floats, exp_of_ratio

FIGURES = ("accuracy", "perplexity", "macro_f1")
GROUPS = (2, 3, 5, 8, 20, 134)
ICCS = (0.0, 0.1, 0.3)
LABELS = 3
_ROWS_PER_GROUP = 12
_LATENT_VARIANCE = math.pi**2 / 3  # of the logistic distribution, that of a row in its group
_TOKENS = 20


class World(NamedTuple):
    """What is simulated.

    Attributes:
        figure: The gate's metric.
        groups: How many groups the rows fall into.
        icc: Share of the latent variance between groups.
        uneven: Whether groups are of unlike sizes.
        gain: Expected gain of the challenger: a share of right rows, or nats per token.
    """

    figure: str
    groups: int
    icc: float
    uneven: bool = False
    gain: float = 0.0


def simulate(
    world: World, generator: np.random.Generator, resamples: int, *, against_margin: bool = False
) -> PairedDifference:
    """Draw two models' outcomes on the same rows and compare them as the gate does.

    Args:
        world: What is simulated.
        generator: Where chance comes from.
        resamples: Bootstrap draws.
        against_margin: Whether the gate accepts a loss, so that the interval alone decides; of
            macro F1 that changes next to nothing here.

    Returns:
        Challenger minus opponent.
    """
    numbers = _draw_groups(world, generator)
    names = [f"g{number}" for number in numbers]
    if world.figure == "perplexity":
        sides = [_draw_losses(world, numbers, generator, gain) for gain in (world.gain, 0.0)]
        return paired_difference(
            sides[0],
            sides[1],
            direction="lower_is_better",
            statistic=exp_of_ratio,
            groups=names,
            resamples=resamples,
        )
    rights = [_draw_right(world, numbers, generator, gain) for gain in (world.gain, 0.0)]
    if world.figure == "accuracy":
        return paired_difference(
            rights[0],
            rights[1],
            direction="higher_is_better",
            groups=names,
            resamples=resamples,
            against_margin=against_margin,
        )
    golds = generator.integers(0, LABELS, len(numbers))
    others = (golds + generator.integers(1, LABELS, (2, len(numbers)))) % LABELS
    counts = [
        tabulate_counts(golds, np.where(right, golds, other), LABELS)
        for right, other in zip(rights, others, strict=True)
    ]
    return paired_difference(
        counts[0],
        counts[1],
        direction="higher_is_better",
        statistic=macro_f1,
        groups=names,
        resamples=resamples,
        limits=(-1.0, 1.0),
    )


def promotion_rate(world: World, min_gain: float, trials: int, resamples: int, seed: int) -> float:
    """Return the share of simulated comparisons that the gate accepts.

    Args:
        world: What is simulated.
        min_gain: The gate's `min_gain`.
        trials: How often.
        resamples: Bootstrap draws.
        seed: Of all chance.

    Returns:
        Between 0 and 1.
    """
    where = [seed, *world.figure.encode(), world.groups, round(100 * world.icc), int(world.uneven)]
    generator = np.random.default_rng(where)
    gate = GateConfig.model_validate({"metric": world.figure, "min_gain": min_gain})
    promoted = 0
    for _ in range(trials):
        found = simulate(world, generator, resamples, against_margin=min_gain < 0)
        comparison = Comparison(metric=world.figure, against="base", **found.model_dump())
        promoted += refusal_of(comparison, gate) is None
    return promoted / trials


def _draw_groups(world: World, generator: np.random.Generator) -> np.ndarray:
    if not world.uneven:
        return np.repeat(np.arange(world.groups), _ROWS_PER_GROUP)
    rows = world.groups * _ROWS_PER_GROUP
    shares = generator.dirichlet(np.full(world.groups, 0.5))
    # Each group has a row, or there would be fewer groups than it says.
    drawn = generator.choice(world.groups, size=rows - world.groups, p=shares)
    return np.concatenate([np.arange(world.groups), drawn])


def _draw_effects(world: World, numbers: np.ndarray, generator: np.random.Generator) -> Floats:
    """Draw one model's effect of each row's group, on the latent scale."""
    spread = math.sqrt(_LATENT_VARIANCE * world.icc / (1 - world.icc))
    return np.asarray(generator.normal(0.0, spread, world.groups)[numbers], dtype=np.float64)


def _draw_right(
    world: World, numbers: np.ndarray, generator: np.random.Generator, gain: float
) -> np.ndarray:
    """Draw whether each row is right: a half on average, and a half and the gain."""
    effects = _draw_effects(world, numbers, generator)
    usual = 1 / (1 + np.exp(-effects))
    # A gain is a share of rows that are right in any case, a loss one that is wrong in any case.
    sure = generator.random(len(numbers)) < 2 * abs(gain)
    return np.where(sure, gain > 0, generator.random(len(numbers)) < usual)


def _draw_losses(
    world: World, numbers: np.ndarray, generator: np.random.Generator, gain: float
) -> Floats:
    effects = _draw_effects(world, numbers, generator)
    rows = generator.logistic(0.0, 1.0, len(numbers))
    nats = 3.0 - gain + 0.1 * (effects + rows)
    return np.column_stack([_TOKENS * nats, np.full(len(numbers), float(_TOKENS))])


def _margin(world: World) -> float:
    """Return what a loss of a tenth is in the figure's unit."""
    if not figure_of(world.figure).lower_is_better:
        return abs(world.gain)
    return math.exp(3.0 - world.gain) - math.exp(3.0)


def _print_table(
    title: str, gain: float, arguments: argparse.Namespace, *, accepts_loss: bool = False
) -> None:
    print(f"\n{title}\n")
    print(f"{'figure':<12}{'icc':>5}{'sizes':>9}" + "".join(f"{n:>8}" for n in arguments.groups))
    for figure in FIGURES:
        for icc in ICCS:
            for uneven in (False, True):
                cells = []
                for groups in arguments.groups:
                    world = World(figure, groups, icc, uneven, gain)
                    least = -_margin(world) if accepts_loss else 0.0
                    rate = promotion_rate(
                        world, least, arguments.trials, arguments.resamples, arguments.seed
                    )
                    cells.append(f"{100 * rate:>6.1f} %")
                sizes = "uneven" if uneven else "equal"
                print(f"{figure:<12}{icc:>5.1f}{sizes:>9}" + "".join(cells), flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--table", choices=("equal", "loss", "gain"), help="all when left out")
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--groups", type=int, nargs="+", default=GROUPS)
    arguments = parser.parse_args()
    print(f"Promotions in {arguments.trials} simulations, by number of groups")
    if arguments.table in (None, "equal"):
        _print_table("Equal models (all are false)", 0.0, arguments)
    if arguments.table in (None, "loss"):
        title = "A loss as large as min_gain accepts (all are false)"
        _print_table(title, -0.1, arguments, accepts_loss=True)
    if arguments.table in (None, "gain"):
        _print_table("A gain of a tenth", 0.1, arguments)
        _print_table("A gain of 0.47", 0.47, arguments)


if __name__ == "__main__":
    main()
