"""The flow `retrain`: skipped, failed, forced; the champion stays unless something better comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from retune.errors import ArtifactError, DataError, ServiceError
from retune.recipe.loading import load_recipe
from retune.registry.aliases.deciding import record_decision, roll_back
from retune.registry.ledger.ledger import LEDGERS, Ledger
from retune.registry.records import LedgerEntry
from retune.registry.versions.finding import DIGEST_TAG
from retune.tracking import connect, default_uri
from tasks.retrain import announcing, looking
from tasks.retrain.approval import Answer, Question, act_on
from tasks.retrain.looking import look_around
from tasks.retrain.outcomes import telling_failure
from tasks.runs.opening import prepare_run
from tests.flows.conftest import last_json, retune, write_project
from tests.serving import prefect_address
from tests.waiting import closed_port

pytestmark = [pytest.mark.slow, pytest.mark.service]

AT = datetime(2026, 11, 26, 3, tzinfo=UTC)
Finished = tuple[Path, dict[str, Any]]


def tracking_of(recipe: Path) -> str:
    return default_uri(recipe.parent / ".retune")


def decide(recipe: Path, kind: str, digest: str, opponent: str = "") -> MlflowClient:
    """Register a version without files, and let a verdict of the gate on it take effect."""
    uri = tracking_of(recipe)
    client = connect(uri)
    if opponent == "":
        client.create_registered_model("small")
    source = (recipe.parent / "model").as_uri()
    made = client.create_model_version("small", source, tags={DIGEST_TAG: digest})
    draft = {
        "number": 0,
        "at": (AT - timedelta(hours=48)).isoformat(),
        "kind": kind,
        "model_name": "small",
        "actor": "gate",
        "version": int(made.version),
        "challenger": digest,
        "opponent": opponent,
        "decision": f"on {digest}",
        "reason": "because",
    }
    record_decision(uri, ledgers_of(recipe), LedgerEntry.model_validate(draft))
    return client


def ledgers_of(recipe: Path) -> Path:
    return recipe.parent / ".retune" / LEDGERS


def ledger_of(recipe: Path) -> list[tuple[str, int | None]]:
    """Return the kind of each line of the ledger, and the champion after it."""
    folder = recipe.parent / ".retune" / "ledger"
    return [
        (each.kind, each.to_version)
        for each in Ledger(tracking_of(recipe), "small", folder).entries()
    ]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Events as Prefect is given them."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(announcing, "emit_event", lambda **event: found.append(event))
    return found


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Return the flow, called in this process; it returns its final state."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.retrain import retrain

    with temporary_settings({PREFECT_API_URL: prefect_address()}):
        yield lambda recipe, **given: retrain(recipe, at=AT, return_state=True, **given)


def test_nothing_to_do_is_skipped_with_the_reason_and_nothing_computed(
    tmp_path: Path, start: Callable[..., Any], events: list[dict[str, Any]]
) -> None:
    """A state named so, one line however often it is asked, an event each time, and no stage."""
    recipe = write_project(tmp_path / "project")
    decide(recipe, "promoted", "old")
    states = [start(recipe) for _ in range(2)]
    assert [state.name for state in states] == ["Skipped", "Skipped"]
    assert all(state.is_completed() for state in states)
    found = states[0].result()
    assert (found.outcome, found.champion, found.run) == ("skipped", 1, None)
    assert found.at == "2026-11-26T03:00:00+00:00"
    assert found.reason == states[0].message and "no trigger is set" in found.reason
    assert ledger_of(recipe) == [("promoted", 1), ("skipped", 1)]
    assert not list((recipe.parent / ".retune").glob("*/*/manifest.json"))
    assert [event["event"] for event in events] == ["retune.skipped"] * 2
    assert events[0]["resource"]["prefect.resource.id"] == "retune.model.small"
    assert events[0]["related"][0]["prefect.resource.id"] == "retune.recipe.small"
    assert events[0]["payload"]["reason"] == found.reason


def test_a_run_that_was_killed_is_ended_in_mlflow_by_the_next_start(
    tmp_path: Path, start: Callable[..., Any], events: list[dict[str, Any]]
) -> None:
    """Prefect knows that its flow run crashed; a run whose flow run nobody knows is left alone."""
    from prefect.client.orchestration import get_client
    from prefect.states import Crashed

    recipe = write_project(tmp_path / "project")
    client = decide(recipe, "promoted", "old")
    complete = start(recipe).state_details.flow_run_id
    earlier = start(recipe).state_details.flow_run_id
    with get_client(sync_client=True) as prefect:
        prefect.set_flow_run_state(earlier, Crashed(), force=True)
    experiment = client.create_experiment("small")
    unknown = "00000000-0000-0000-0000-000000000000"
    left, ended, other = (
        client.create_run(experiment, tags={"prefect.flow_run_id": str(each)}).info.run_id
        for each in (earlier, complete, unknown)
    )
    start(recipe)
    assert client.get_run(left).info.status == "KILLED"
    # MLflow was away when that one ended.
    assert client.get_run(ended).info.status == "FINISHED"
    assert client.get_run(other).info.status == "RUNNING"


def test_a_training_that_fails_leaves_the_champion_and_is_told(
    tmp_path: Path, start: Callable[..., Any], events: list[dict[str, Any]]
) -> None:
    """Rows are missing: a failed state, a line, a failed run in MLflow that leads to Prefect's."""
    recipe = write_project(tmp_path / "project")
    client = decide(recipe, "promoted", "old")
    (recipe.parent / "data" / "train.jsonl").unlink()
    state = start(recipe, force=True)
    assert state.is_failed()
    with pytest.raises(DataError):
        state.result()
    assert client.get_model_version_by_alias("small", "champion").version == 1
    assert ledger_of(recipe) == [("promoted", 1), ("failed", 1)]
    (experiment,) = [each for each in client.search_experiments() if each.name == "small"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"
    assert run.data.tags["prefect.flow_run_id"] == str(state.state_details.flow_run_id)
    assert [event["event"] for event in events] == ["retune.failed"]
    assert "train.jsonl" in events[0]["payload"]["reason"]


def test_what_fails_after_a_promotion_is_told_with_the_champion_of_then(
    tmp_path: Path, events: list[dict[str, Any]]
) -> None:
    """MLflow goes away while the page of the model is sent, say: version 2 is champion."""
    recipe = write_project(tmp_path / "project")
    decide(recipe, "promoted", "old")
    look = look_around(prepare_run(load_recipe(recipe), direct=True), at=AT)
    with pytest.raises(OSError, match="away"), telling_failure(look):
        decide(recipe, "promoted", "new", opponent="old")
        raise OSError("away")
    assert ledger_of(recipe) == [("promoted", 1), ("promoted", 2), ("failed", 2)]


def test_a_withdrawn_model_that_is_champion_again_stops_a_run_before_it_computes(
    tmp_path: Path, start: Callable[..., Any], events: list[dict[str, Any]]
) -> None:
    """No decision on a challenger could be written down: nothing is paid for one."""
    recipe = write_project(tmp_path / "project")
    decide(recipe, "promoted", "old")
    client = decide(recipe, "promoted", "new", opponent="old")
    given: dict[str, Any] = {"folder": ledgers_of(recipe), "actor": "ada", "reason": "it is rude"}
    roll_back(tracking_of(recipe), "small", taken_back=2, to=1, **given)
    client.set_registered_model_alias("small", "champion", "2")

    state = start(recipe, force=True)

    with pytest.raises(ArtifactError, match="moved by hand to version 2, and it was withdrawn"):
        state.result()
    assert not (recipe.parent / ".retune" / "load_rows").exists()


@pytest.mark.parametrize(
    ("tag", "hours", "last", "event"),
    [
        ("approved", 72, ("promoted", 2), "retune.promoted"),
        ("rejected", 72, ("rejected", 1), "retune.rejected"),
        ("pending", 47, ("expired", 1), "retune.rejected"),
        ("pending", 49, ("pending", 1), ""),
    ],
)
@pytest.mark.parametrize("trained_since", [False, True])
def test_the_next_start_acts_on_a_tag_or_a_deadline(
    tmp_path: Path,
    start: Callable[..., Any],
    events: list[dict[str, Any]],
    tag: str,
    hours: int,
    last: tuple[str, int],
    event: str,
    trained_since: bool,
) -> None:
    """Version 2 was asked about 48 hours ago; while the question is open nothing is trained.

    Another one that was trained by hand meanwhile, and is challenger now, closes no question.
    """
    recipe = write_project(tmp_path / "project")
    decide(recipe, "promoted", "old")
    client = decide(recipe, "pending", "new", opponent="old")
    if trained_since:
        decide(recipe, "rejected", "newer", opponent="old")
    client.set_model_version_tag("small", "2", "retune.approval", tag)
    overrides = [f"registry.approval_hours={hours}"]
    # What is asked still holds a training back that every start wants.
    overrides += [] if event else ["retrain.triggers.schedule=true"]
    state = start(recipe, overrides=overrides)
    lines = [each for each in ledger_of(recipe) if each[0] != "skipped"]
    if trained_since and not event:
        last = ("rejected", 1)
    assert lines[-1] == last
    assert client.get_model_version_by_alias("small", "champion").version == last[1]
    assert [each["event"] for each in events] == [*([event] if event else []), "retune.skipped"]
    assert state.name == "Skipped"


def test_an_answer_while_mlflow_is_away_changes_nothing(
    tmp_path: Path, start: Callable[..., Any], events: list[dict[str, Any]]
) -> None:
    """The champion stays and the question stays open: the tag answers it once MLflow is back."""
    recipe = write_project(tmp_path / "project")
    decide(recipe, "promoted", "old")
    client = decide(recipe, "pending", "new", opponent="old")
    look = look_around(prepare_run(load_recipe(recipe), direct=True), at=AT)
    question = Question(version=2, text="", seconds=60)
    with closed_port() as port:
        context = {**look.run.context, "tracking_uri": f"http://127.0.0.1:{port}"}
        away = replace(look, run=replace(look.run, context=context))
        with pytest.raises(ServiceError, match=str(port)):
            act_on(away, question, Answer(approve=True, name="maria"))
    assert ledger_of(recipe) == [("promoted", 1), ("pending", 1)]
    assert client.get_model_version_by_alias("small", "champion").version == 1

    client.set_model_version_tag("small", "2", "retune.approval", "approved")
    start(recipe)
    assert client.get_model_version_by_alias("small", "champion").version == 2
    page = recipe.parent / ".retune" / "reports" / "overview-small" / "overview.html"
    assert "a person approved it by its tag" in page.read_text("utf-8")


def test_a_run_that_goes_on_looks_again_unless_it_trained(
    tmp_path: Path, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first try may have failed in the look, before anything said that it is worth it."""
    recipe = write_project(tmp_path / "project")
    client = decide(recipe, "promoted", "old")
    identity = "00000000-0000-0000-0000-000000000001"
    monkeypatch.setattr(looking, "flow_run", SimpleNamespace(id=identity, run_count=2))
    run = prepare_run(load_recipe(recipe), direct=True)
    assert not look_around(run, at=AT).again
    experiment = client.create_experiment("small")
    client.create_run(experiment, tags={"prefect.flow_run_id": identity})
    assert look_around(run, at=AT).again


def test_a_forced_retraining_goes_the_way_of_a_run(finished: Finished, project: Path) -> None:
    """It finds what `retune run` computed, so that nothing is new, and says so."""
    connect(tracking_of(project)).set_registered_model_alias("small", "champion", "1")
    found = last_json(retune(project, "--json", "--force", command="retrain"))
    assert found["outcome"] == "unchanged" and "the champion itself" in found["reason"]
    assert [each["trigger"] for each in found["assessment"]["triggers"]] == ["by_hand"]
    assert found["run"]["models"] == finished[1]["models"]
    assert {line["state"] for line in found["run"]["stages"]} == {"reused"}
    run = connect(tracking_of(project)).get_run(found["run"]["mlflow_run_id"])
    assert run.data.tags["retune.outcome"] == "unchanged"
    status = last_json(retune(project, "--json", command="status"))
    assert status["standing"]["champion"]["version"] == found["champion"] == 1
    assert status["next_run"] is None and "no deployment" in status["next_run_reason"]
    assert status["model_name"] == load_recipe(project).recipe.registry.model_name
