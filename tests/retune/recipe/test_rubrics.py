"""What a recipe may say of rubrics, and where it is told what is wrong."""

from __future__ import annotations

import re

import pytest

from retune.errors import ConfigError
from retune.inputs import locate_inputs
from retune.recipe.loading import load_recipe
from tests.tiny_models import REPOSITORY

RECIPE = REPOSITORY / "conf" / "recipes" / "portuguese_instructions.yaml"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("[{kind: jsn}]", "rubrics[0].kind: found the text 'jsn', expected one of json, regex,"),
        ("[json]", "rubrics[0].kind: found nothing (null), expected one of json, regex, length"),
        ("[{kind: regex, pattern: '(a'}]", "rubrics[0].pattern: is no regular expression"),
        ("[{kind: length}]", "rubrics[0].at_most: is null, and so is at_least"),
        ("[{kind: length, at_least: 3, at_most: 2}]", "rubrics[0].at_least: 3 is more than at"),
        (
            "[{kind: json, json_schema: {type: strin}}]",
            "rubrics[0].json_schema: is no JSON schema: at type, 'strin' is not valid",
        ),
        (
            "[{kind: json, json_schema: {pattern: '(a'}}]",
            "rubrics[0].json_schema: is no JSON schema: at pattern, '(a' is not a 'regex'",
        ),
        (
            "[{kind: json, json_schema: {$ref: 'http://127.0.0.1:9/a'}}]",
            "rubrics[0].json_schema: refers to http://127.0.0.1:9/a, which it does not hold",
        ),
        ("[{kind: json}, {kind: json}]", "rubrics: has json twice; give each a name of its own"),
    ],
)
def test_a_rubric_that_cannot_be_read_is_refused_at_its_place(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_recipe(RECIPE, ["variant=tiny", f"scoring.rubrics={setting}"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["scoring.rubrics=[{kind: language, languages: [xq]}]"],
            "scoring.rubrics[0].languages: xq cannot be recognised",
        ),
        (
            ['scoring.rubrics=[{kind: json},{kind: refusal, phrases: ["\\u200b"]}]'],
            "scoring.rubrics[1].phrases: ",
        ),
        (["gate.metric=rubric_json"], "nor does scoring.rubrics"),
    ],
)
def test_what_only_its_tools_can_tell_is_refused_with_the_files(
    overrides: list[str], said: str
) -> None:
    """Before rows are read, by `retune check` as by a run."""
    with pytest.raises(ConfigError, match=re.escape(said)):
        locate_inputs(load_recipe(RECIPE, ["variant=tiny", *overrides]))


def test_a_rubric_may_decide_and_guard() -> None:
    rules = "[{kind: json}, {kind: length, name: short, at_most: 9}]"
    gate = ["gate.metric=rubric_json", "gate.guards={rubric_short: 0.05}"]
    recipe = load_recipe(RECIPE, ["variant=tiny", f"scoring.rubrics={rules}", *gate]).recipe
    assert recipe.scoring.text_figures[-2:] == ("rubric_json", "rubric_short")
    assert recipe.gate.metric == "rubric_json"
