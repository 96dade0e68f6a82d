"""What a recipe may say of metrics of text, and where it is told what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from retune.errors import ConfigError
from retune.inputs import locate_inputs
from retune.recipe.loading import load_recipe
from tests.tiny_models import REPOSITORY

RECIPES = REPOSITORY / "conf" / "recipes"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("[{folder: a, hub: x/y}]", "text_metrics[0].folder: expected either folder or hub"),
        ("[chrf, {hub: x/wer}]", "text_metrics[1].revision: is null, but x/wer may change"),
        ("[{folder: my-metric}]", "text_metrics[0].folder: my-metric is no name of a Python"),
        ("[chrf, chrf]", "text_metrics: names chrf twice"),
        ("[rouge]", "text_metrics[0]: found the text 'rouge', expected one of exact_match"),
    ],
)
def test_a_wrong_metric_is_told_at_its_own_place(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(f"scoring.text_metrics={setting}")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["gate.metric=own_metric.house"], "does not ask for it (it names chrf, token_f1"),
        (["scoring.text_metrics=[{folder: conf/probes}, chrf]"], "has no probes.py"),
    ],
)
def test_a_metric_that_is_not_there_is_refused_with_the_files(
    overrides: list[str], said: str
) -> None:
    """Before rows are read, by `retune check` as by a run."""
    with pytest.raises(ConfigError, match=re.escape(said)):
        locate_inputs(
            load_recipe(RECIPES / "portuguese_instructions.yaml", ["variant=tiny", *overrides])
        )


def test_rows_without_free_text_have_no_such_metric() -> None:
    """The demo's rows are queries, which execution match judges."""
    recipe = RECIPES / "text_to_sql_demo.yaml"
    with pytest.raises(ConfigError, match=r"has any \(found: text_to_sql\)"):
        locate_inputs(load_recipe(recipe, ["scoring.text_metrics=[chrf]"]))


def load(override: str, recipe: Path = RECIPES / "portuguese_instructions.yaml") -> None:
    load_recipe(recipe, ["variant=tiny", override])
