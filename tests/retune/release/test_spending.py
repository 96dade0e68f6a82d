"""What decisions on the same held-out rows take of the error, and what is left of it."""

from __future__ import annotations

from typing import Any

import pytest

from retune.recipe.sections import GateConfig
from retune.registry.records import LedgerEntry, LedgerKind
from retune.release.error_budget import ErrorBudget
from retune.release.spending import Question, find_budget

GATE = GateConfig(error=0.05, decisions_per_test_set=20)
LEVEL = 2 * 0.05 / 20
"""A share is 0.05 / 20; the two-sided level that errs so often to one side is twice that."""


def line(number: int, kind: LedgerKind = "rejected", **fields: Any) -> LedgerEntry:
    """A decision of the gate on the rows `t`: challenger c<number> against v0."""
    fields = {
        "model_name": "small",
        "actor": "gate",
        "challenger": f"c{number}",
        "opponent": "v0",
        "test_rows": "t",
        "alpha": LEVEL,
        "version": number,
        "figures": {"accuracy": 0.5, "accuracy.low": 0.4, "accuracy.high": 0.6},
        **fields,
    }
    return LedgerEntry(
        number=number, at="2026-11-01T00:00:00+00:00", kind=kind, reason="", **fields
    )


def refusals(count: int) -> list[LedgerEntry]:
    return [line(number) for number in range(1, count + 1)]


def budget(
    entries: list[LedgerEntry],
    *,
    gate: GateConfig = GATE,
    rows: int = 400,
    shared: dict[str, float] | None = None,
    question: Question | None = None,
) -> ErrorBudget:
    return find_budget(entries, gate, rows=rows, shared=shared or {}, question=question)


def ask(challenger: str, opponent: str = "v0", metric: str = "accuracy") -> Question:
    return Question(challenger=challenger, opponent=opponent, test_rows="t", metric=metric)


def test_an_empty_ledger_has_spent_nothing() -> None:
    """All twenty shares are there, and the first decision is at twice a share."""
    found = budget([])
    assert (found.spent, found.left, found.alpha) == (0.0, 20, LEVEL)
    assert found.describe().startswith(
        "decision 1 of 20 on these 400 held-out rows: intervals of 99.5 % (level 0.005); "
        "0.05 of the error"
    )


def test_a_refusal_takes_a_share() -> None:
    """Three of 0.0025 are 0.0075; the level stays as it is."""
    found = budget(refusals(3))
    assert found.spent == pytest.approx(0.0075)
    assert (found.left, found.alpha) == (17, LEVEL)
    assert found.describe().startswith("decision 4 of 20") and "0.043 of" in found.describe()


def test_a_promotion_gets_its_share_back() -> None:
    """Two refusals and a promotion have spent two shares."""
    assert budget([*refusals(2), line(3, "promoted")]).left == 18


def test_a_decision_that_waits_for_a_person_is_spent_until_it_is_agreed_to() -> None:
    """The gate's yes alone moves no champion; the promotion is the same question."""
    waits = line(1, "pending")
    agreed = line(2, "promoted", challenger="c1", actor="Ada", version=1, to_version=1)
    assert budget([waits]).left == budget([waits, line(2, "expired", alpha=None)]).left == 19
    assert budget([waits, agreed]).left == 20


@pytest.mark.parametrize(
    "after",
    [
        line(2, "rolled_back", from_version=1, to_version=0, version=1, alpha=None, test_rows=""),
        line(2, "withdrawn", from_version=1, to_version=None, version=1, alpha=None, test_rows=""),
        line(2, "promoted", from_version=1, to_version=0, version=0, alpha=None, test_rows=""),
    ],
    ids=["rolled back", "withdrawn", "moved by hand"],
)
def test_a_promotion_that_was_taken_back_has_spent_its_share(after: LedgerEntry) -> None:
    """What comes next is compared with a model that had lost on these rows."""
    assert budget([line(1, "promoted", to_version=1), after]).left == 19


def test_a_promotion_that_is_followed_by_another_has_not_been_taken_back() -> None:
    """Version 2 takes the place of 1 because it is better: both shares are there."""
    first = line(1, "promoted", to_version=1)
    assert budget([first, line(2, "promoted", from_version=1, to_version=2)]).left == 20


def test_going_back_to_a_version_does_not_take_its_promotion_back() -> None:
    """Version 2 is taken back and 1 is champion again: the share of 2 is gone, that of 1 is not."""
    history = [line(1, "promoted", to_version=1), line(2, "promoted", to_version=2)]
    back = line(3, "rolled_back", from_version=2, to_version=1, version=2, alpha=None)
    assert budget([*history, back]).left == 19


def test_going_back_over_several_versions_takes_each_of_them_back() -> None:
    """3 was champion, 0 is again: 1, 2 and 3 were all taken back, so that three shares are gone."""
    history = [
        line(at, "promoted", from_version=at - 1, to_version=at, opponent=f"c{at - 1}")
        for at in (1, 2, 3)
    ]
    back = line(4, "rolled_back", from_version=3, to_version=0, version=3, alpha=None)
    assert budget(history).left == 20
    assert budget([*history, back]).left == 17
    stays = line(5, "rejected", from_version=0, to_version=0, alpha=None)
    assert budget([*history, back, stays]).left == 17


