"""MLflow as a mirror: found again, never doubled, never in the way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from retune.errors import ConfigError, ServiceError
from retune.tracking import (
    Mirror,
    check_tracking,
    connect,
    default_artifact_root,
    default_uri,
    flatten_params,
    shown_uri,
)
from retune.tracking.unsent import UnsentEntries
from tests.waiting import GUARD_SECONDS, closed_port, free_port


@pytest.fixture(scope="module")
def store_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Making MLflow's tables takes seconds: once for all tests, each with an experiment of its own.
    root = tmp_path_factory.mktemp("store")
    check_tracking(default_uri(root))
    return root


@pytest.fixture
def mirror(store_root: Path, request: pytest.FixtureRequest) -> Mirror:
    return mirror_of(default_uri(store_root), request.node.name, store_root)


MINUTES = 180.0
"""MLflow's own limits are 100 s to look at a database, and 9 minutes to close a run."""


def mirror_of(uri: str, experiment: str, root: Path) -> Mirror:
    return Mirror(uri, experiment, artifact_root=default_artifact_root(root), store_root=root)


def steps(mirror: Mirror, run_id: str, name: str) -> list[tuple[int, float]]:
    history = connect(mirror.uri).get_metric_history(run_id, name)
    return [(point.step, point.value) for point in history]


def test_a_resumed_training_goes_on_in_its_run_and_logs_no_step_twice(
    mirror: Mirror, store_root: Path
) -> None:
    killed = mirror.open_training(mirror.open_parent("first", {}), "key", "train")
    mirror.metrics(killed, {"loss": 2.0}, step=5)
    mirror.metrics(killed, {"loss": 1.5}, step=10)
    mirror.flush()

    again = mirror_of(mirror.uri, mirror.experiment, store_root)
    parent = again.open_parent("second", {})
    resumed = again.open_training(parent, "key", "train")
    for step, loss in [(5, 2.0), (10, 1.5), (15, 1.0)]:
        again.metrics(resumed, {"loss": loss}, step=step)
    again.close(resumed, "FINISHED")

    assert resumed == killed
    assert steps(again, resumed, "loss") == [(5, 2.0), (10, 1.5), (15, 1.0)]
    run = connect(again.uri).get_run(resumed)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert again.warnings == []


def test_another_stage_key_gets_a_run_of_its_own(mirror: Mirror) -> None:
    parent = mirror.open_parent("flow", {})

    runs = {mirror.open_training(parent, key, "train") for key in ("one", "two")}

    assert len(runs) == 2
    assert mirror.find_training("one") in runs
    assert mirror.find_training("three") is None


def test_a_finished_training_stays_below_the_run_that_computed_it(mirror: Mirror) -> None:
    first = mirror.open_parent("first", {})
    training = mirror.open_training(first, "key", "train")
    mirror.close(training, "FINISHED")

    reused = mirror.open_training(mirror.open_parent("second", {}), "key", "train")

    assert reused == training
    assert connect(mirror.uri).get_run(training).data.tags["mlflow.parentRunId"] == first


def test_the_same_step_twice_in_one_batch_is_one_point(mirror: Mirror) -> None:
    run = mirror.open_parent("flow", {})

    mirror.metrics(run, {"loss": 1.0}, step=1)
    mirror.metrics(run, {"loss": 1.0}, step=1)
    mirror.flush()

    assert steps(mirror, run, "loss") == [(1, 1.0)]


def test_more_figures_than_a_batch_holds_all_arrive(mirror: Mirror) -> None:
    run = mirror.open_parent("flow", {})

    mirror.metrics(run, {f"m{index}": float(index) for index in range(250)})
    mirror.flush()

    logged = connect(mirror.uri).get_run(run).data.metrics
    assert logged == {f"m{index}": float(index) for index in range(250)}


