"""The table of figures: it agrees with the recipe, and says what is asked of it."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from retune.recipe.sections import WatchedFigure
from retune.recipe.sections.release import Metric
from retune.scoring.figures import FIGURES, WATCHED, figure_of, figure_that_decides
from retune.scoring.stages import WatchSettings


def test_a_recipe_may_name_every_figure_that_may_decide() -> None:
    """The choices of gate.metric stand in the recipe's schema, and are those of the table."""
    assert set(get_args(Metric)) == {each.name for each in FIGURES.values() if each.may_decide}


def test_a_recipe_may_name_every_figure_that_may_be_watched() -> None:
    """The same of training.watch, beside the loss, which is no figure of a report."""
    assert set(get_args(WatchedFigure)) == {"loss", *(each.name for each in WATCHED)}


def test_what_a_watched_figure_reads_is_a_setting_that_trainings_are_given() -> None:
    """And each is read for some figure; the size of batches and devices change none."""
    read = {name for each in WATCHED for name in each.watch_reads}
    assert read == WatchSettings.model_fields.keys() - {"batch_size", "devices"}


@pytest.mark.parametrize(
    ("formats", "expected"),
    [
        ({"text_to_sql", "text_label"}, "sql_execution_match"),
        ({"text_label"}, "macro_f1"),
        (set(), "perplexity"),
    ],
)
def test_the_kind_of_rows_says_which_figure_decides(formats: set[str], expected: str) -> None:
    """As gate.metric says of null: SQL before labels, and perplexity where there is neither."""
    found = figure_that_decides(lambda each: each.rows is None or each.rows in formats)
    assert found == expected


def test_what_decides_may_be_named_and_is_compared() -> None:
    """The gate decides by the paired difference, so that there has to be one."""
    for each in FIGURES.values():
        assert each.may_decide or not each.decides_unasked, each.name
        assert each.over or not each.may_decide, each.name


def test_a_figure_without_an_entry_is_a_rate_of_which_more_is_better() -> None:
    found = figure_of("rows_read")
    assert (found.label, found.unit, found.lower_is_better) == ("Rows read", "rate", False)


def test_the_table_can_be_read_without_what_computes_figures() -> None:
    """Flows and the command line read it, and shall not wait for numpy or torch."""
    code = "import sys, retune.scoring.figures; print(sorted({'numpy', 'torch'} & {*sys.modules}))"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "[]"
