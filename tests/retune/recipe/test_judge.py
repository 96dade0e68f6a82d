"""The section on a judge: who it is, and what it may decide."""

from __future__ import annotations

import pytest

from retune.errors import ConfigError
from retune.recipe import load_recipe
from tests.retune.recipe.conftest import WriteRecipe

ANSWERS = "scoring:\n  text_metrics: [chrf]\n"
JUDGE = "judge:\n  endpoint: http://127.0.0.1:1/v1\n  model: judge\n"
HELD = "  human_verdicts: verdicts.jsonl\n"


def test_a_judge_that_was_held_against_people_may_decide(write_recipe: WriteRecipe) -> None:
    gate = "gate:\n  metric: judge_win_rate\n  guards: {judge_win_rate: 0.1}\n"
    recipe = load_recipe(write_recipe(ANSWERS + JUDGE + HELD + gate)).recipe
    assert recipe.judge is not None and recipe.judge.name == "judge"
    assert recipe.gate.metric == "judge_win_rate"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (JUDGE, "judge: compares answers in free text, which scoring.text_metrics has written"),
        (
            ANSWERS + JUDGE + "gate:\n  metric: judge_win_rate\n",
            "gate.metric: needs a judge that was held against people",
        ),
        (
            ANSWERS + JUDGE + "gate:\n  guards: {judge_win_rate: 0.1}\n",
            "gate.guards.judge_win_rate: needs a judge that was held against people",
        ),
        (
            "gate:\n  metric: judge_win_rate\n",
            "gate.metric: needs a judge, but",
        ),
        (ANSWERS + "judge:\n  model: judge\n", "expected either endpoint or local, found neither"),
        (ANSWERS + JUDGE + "  local: models/judge\n", "found both"),
        (ANSWERS + "judge:\n  endpoint: http://127.0.0.1:1/v1\n", "judge.model: is null"),
        (
            ANSWERS + "judge:\n  local: m\n  revision: a\n",
            "judge.revision: is a name at an",
        ),
        (
            ANSWERS + JUDGE + "  budget: {cost: 1.0}\n",
            "judge.budget.cost: is set, but",
        ),
        (ANSWERS + JUDGE.replace("//", "//me:secret@"), "looks like a secret"),
    ],
)
def test_what_could_not_be_judged_is_refused_as_the_recipe_is_read(
    write_recipe: WriteRecipe, more: str, said: str
) -> None:
    """With the line and the key, before a file is looked for."""
    with pytest.raises(ConfigError) as refused:
        load_recipe(write_recipe(more))
    assert said in refused.value.message
    assert "secret@" not in refused.value.message
