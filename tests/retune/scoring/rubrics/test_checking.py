"""What each rubric says of an answer, and that no answer holds up the others."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from retune.recipe.sections.rubrics import RubricConfig, figure_name
from retune.scoring.rubrics import checking
from retune.scoring.rubrics.checking import RubricChecker, Verdict, Written

PROMPT = "[1] Tea is sold in  Lisbon.\n[2] Coffee is sold in Porto.\nWhat is sold in Porto?"
PORTUGUESE = "O café é vendido nas lojas do centro histórico da cidade do Porto."
SCHEMA = {
    "type": "object",
    "required": ["n"],
    "properties": {"n": {"$ref": "#/$defs/count"}},
    "$defs": {"count": {"type": "integer", "minimum": 1}},
}
CATASTROPHIC = {"kind": "regex", "pattern": "(a|aa)+$"}


def make(**rule: Any) -> RubricConfig:
    found: RubricConfig = TypeAdapter(RubricConfig).validate_python(rule)
    return found


def check(text: str, **rule: Any) -> Verdict:
    rubric = make(**rule)
    with RubricChecker([rubric]) as checker:
        return checker.check(Written(text, PROMPT))[figure_name(rubric)]


JSON = {"kind": "json"}
FENCED = '```json\n{"n": 2}\n```'


@pytest.mark.parametrize(
    ("rule", "text", "passed", "reason"),
    [
        (JSON, ' {"n": 1}\n', True, ""),
        (JSON, '{"n": 1', False, "no JSON: Expecting"),
        (JSON, '{"n": NaN}', False, "no JSON: NaN is none"),
        (JSON, '{"n": 1, "n": 2}', False, "no JSON: an object has a key twice"),
        (JSON, "[" * 100_000, False, "no JSON: nested too deeply"),
        (JSON, FENCED, False, "no JSON"),
        (JSON | {"in_fence": True}, FENCED, True, ""),
        (JSON | {"json_schema": SCHEMA}, '{"n": 1}', True, ""),
        (JSON | {"json_schema": SCHEMA}, '{"n": 0}', False, "unlike the schema at n: 0 is less"),
        (JSON | {"json_schema": SCHEMA}, "{}", False, "unlike the schema at its top: 'n' is a req"),
        ({"kind": "regex", "pattern": r"\d+"}, "costs 12", True, ""),
        ({"kind": "regex", "pattern": r"\d+", "whole": True}, "costs 12", False, "does not match"),
        ({"kind": "regex", "pattern": r"\d+", "wanted": False}, "costs 12", False, "has '12'"),
        ({"kind": "length", "at_least": 2, "at_most": 3}, "um  dois três", True, ""),
        ({"kind": "length", "at_most": 2}, "um dois três", False, "3 words"),
        ({"kind": "length", "unit": "characters", "at_least": 5}, " olá! ", False, "4 characters"),
        ({"kind": "language", "languages": ["pt"]}, PORTUGUESE, True, ""),
        ({"kind": "language", "languages": ["en", "es"]}, PORTUGUESE, False, "pt"),
        ({"kind": "language", "languages": ["pt"]}, "Não sei.", None, "undetermined"),
        ({"kind": "language", "languages": ["pt"]}, " ", False, "nothing written"),
        ({"kind": "refusal"}, "Coffee, of course.", True, ""),
        ({"kind": "refusal"}, "I’m sorry, I can’t help with that.", False, "I can't help"),
        ({"kind": "refusal", "wanted": True}, "Coffee.", False, "no refusal"),
        ({"kind": "refusal", "phrases": ["nem pensar"]}, "Nem pensar!", False, "nem pensar"),
        ({"kind": "refusal"}, "x" * 300 + " I can't help", True, ""),
        ({"kind": "python"}, "```python\nprint('x')\n```", True, ""),
        ({"kind": "python", "in_fence": False}, "```python\nprint('x')\n```", False, "line 1"),
        ({"kind": "python"}, "def f(:\n  pass", False, "line 1: invalid syntax"),
        ({"kind": "python"}, "raise SystemExit", True, ""),
        ({"kind": "citations"}, "Coffee [2].", True, ""),
        ({"kind": "citations"}, "Coffee [2], tea [3].", False, "[3] is not in the prompt"),
        ({"kind": "citations"}, "“tea is sold in Lisbon,” they say", True, ""),
        ({"kind": "citations"}, '"Tea is sold in Porto"', False, "Tea is sold in Porto is not"),
        ({"kind": "citations"}, 'The "tea" shop', False, "cites nothing"),
        ({"kind": "citations", "required": False}, "Coffee.", True, ""),
        ({"kind": "citations", "of": "quotes", "required": False}, "Tea [9].", True, ""),
    ],
)
def test_an_answer_keeps_to_a_rule_or_is_told_why_not(
    rule: dict[str, Any], text: str, passed: bool | None, reason: str
) -> None:
    found = check(text, **rule)
    assert found.passed is passed
    assert found.reason.startswith(reason) and bool(found.reason) == bool(reason)


def test_a_pattern_that_never_ends_leaves_its_row_unscored_and_the_next_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 60 letters it has more ways than could ever be tried; the process is killed and anew."""
    monkeypatch.setattr(checking, "SECONDS", 0.1)
    monkeypatch.setattr(checking, "MOST_LATE", 2)
    endless, other = make(**CATASTROPHIC), make(kind="regex", name="other", pattern="b")
    with RubricChecker([endless, other]) as checker:
        texts = ["a" * 60 + "b", "aa", *["a" * 60 + "b"] * 2]
        found = [checker.check(Written(text, "")) for text in texts]
    assert [each["rubric_regex"] for each in found] == [
        Verdict(None, "timeout"),
        Verdict(True),
        Verdict(None, "timeout"),
        Verdict(None, "given_up"),
    ]
    assert [each["rubric_other"].passed for each in found] == [True, False, True, True]


def test_a_text_that_the_compiler_dies_of_is_unscored_and_the_next_judged() -> None:
    """Or refused by it, as versions of Python differ; never a row that ends the stage."""
    rubric = make(kind="python")
    with RubricChecker([rubric]) as checker:
        deep = checker.check(Written("-" * 1_000_000 + "1", ""))["rubric_python"]
        assert deep.passed is not True
        assert checker.check(Written("x = 1", ""))["rubric_python"] == Verdict(True)