def test_params_are_dotted_and_the_first_value_stays(mirror: Mirror) -> None:
    run = mirror.open_parent("flow", {})

    mirror.params(run, {"training": {"learning_rate": 0.002}, "runtime": {"workers": 1}})
    mirror.params(run, {"training": {"max_steps": None}, "runtime": {"workers": 2}})

    assert connect(mirror.uri).get_run(run).data.params == {
        "training.learning_rate": "0.002",
        "training.max_steps": "null",
        "runtime.workers": "1",
    }
    assert mirror.warnings == []


def test_a_long_param_is_cut_and_a_secret_masked() -> None:
    flat = flatten_params({"prompt": "x" * 600, "uri": "https://ana:geheim@host/x"})

    assert len(flat["prompt"]) == 500
    assert flat["prompt"].endswith("…")
    assert "geheim" not in flat["uri"]


def test_a_dataset_keeps_our_whole_digest(mirror: Mirror) -> None:
    run = mirror.open_parent("flow", {})
    digest = "0123456789abcdef" * 4

    mirror.dataset(run, "rows", digest, rows=7, context="training")

    dataset = connect(mirror.uri).get_run(run).inputs.dataset_inputs[0].dataset
    assert dataset.digest == digest[:36]
    assert json.loads(dataset.profile) == {"num_rows": 7, "sha256": digest}
    assert mirror.warnings == []


def test_files_folders_and_texts_become_artifacts(mirror: Mirror, tmp_path: Path) -> None:
    run = mirror.open_parent("flow", {})
    (tmp_path / "report.md").write_text("a report")

    mirror.artifact(run, tmp_path / "report.md")
    mirror.artifact(run, tmp_path, "folder")
    mirror.text(run, "hello", "note.txt")

    client = connect(mirror.uri)
    assert {item.path for item in client.list_artifacts(run)} == {"report.md", "folder", "note.txt"}
    assert [item.path for item in client.list_artifacts(run, "folder")] == ["folder/report.md"]


def test_weights_on_the_same_disk_are_no_second_copy(mirror: Mirror, tmp_path: Path) -> None:
    """They are one file under two names, also when they are sent again; settings are copied."""
    run = mirror.open_parent("flow", {})
    weights, settings = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    for path in (weights, settings):
        path.write_bytes(path.name.encode())
        for _ in range(2):
            mirror.artifact(run, path, "adapter")

    address = connect(mirror.uri).get_run(run).info.artifact_uri
    logged = Path(address.removeprefix("file://")) / "adapter"
    assert (logged / weights.name).samefile(weights)
    assert not (logged / settings.name).samefile(settings)
    assert (logged / settings.name).read_bytes() == settings.read_bytes()
    found = {item.path for item in connect(mirror.uri).list_artifacts(run, "adapter")}
    assert found == {f"adapter/{weights.name}", f"adapter/{settings.name}"}
    assert not mirror.warnings


def test_a_refused_entry_is_a_warning_and_the_next_one_arrives(mirror: Mirror) -> None:
    run = mirror.open_parent("flow", {})

    mirror.artifact(run, Path("/nowhere/report.md"))
    mirror.tags(run, {"state": "fine"})

    assert len(mirror.warnings) == 1
    assert "refused" in mirror.warnings[0]
    assert connect(mirror.uri).get_run(run).data.tags["state"] == "fine"


def test_a_deleted_experiment_is_restored(mirror: Mirror, store_root: Path) -> None:
    mirror.open_parent("flow", {})
    client = connect(mirror.uri)
    client.delete_experiment(client.get_experiment_by_name(mirror.experiment).experiment_id)

    again = mirror_of(mirror.uri, mirror.experiment, store_root)

    assert not again.open_parent("flow", {}).startswith("unsent-")


def test_a_server_that_is_not_there_is_an_error_within_seconds() -> None:
    started = time.monotonic()

    with closed_port() as port, pytest.raises(ServiceError) as caught:
        check_tracking(f"http://ana:geheim@127.0.0.1:{port}")

    assert time.monotonic() - started < MINUTES
    assert "geheim" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    assert "tracking.uri" in str(caught.value)


