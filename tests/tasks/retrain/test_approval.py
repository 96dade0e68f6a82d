"""A person's answer in Prefect's form: what is written down of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from retune.errors import ServiceError
from retune.recipe.loading import load_recipe
from retune.registry.aliases.standing import ModelStanding
from retune.retraining.clock import as_utc, read_moment
from tasks.retrain import approval
from tasks.retrain.approval import Answer, Question, act_on
from tasks.retrain.looking import Look
from tasks.runs.opening import prepare_run

PLANNED = datetime(2026, 1, 3, 4, tzinfo=UTC)
QUESTION = Question(version=2, text="", seconds=60)
MARIA = Answer(approve=True, name="maria", reason="it reads well")


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """A model of whose version 2 a person was asked."""
    (tmp_path / "pyproject.toml").touch()
    path = tmp_path / "recipe.yaml"
    registry = {"model_name": "tiny"}
    recipe = {"name": "tiny", "data": {"train": "a.jsonl"}, "model": {"id": "m"}}
    path.write_text(yaml.safe_dump(recipe | {"registry": registry}), "utf-8")
    nobody = dict.fromkeys(("champion", "previous", "challenger", "since"))
    return Look(
        run=prepare_run(load_recipe(path), direct=True),
        at=PLANNED,
        force=False,
        again=True,
        standing=ModelStanding(model_name="tiny", note="", **nobody),
        entries=(),
    )


@pytest.fixture
def written(look: Look, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the registry is asked to write, in its place."""
    found: dict[str, Any] = {}
    for name in ("promote_version", "refuse_version"):
        monkeypatch.setattr(
            approval, name, lambda *_, name=name, **fields: found.update(fields, call=name)
        )
    monkeypatch.setattr(approval, "look_around", lambda *_, **__: look)
    monkeypatch.setattr(approval, "tag_run", lambda *given: found.update(tags=given[-1]))
    return found


def test_a_yes_promotes_in_the_name_of_whoever_said_it(look: Look, written: dict[str, Any]) -> None:
    """The ledger's actor is the name in the form, and the reason is theirs."""
    found = act_on(look, QUESTION, MARIA)

    assert found.outcome == "promoted"
    assert (written["call"], written["actor"]) == ("promote_version", "maria")
    assert written["reason"] == "maria approved it: it reads well"
    assert written["tags"] == {
        "retune.outcome": "promoted",
        "retune.outcome_reason": "maria approved it: it reads well",
        "retune.promoted": "true",
    }


def test_a_no_keeps_the_champion(look: Look, written: dict[str, Any]) -> None:
    """It is what the form says where nobody touches it."""
    found = act_on(look, QUESTION, Answer(name="maria"))

    assert found.outcome == "rejected"
    assert (written["call"], written["kind"]) == ("refuse_version", "rejected")
    assert written["tags"]["retune.promoted"] == "false"


def test_a_run_that_cannot_be_tagged_takes_nothing_back(
    look: Look, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry has the answer by then; MLflow may be gone a moment later."""

    def fail(*_: Any) -> None:
        raise ServiceError("MLflow is away")

    monkeypatch.setattr(approval, "tag_run", fail)

    assert act_on(look, QUESTION, MARIA).outcome == "promoted"
    assert written["call"] == "promote_version"


def test_an_answer_has_its_own_time(look: Look, written: dict[str, Any]) -> None:
    """Not that of the start that asked, which may be days ago; a stated one counts."""
    before = as_utc(datetime.now(UTC))
    act_on(look, QUESTION, MARIA)
    assert read_moment(written["at"]) >= before

    stated = datetime(2026, 1, 5, 12, tzinfo=UTC)
    act_on(look, QUESTION, MARIA, stated)
    assert read_moment(written["at"]) == stated
