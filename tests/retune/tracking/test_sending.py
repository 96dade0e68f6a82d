"""What MLflow did not get is kept in order, and sent once when it is back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from retune.cli.stores.sending import send_kept
from retune.errors import ArtifactError, ServiceError
from retune.tracking import Mirror, connect, default_artifact_root, default_uri, sending
from retune.tracking.sending import PARENT_TAG, SentRun, send_unsent
from retune.tracking.unsent import UnsentEntries
from tests.serving import copy_tracking_database


@pytest.fixture(autouse=True)
def own_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    copy_tracking_database(tmp_path)
    return tmp_path


@pytest.fixture
def unsent(root: Path) -> UnsentEntries:
    return UnsentEntries(root)


def mirror_of(root: Path, uri: str | None = None) -> Mirror:
    artifacts = default_artifact_root(root)
    return Mirror(uri or default_uri(root), "kept", artifact_root=artifacts, store_root=root)


def away(*_: Any, **__: Any) -> None:
    raise MlflowException("connection refused")  # INTERNAL_ERROR: no refusal


def send(root: Path) -> list[SentRun]:
    client = connect(default_uri(root))
    return list(send_unsent(client, UnsentEntries(root), default_artifact_root(root)))


@pytest.fixture
def lost(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """A run and a training below it, of which MLflow could be told nothing at all."""
    with monkeypatch.context() as patched:
        for name in ("get_experiment_by_name", "create_run", "search_runs"):
            patched.setattr(MlflowClient, name, away)
        mirror = mirror_of(root)
        parent = mirror.open_parent("flow", {"prefect.flow_run_id": "f"})
        training = mirror.open_training(parent, "stage-key", "train")
        mirror.metrics(training, {"loss": 2.0}, step=1)
        mirror.flush()
        mirror.metrics(training, {"loss": 1.0}, step=2)
        mirror.tags(training, {"state": "begun"})
        mirror.tags(training, {"state": "done"})
        mirror.close(training, "FINISHED")
        mirror.close(parent, "FAILED")
    yield parent, training


def test_a_run_that_mlflow_never_heard_of_is_made_when_it_is_back(
    root: Path, lost: tuple[str, str]
) -> None:
    """With its names, tags, figures and end, the training below the run; then nothing is kept."""
    parent, training = send(root)
    assert (parent.kept_as, training.kept_as) == lost
    assert training.kinds == {"metrics": 2, "tags": 2, "status": 1}
    client = connect(default_uri(root))
    assert parent.run_id is not None
    assert training.run_id is not None
    made, below = client.get_run(parent.run_id), client.get_run(training.run_id)
    assert (made.info.run_name, made.info.status) == ("flow", "FAILED")
    assert made.data.tags["prefect.flow_run_id"] == "f"
    assert below.info.status == "FINISHED"
    assert below.data.tags[PARENT_TAG] == parent.run_id
    assert below.data.tags["state"] == "done"
    history = client.get_metric_history(training.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.0)]
    assert made.info.start_time <= made.info.end_time
    assert send(root) == []
    assert {path.name for path in UnsentEntries(root).folder.iterdir()} <= {".lock"}


def test_runs_of_one_millisecond_are_sent_in_their_order(
    unsent: UnsentEntries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty of them, a microsecond apart; their names are drawn."""
    clock = count(1_700_000_000_000_000_000, 1000)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    opened = [unsent.open_run("kept", f"run {number}", {}) for number in range(20)]
    assert unsent.runs() == opened


