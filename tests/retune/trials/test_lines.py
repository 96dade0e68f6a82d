"""A trial as one line: the reports that it is compared by, and its figures for MLflow."""

from __future__ import annotations

import pytest

from retune.trials.lines import as_stage_line, list_figures, list_unscored
from tests.retune.trials.conftest import MakeResult
from tests.retune.trials.test_results import make_recipe


@pytest.mark.parametrize(
    ("gate", "probes"),
    [
        ({}, False),
        ({"min_probe_pass_rate": 0.5}, True),
        ({"metric": "probe_pass_rate"}, False),
        ({"metric": "probe_pass_rate", "min_probe_pass_rate": 0.5}, False),
    ],
)
def test_trials_are_probed_only_for_a_floor(gate: dict[str, object], probes: bool) -> None:
    """Where probes decide promotion their cases are not for choosing; others never decide."""
    recipe = make_recipe(gate=gate, probes={"file": "probes.yaml"})
    found = list_unscored(recipe)
    assert found == {"counterfactuals", "robustness"} | (set() if probes else {"probes"})


def test_figures_have_their_ends_and_what_is_unknown_is_left_out(make_result: MakeResult) -> None:
    """9 of 10 rows right: 0.9, from 0.7 to 1.0 as the fixture says; costs under `training.`."""
    figures = list_figures(make_result("a", [True] * 9 + [False], validation_loss=None))
    assert figures["sql_execution_match"] == 0.9
    assert figures["sql_execution_match.low"] == pytest.approx(0.7)
    assert figures["training.seconds"] == 36.0 and "training.device" not in figures
    assert "validation_loss" not in figures and figures["trainable_parameters"] == 1000.0


def test_the_line_of_a_trial_says_what_came_of_it(make_result: MakeResult) -> None:
    """The first figure and the loss of a finished one; else the first line of the reason."""
    line = as_stage_line(make_result("a", reused=True))
    assert line.state == "reused" and line.seconds == 36.0 and line.key == "key"
    assert line.reason.startswith("SQL execution match 100.0 %")
    assert line.reason.endswith("loss 1.2500")
    failed = make_result("b", state="failed", reason="no\nrows", scores=None, cost=None)
    assert as_stage_line(failed).reason == "failed: no"