def test_a_database_server_that_is_not_there_is_an_error_within_seconds() -> None:
    started = time.monotonic()

    with closed_port() as port, pytest.raises(ServiceError) as caught:
        check_tracking(f"postgresql://ana:geheim@127.0.0.1:{port}/mlflow")

    assert time.monotonic() - started < MINUTES
    assert "geheim" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_named_with_how_to_install_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(ServiceError) as caught:
        check_tracking(f"mysql://ana:geheim@127.0.0.1:{server.getsockname()[1]}/mlflow")

    assert "MySQLdb" in str(caught.value)
    assert "retune[server]" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").write_text("this is no database" * 100)

    with pytest.raises(ServiceError, match=r"mlflow\.db"):
        check_tracking(default_uri(tmp_path))


def test_a_folder_as_address_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="no longer keeps runs in folders"):
        check_tracking(str(tmp_path / "mlruns"))


def test_a_store_folder_that_mlflow_would_misread_is_refused() -> None:
    with pytest.raises(ConfigError, match="%"):
        default_uri(Path("/tmp/a%20b"))


def test_an_address_is_shown_without_its_user() -> None:
    assert shown_uri("https://ana:geheim@host:5000/p?token=x") == "https://host:5000/p"
    assert shown_uri("postgresql://ana:geheim@host/db") == "postgresql://host/db"


def test_importing_the_modules_imports_neither_torch_nor_mlflow() -> None:
    code = "import retune.tracking, retune.registry, sys; print(*sys.modules)"

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"torch", "transformers", "mlflow"} & set(loaded)


class Server:
    """An MLflow server that can be killed and started again at the same address."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder = folder
        self.database = database
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", self.database]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(self.folder / "server.log", "wb") as log:
            # A session of its own, so that its workers are killed with it.
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + GUARD_SECONDS
        while True:
            try:
                check_tracking(self.uri)
            except ServiceError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path, store_root: Path) -> Iterator[Server]:
    server = Server(tmp_path, default_uri(store_root))
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
@pytest.mark.service
def test_a_server_killed_in_the_middle_costs_a_warning_and_nothing_is_lost(
    server: Server, tmp_path: Path
) -> None:
    mirror = mirror_of(server.uri, "killed", tmp_path)
    parent = mirror.open_parent("flow", {})
    training = mirror.open_training(parent, "key", "train")
    mirror.metrics(training, {"loss": 2.0}, step=1)
    mirror.flush()

    server.kill()
    started = time.monotonic()
    mirror.metrics(training, {"loss": 1.0}, step=2)
    mirror.text(training, "kept", "note.txt")
    mirror.close(training, "FINISHED")
    mirror.close(parent, "FINISHED")

    assert time.monotonic() - started < MINUTES
    assert len(mirror.warnings) == 1
    unsent = UnsentEntries(tmp_path)
    kinds = [entry["kind"] for entry in unsent.entries(training)]
    assert sorted(kinds) == ["metrics", "status", "text"]

    server.start()
    mirror.close(training, "FINISHED")

    assert steps(mirror, training, "loss") == [(1, 2.0), (2, 1.0)]
    assert connect(mirror.uri).get_run(training).info.status == "FINISHED"
    assert unsent.runs() == []
    assert "answers again" in mirror.warnings[-1]


@pytest.mark.slow
def test_a_server_that_never_answers_does_not_hang_a_run(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        mirror = mirror_of(f"http://127.0.0.1:{listener.getsockname()[1]}", "silent", tmp_path)
        started = time.monotonic()
        run = mirror.open_parent("flow", {})
        mirror.metrics(run, {"loss": 1.0})
        mirror.close(run, "FINISHED")

    assert time.monotonic() - started < MINUTES
    assert len(mirror.warnings) == 1
    kept = [entry["kind"] for entry in UnsentEntries(tmp_path).entries(run)]
    assert kept == ["opened", "metrics", "status"]