@pytest.mark.parametrize("call", ["log_batch", "set_terminated", "create_run"])
def test_a_server_that_goes_again_in_the_middle_gets_each_thing_once(
    root: Path, lost: tuple[str, str], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """What it has got is not kept any more; the second try goes on there, in the same run."""
    function, calls = getattr(MlflowClient, call), []

    def second_fails(*args: Any, **given: Any) -> Any:
        calls.append(args)
        return away() if len(calls) == 2 else function(*args, **given)

    monkeypatch.setattr(MlflowClient, call, second_fails)
    with pytest.raises(MlflowException):
        send(root)
    send(root)
    client = connect(default_uri(root))
    experiment = client.get_experiment_by_name("kept")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert len(client.search_runs([experiment.experiment_id])) == 2
    history = client.get_metric_history(runs["train"].info.run_id, "loss")
    assert [point.step for point in history] == [1, 2]
    assert runs["train"].data.tags["state"] == "done"
    assert (runs["train"].info.status, runs["flow"].info.status) == ("FINISHED", "FAILED")
    assert UnsentEntries(root).runs() == []


def test_a_run_that_was_made_before_its_sender_died_is_found_again(
    root: Path, lost: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between making the run and the first entry: there is no second one."""
    with monkeypatch.context() as patched:
        patched.setattr(sending, "apply_entry", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            send(root)
    parent, _ = send(root)
    client = connect(default_uri(root))
    experiment = client.get_experiment_by_name("kept")
    flows = [
        run.info.run_id
        for run in client.search_runs([experiment.experiment_id])
        if run.info.run_name == "flow"
    ]
    assert flows == [parent.run_id]


def test_the_next_run_sends_what_an_earlier_one_kept(root: Path, lost: tuple[str, str]) -> None:
    """And says so once."""
    mirror = mirror_of(root)
    mirror.close(mirror.open_parent("next", {}), "FINISHED")
    assert UnsentEntries(root).runs() == []
    assert mirror.warnings == ["MLflow answers again and has now got what was kept."]


def test_entries_keep_their_order_around_a_line_that_was_cut_short(unsent: UnsentEntries) -> None:
    """What a full disk left of it is no entry, and takes none along."""
    unsent.keep("run", {"kind": "tags", "tags": {"n": "1"}})
    with (unsent.folder / "run.jsonl").open("a") as file:
        file.write('{"kind": "tags", "ta')
    unsent.keep("run", {"kind": "tags", "tags": {"n": "2"}})
    assert [entry["tags"]["n"] for entry in unsent.entries("run")] == ["1", "2"]


def test_what_is_written_while_others_are_sent_comes_after_them(unsent: UnsentEntries) -> None:
    """Nobody else sends meanwhile; what was not sent stands before it afterwards."""
    for number in range(3):
        unsent.keep("run", {"kind": "tags", "tags": {"n": str(number)}})
    with unsent.claim("run") as entries:
        assert entries is not None
        unsent.keep("run", {"kind": "tags", "tags": {"n": "3"}})
        with unsent.claim("run") as again:
            assert again is None
        unsent.put_back("run", entries[1:])
    with unsent.claim("run") as rest:
        assert rest is not None
        assert [entry["tags"]["n"] for entry in rest] == ["1", "2", "3"]


def test_a_file_that_is_gone_is_told_and_the_rest_is_sent(
    root: Path, unsent: UnsentEntries
) -> None:
    """It can never be sent: it is no reason to keep what comes after it."""
    run = mirror_of(root).open_parent("flow", {})
    unsent.keep(run, {"kind": "artifact", "path": str(root / "gone.md"), "folder": None})
    unsent.keep(run, {"kind": "text", "text": "told", "name": "note.txt"})
    (sent,) = send(root)
    assert sent.kinds == {"text": 1}
    assert len(sent.refused) == 1
    assert "gone.md" in sent.refused[0]


def test_the_command_prints_what_was_sent(
    root: Path, lost: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Then there is nothing to send, which is no error either."""
    send_kept(None, root, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert [each["kept_as"] for each in printed["sent"]] == list(lost)
    assert printed["left"] == printed["still_kept"] == []
    send_kept(None, root, as_json=False)
    assert "MLflow has got everything" in " ".join(capsys.readouterr().out.split())


def test_a_server_that_is_still_away_is_exit_code_7_and_all_stays(
    root: Path, lost: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how many runs wait."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(ServiceError, match="2 of 2 runs are still to be sent") as caught:
        send_kept(None, root, as_json=False)
    assert caught.value.exit_code == 7
    assert UnsentEntries(root).runs() == list(lost)


def test_a_run_that_mlflow_does_not_have_stays_and_is_an_error(
    root: Path, unsent: UnsentEntries
) -> None:
    """It may be another MLflow that has it: nothing is dropped on a guess."""
    unsent.keep("0" * 32, {"kind": "text", "text": "kept", "name": "note.txt"})
    with pytest.raises(ArtifactError, match="MLflow has no such run"):
        send_kept(None, root, as_json=False)
    assert unsent.runs() == ["0" * 32]
