"""A judge over HTTP that is busy, broken, slow or closed to us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from retune.errors import ConfigError, RetuneError, ServiceError
from retune.recipe.sections.judge import JudgeBudget, JudgePrices, JudgeRuntime
from retune.scoring.judge.endpoint import KEY_VARIABLE, EndpointJudge
from retune.scoring.judge.kept_answers import Said
from retune.scoring.judge.spending import Purse
from retune.scoring.judge.wording import Pair, Wording, locate_wording
from tests.judge_stand_in import READ, WRITTEN, StandInJudge, always_first

KEY = "a-key-of-this-test"
QUESTIONS = [
    Wording(locate_wording(None, "en"), "en", None).ask(Pair(f"{at}?", "yes", "no"))
    for at in range(4)
]


class Asked:
    """One judging: what it waited, and what it was told."""

    def __init__(
        self,
        judge: StandInJudge,
        *,
        budget: dict[str, Any] | None = None,
        prices: JudgePrices | None = None,
        **runtime: Any,
    ) -> None:
        self.waits: list[float] = []
        self.said: dict[int, Said] = {}
        self.purse = Purse(JudgeBudget(**(budget or {})), prices)
        self._judge = EndpointJudge(
            judge.address,
            "judge",
            max_new_tokens=20,
            runtime=JudgeRuntime(**{"concurrency": 1, "attempts": 3} | runtime),
            purse=self.purse,
            sleep=self.waits.append,
        )

    def answer(self) -> list[Said]:
        self._judge.answer(QUESTIONS, self.said.__setitem__)
        return [self.said[at] for at in range(len(QUESTIONS))]


Ask = Callable[..., Asked]


@pytest.fixture
def ask(judge: StandInJudge, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Make a judging of a judge that says [[A]] to all, with a key in the environment."""
    judge.rule = always_first
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    return lambda **settings: Asked(judge, **settings)


def test_it_is_asked_at_temperature_zero_with_the_key_of_the_environment(
    ask: Ask, judge: StandInJudge
) -> None:
    found = ask(concurrency=3).answer()
    assert {each.text for each in found} == {"[[A]]"}
    assert set(judge.keys) == {f"Bearer {KEY}"}
    assert {(b["temperature"], b["max_tokens"], b["model"]) for b in judge.bodies} == {
        (0, 20, "judge")
    }
    assert sorted(judge.asked) == QUESTIONS


def test_a_busy_judge_is_asked_again_after_the_time_that_it_asks_for(
    ask: Ask, judge: StandInJudge
) -> None:
    """7 seconds, once: then all goes well. The failed request is counted."""
    judge.faults = [(429, {"Retry-After": "7"})]
    asked = ask()
    assert all(each.text for each in asked.answer())
    # Only as long as is left of it, and told with every request until it is over.
    assert asked.waits and max(asked.waits) <= 7 and max(asked.waits) > 6
    assert asked.purse.tell(0, 0).requests == len(QUESTIONS) + 1


def test_a_broken_judge_is_asked_again_with_waits_that_double(
    ask: Ask, judge: StandInJudge
) -> None:
    """Between half and all of 1 and of 2 seconds."""
    judge.faults = [(500, {}), (503, {})]
    asked = ask()
    assert all(each.text for each in asked.answer())
    first, second = asked.waits
    assert 0.5 <= first <= 1 <= second <= 2


def test_a_judge_that_fails_each_time_ends_the_judging(ask: Ask, judge: StandInJudge) -> None:
    """What it has answered was told. The message says so, and not the key that it repeats."""
    asked = ask()
    judge.stops_after = 2
    with pytest.raises(ServiceError, match="failed 3 times in a row") as failed:
        asked.answer()
    assert "are kept" in failed.value.message
    assert sorted(asked.said) == [0, 1]


def test_a_judge_that_never_answers_is_waited_for_as_long_as_the_recipe_says(
    ask: Ask, judge: StandInJudge
) -> None:
    judge.slow = True
    with pytest.raises(ServiceError, match="failed 2 times in a row"):
        ask(timeout_seconds=0.05, attempts=2).answer()


def test_a_wait_that_is_too_long_ends_the_judging_at_once(ask: Ask, judge: StandInJudge) -> None:
    judge.faults = [(429, {"Retry-After": "3600"})]
    asked = ask()
    with pytest.raises(ServiceError, match="asks to wait 3600 s"):
        asked.answer()
    assert asked.waits == [] and judge.requests == 1


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_model_is_no_matter_of_trying_again(
    ask: Ask, judge: StandInJudge, status: int
) -> None:
    """The endpoint repeats the key in its message, and nobody is shown it."""
    judge.faults = [(status, {})]
    with pytest.raises(ConfigError, match=KEY_VARIABLE) as refused:
        ask().answer()
    assert KEY not in refused.value.message and "not now" in refused.value.message
    assert judge.requests == 1


def test_a_question_that_is_refused_ends_nothing(ask: Ask, judge: StandInJudge) -> None:
    """As one over the judge's context is; the others are answered."""
    judge.faults = [(400, {})]
    found = ask().answer()
    assert [each.reason for each in found] == ["refused", None, None, None]
    assert KEY not in found[0].detail


@pytest.mark.parametrize(
    ("budget", "answered"),
    [
        ({"requests": 2}, 2),
        ({"tokens": READ + WRITTEN + 1}, 2),
        ({"cost": 0.0001}, 1),
        ({}, 4),
    ],
)
def test_a_budget_ends_the_asking_and_keeps_what_was_answered(
    ask: Ask, budget: dict[str, Any], answered: int
) -> None:
    """A question is 100 tokens read at 2 a million and 10 written at 10: 0.0003."""
    prices = JudgePrices(input_per_million=2.0, output_per_million=10.0)
    asked = ask(budget=budget, prices=prices)
    found = asked.answer()
    assert [each.reason for each in found] == [None] * answered + ["budget_spent"] * (4 - answered)
    spent = asked.purse.tell(answered, 0)
    assert (spent.requests, spent.input_tokens) == (answered, READ * answered)
    assert spent.cost == pytest.approx(0.0003 * answered)


def test_no_key_is_sent_where_the_environment_has_none(
    ask: Ask, judge: StandInJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that of another service either."""
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    ask().answer()
    assert set(judge.keys) == {"Bearer none"}


def test_an_endpoint_that_speaks_otherwise_is_no_judge(judge: StandInJudge) -> None:
    """Nobody listens there at all."""
    address = judge.address
    judge.close()
    asked = Asked(judge, attempts=1)
    with pytest.raises(RetuneError, match="failed 1 times") as failed:
        asked.answer()
    assert address in failed.value.message