def test_what_was_taken_back_before_a_promotion_is_another_matter() -> None:
    """A person's version 2 was rolled back; when the gate promotes it, its share comes back."""
    back = line(1, "rolled_back", from_version=2, to_version=1, alpha=None, test_rows="")
    assert budget([back, line(2, "promoted", to_version=2)]).left == 20


def test_lines_that_rest_on_no_rows_spend_nothing() -> None:
    """A person's own promotion, a skipped retraining, a decision at level 0."""
    free = [
        line(1, "promoted", actor="Ada", alpha=None, test_rows=""),
        line(2, "skipped", alpha=None, test_rows="", challenger=""),
        line(3, alpha=0.0),
    ]
    assert budget(free).left == 20


def test_a_used_up_budget_gives_level_zero_and_asks_for_rows() -> None:
    """Twenty shares are spent; 21.05 rows more would leave one.

    With m rows more they count 400 / (400 + m) of 0.05, and 0.0475 may be spent:
    m is at least 400 * (0.05 / 0.0475 - 1).
    """
    assert budget(refusals(19)).alpha == LEVEL
    found = budget(refusals(20))
    assert found.used_up and (found.left, found.alpha) == (0, 0.0)
    text = found.describe()
    assert "these 400 held-out rows are worn out: 20 decisions" in text
    assert "22 more for one more decision, 400 others in their place for 20" in text
    assert "data.test" in text and "split.max_test_rows" in text


@pytest.mark.parametrize(("added", "left"), [(21, 0), (22, 1)])
def test_as_many_new_rows_as_are_asked_for_make_room_and_one_less_does_not(
    added: int, left: int
) -> None:
    """The number of the message above, tried."""
    grown = [each.model_copy(update={"test_rows": "before"}) for each in refusals(20)]
    rows = 400 + added
    assert budget(grown, rows=rows, shared={"before": 400 / rows}).left == left


def test_a_set_that_grew_by_one_row_does_not_start_anew() -> None:
    """Twelve refusals on 400 rows are 12 * 400 / 401 = 11.97 shares of 401: eight are whole."""
    grown = [each.model_copy(update={"test_rows": "before"}) for each in refusals(12)]
    assert budget(grown, rows=401, shared={"before": 400 / 401}).left == 8
    assert budget(grown, rows=800, shared={"before": 0.5}).left == 14
    assert budget(grown, shared={"before": 0.0}).left == 20


def test_rows_of_which_nothing_is_known_count_as_the_same() -> None:
    """A lost file of row digests gives no fresh error away."""
    unknown = [each.model_copy(update={"test_rows": "lost"}) for each in refusals(20)]
    assert budget(unknown).used_up


def test_a_decision_that_is_asked_again_gets_its_level_and_spends_nothing() -> None:
    """Even where nothing is left, and where the recipe has other shares by now."""
    found = budget(refusals(20), question=ask("c7"))
    assert found.asked_before and found.alpha == LEVEL and "taken before" in found.describe()
    other = GateConfig(error=0.05, decisions_per_test_set=5)
    assert budget(refusals(3), gate=other, question=ask("c2")).alpha == LEVEL
    twice = [*refusals(3), line(4, challenger="c3")]
    assert budget(twice).left == 17


def test_a_decision_that_compared_nothing_is_one_of_the_first_figure_alone() -> None:
    """Its challenger was not scored: once it is, by one figure, another one is another decision."""
    nothing = [*refusals(19), line(20, figures={})]
    assert budget(nothing, question=ask("c20")).asked_before
    scored = [*nothing, line(21, challenger="c20")]
    assert budget(scored, question=ask("c20")).asked_before
    other = budget(scored, question=ask("c20", metric="macro_f1"))
    assert not other.asked_before and other.used_up


@pytest.mark.parametrize(
    "question", [ask("c99"), ask("c1", opponent="v1"), ask("c1", metric="macro_f1")]
)
def test_another_challenger_opponent_or_figure_is_another_decision(question: Question) -> None:
    """Each is another chance to err."""
    found = budget(refusals(20), question=question)
    assert not found.asked_before and found.used_up


def test_a_smaller_error_counts_what_was_spent_before() -> None:
    """0.02 is more than the 0.01 that the recipe allows now."""
    assert budget(refusals(8), gate=GateConfig(error=0.01)).used_up


def test_an_error_of_a_single_share_is_helped_by_other_rows_alone() -> None:
    """Any part of the one decision that is left on the rows is too much."""
    one = GateConfig(error=0.05, decisions_per_test_set=1)
    found = budget([line(1, alpha=0.1)], gate=one)
    assert found.used_up and found.rows_to_add() is None
    assert "Hold out fresh rows: 400 others in their place for 1 " in found.describe()
