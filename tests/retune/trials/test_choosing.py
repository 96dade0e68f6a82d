"""What trials are chosen by: never what the gate decides on."""

from __future__ import annotations

import pytest

from retune.errors import DataError
from retune.recipe.sections import GateConfig
from retune.records import ChatRef
from retune.trials.choosing import choosing_gate, refuse_no_validation


@pytest.mark.parametrize(
    ("metric", "chosen"),
    [
        ("sql_exact_match", "sql_exact_match"),
        ("probe_pass_rate", None),
        ("judge_win_rate", None),
        (None, None),
    ],
)
def test_a_figure_over_cases_or_pairs_of_models_chooses_no_trial(
    metric: str | None, chosen: str | None
) -> None:
    """There are no validation cases, and trials have no opponent; None lets the rows name it."""
    assert choosing_gate(GateConfig.model_validate({"metric": metric})).metric == chosen


def test_without_validation_rows_nothing_can_be_chosen() -> None:
    """The message says how to have some; one row is enough to go on."""
    some = ChatRef.model_construct(train=10, validation=1, test=4)
    refuse_no_validation(some)
    with pytest.raises(DataError, match=r"10 training rows, 4 test rows .*validation_fraction"):
        refuse_no_validation(ChatRef.model_construct(train=10, validation=0, test=4))
