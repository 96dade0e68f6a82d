"""What a sweep varies: how it is written, and what is refused."""

from __future__ import annotations

import pytest

from retune.errors import ConfigError
from retune.trials.space import (
    Choice,
    Range,
    plan_grid,
    probe_points,
    read_axes,
    read_choice,
    read_range,
    write_number,
)


def test_commas_inside_brackets_belong_to_a_value() -> None:
    """A list of modules is one value, and so is a quoted text with a comma."""
    assert read_choice("method.target_modules=all-linear,[q_proj, v_proj],'a,b'").values == (
        "all-linear",
        "[q_proj, v_proj]",
        "'a,b'",
    )


def test_a_value_that_is_written_twice_counts_once() -> None:
    """4 stands twice: two points are left."""
    assert read_choice("method.r=4,8,4") == Choice(path="method.r", values=("4", "8"))


def test_a_grid_is_every_combination_the_last_axis_fastest() -> None:
    """2 x 2 points, each with the shared overrides before its own."""
    axes = read_axes(["method.r=4,8", "training.learning_rate=1e-3,1e-2"], [])
    trials = plan_grid(axes, ["seed=1"])
    assert [trial.name for trial in trials] == [
        "r=4 learning_rate=1e-3",
        "r=4 learning_rate=1e-2",
        "r=8 learning_rate=1e-3",
        "r=8 learning_rate=1e-2",
    ]
    assert trials[1].overrides == ("seed=1", "method.r=4", "training.learning_rate=1e-2")


def test_settings_with_one_last_name_are_named_in_full() -> None:
    """`batch_size` stands in two sections."""
    axes = read_axes(["training.batch_size=1,2", "scoring.runtime.batch_size=3"], [])
    assert plan_grid(axes)[0].name == "training.batch_size=1 scoring.runtime.batch_size=3"


def test_a_range_of_whole_numbers_stays_whole() -> None:
    """4..64 draws ranks; 4.0..64 draws numbers."""
    assert read_range("method.r=4..64:log") == Range(
        path="method.r", low=4, high=64, log=True, whole=True
    )
    assert not read_range("method.r=4.0..64").whole


def test_numbers_are_written_so_that_a_recipe_reads_them() -> None:
    """Four digits; a rank is no 8.0."""
    rate = read_range("training.learning_rate=1e-4..1e-2:log")
    assert write_number(rate, 0.000123456) == "0.0001235"
    assert write_number(read_range("method.r=4..64"), 8.0) == "8"


def test_a_search_is_probed_at_its_ends() -> None:
    """Three values beside two ends: three points hold all of them."""
    axes = read_axes(["method.r=4,8,16"], ["training.learning_rate=0.001..0.01"])
    assert [trial.overrides for trial in probe_points(axes, [])] == [
        ("method.r=4", "training.learning_rate=0.001"),
        ("method.r=8", "training.learning_rate=0.01"),
        ("method.r=16", "training.learning_rate=0.01"),
    ]


@pytest.mark.parametrize(
    ("grid", "ranges", "told"),
    [
        ([], [], "Nothing to vary"),
        (["method.r"], [], "expected a setting and its values"),
        (["method.r="], [], "expected a setting and its values"),
        (["method.r=4,,8"], [], "a value is empty"),
        (["method.r=4,["], [], "broken YAML"),
        (["method.r=4,8", "method.r=16,32"], [], "method.r is varied twice"),
        ([], ["method.r=4"], "expected low..high"),
        ([], ["method.r=4..x"], "x is no number"),
        ([], ["method.r=8..4"], "the smaller end first"),
        ([], ["method.r=0..4:log"], "starts above 0"),
        ([], ["method.r=1..inf"], "the smaller end first"),
        ([], ["method.r=1..4:lin"], "expected low..high"),
    ],
)
def test_what_is_malformed_is_refused(grid: list[str], ranges: list[str], told: str) -> None:
    """The message says what is wrong and shows the form."""
    with pytest.raises(ConfigError, match=told):
        read_axes(grid, ranges)


def test_a_grid_of_one_point_compares_nothing() -> None:
    """One value for each of two settings is one point."""
    with pytest.raises(ConfigError, match="one point"):
        plan_grid(read_axes(["method.r=4", "seed=1"], []))


def test_a_huge_grid_is_refused_and_a_search_offered() -> None:
    """5 x 5 x 3 = 75 points, 64 are allowed."""
    grid = ["method.r=1,2,3,4,5", "method.alpha=1,2,3,4,5", "seed=1,2,3"]
    with pytest.raises(ConfigError, match=r"75 points; at most 64.*--search"):
        plan_grid(read_axes(grid, []))


def test_a_range_needs_a_search() -> None:
    """A range has no points of its own."""
    with pytest.raises(ConfigError, match="add --search"):
        plan_grid(read_axes([], ["method.r=4..8"]))


def test_a_search_of_one_point_is_refused() -> None:
    """It would train the same thing again and again."""
    with pytest.raises(ConfigError, match="The search has one point"):
        probe_points(read_axes(["method.r=4", "seed=1"], []), [])
