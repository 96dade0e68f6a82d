"""How often equal models are promoted, and better ones, by the number of groups; seeded."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARK = Path(__file__).parents[4] / "benchmarks" / "false_promotions.py"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("false_promotions", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("figure", ["accuracy", "perplexity", "macro_f1"])
@pytest.mark.parametrize(("groups", "most"), [(2, 0), (3, 0), (5, 0), (8, 5), (20, 5)])
def test_equal_models_are_rarely_promoted(
    simulation: ModuleType, figure: str, groups: int, most: int
) -> None:
    """Of 60 comparisons of equal models 1.5 are expected beyond the upper end, 2.5 %.

    The chance of more than 5 of them, P(Binomial(60, 0.025) > 5) = 0.3 %, is spent by the seed.
    Compared row by row, the same 8 groups give 8 to 10 of 60, and 2 groups 4 to 8.
    """
    world = simulation.World(figure, groups, icc=0.3)
    rate = simulation.promotion_rate(world, 0.0, trials=60, resamples=200, seed=7)
    assert round(60 * rate) <= most


@pytest.mark.parametrize("figure", ["accuracy", "perplexity", "macro_f1"])
def test_a_clear_gain_is_promoted(simulation: ModuleType, figure: str) -> None:
    """134 databases and 47 points (or half a nat) are never in doubt; 20 neither."""
    for groups in (20, 134):
        world = simulation.World(figure, groups, icc=0.3, gain=0.47)
        assert simulation.promotion_rate(world, 0.0, trials=10, resamples=200, seed=7) == 1.0


def test_a_loss_as_large_as_accepted_is_rarely_promoted(simulation: ModuleType) -> None:
    """With min_gain at the true loss, under six groups never, and above in 2.5 % of cases."""
    for groups, most in ((5, 0), (8, 5)):
        world = simulation.World("accuracy", groups, icc=0.3, uneven=True, gain=-0.1)
        rate = simulation.promotion_rate(world, -0.1, trials=60, resamples=200, seed=7)
        assert round(60 * rate) <= most
