"""What a run did to the model, by the aliases before and after it."""

from __future__ import annotations

from typing import Any

import pytest

from retune.registry.aliases.standing import ModelStanding, NamedVersion
from retune.release.summary import RunSummary
from retune.retraining.summary import judge_outcome, list_gains
from retune.score_records import Comparison, GateDecision, RegisteredRef
from retune.watching import StageLine


def standing(champion: int | None, challenger: int | None = None, tag: str = "") -> ModelStanding:
    """Return a model's aliases; the tag is the challenger's answer."""

    def named(version: int | None, approval: str) -> NamedVersion | None:
        return version and NamedVersion(version=version, digest=f"{version}", approval=approval)

    return ModelStanding(
        model_name="m",
        champion=named(champion, ""),
        previous=None,
        challenger=named(challenger, tag),
        since=None,
        note="",
    )


def run(version: int = 4, *, state: Any = "ran", held_back: str = "") -> RunSummary:
    """Return a run that registered a version, with one comparison."""
    compared = Comparison(
        against="champion",
        metric="accuracy",
        difference=0.25,
        low=0.125,
        high=None,
        p_value=0.01,
        n=80,
        verdict="better",
    )
    registered = RegisteredRef.model_construct(version=version, held_back=held_back)
    stage = StageLine(name="register_model", state=state, reason="", seconds=1, key="k")
    return RunSummary.model_construct(
        decision=GateDecision(
            digest="d", promote=True, reasons=("a", "b"), comparisons=(compared,)
        ),
        registered=registered,
        stages=(stage,),
    )


@pytest.mark.parametrize(
    ("before", "after", "given", "outcome"),
    [
        (standing(3), standing(4), {}, "promoted"),
        (standing(None), standing(4), {}, "promoted"),
        (standing(4), standing(4), {}, "unchanged"),
        (standing(3), standing(3, 4), {}, "rejected"),
        (standing(3), standing(3, 4), {"state": "reused"}, "unchanged"),
        (standing(3), standing(3, 4, "pending"), {}, "awaiting_approval"),
        # Asked about before, and still open.
        (standing(3), standing(3, 4, "pending"), {"state": "reused"}, "awaiting_approval"),
        # The question is about another version.
        (standing(3), standing(3, 5, "pending"), {}, "rejected"),
    ],
)
def test_aliases_say_what_came_of_it(
    before: ModelStanding, after: ModelStanding, given: dict[str, Any], outcome: str
) -> None:
    """Version 4 is what the run registered."""
    assert judge_outcome(before, after, run(**given))[0] == outcome


def test_the_reason_is_the_gates_or_why_the_registry_held_it_back() -> None:
    """A withdrawn model is no champion, whatever the gate says."""
    assert judge_outcome(standing(3), standing(4), run())[1] == "a; b"
    withdrawn = run(held_back="it was withdrawn")
    assert judge_outcome(standing(3), standing(3, 4), withdrawn)[1] == "it was withdrawn"


def test_comparisons_are_figures_of_the_event() -> None:
    """What could not be scored is left out."""
    name = "champion.accuracy"
    assert list_gains(run()) == {"version": 4.0, name: 0.25, f"{name}.low": 0.125}
