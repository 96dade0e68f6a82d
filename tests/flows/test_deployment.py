"""The third way to run: `retune up`, its deployments, and what becomes of runs that are killed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from retune.registry.ledger.ledger import LEDGERS, Ledger
from retune.spine.device_lock import find_device_lock
from retune.tracking import connect
from tests.flows.conftest import environment
from tests.tiny_models import REPOSITORY
from tests.waiting import GUARD_SECONDS, free_port, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.service]

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@dataclass
class Running:
    """A `retune up` that has told where everything is."""

    process: subprocess.Popen[str]
    folder: Path
    command: list[str]
    environment: dict[str, str]
    api: str
    told: str
    notices: list[str]

    def request(self, method: str, what: str, body: Any = None) -> httpx.Response:
        """Ask Prefect's API, and ask again where its database is busy, as its own clients do."""
        answers: list[httpx.Response] = []

        def is_answered() -> bool:
            address = f"{self.api}/{what}"
            answers[:] = [httpx.request(method, address, json=body, timeout=GUARD_SECONDS)]
            return answers[0].status_code != 503

        wait_until(is_answered, what=f"Prefect's database for {method} {what}", every=1)
        return answers[0]

    def ask(self, what: str, **body: Any) -> Any:
        """Post to Prefect's API."""
        return self.request("POST", what, body).raise_for_status().json()

    def submit(self, deployment: str, **parameters: Any) -> httpx.Response:
        """Ask for a run, as the form in the UI does."""
        found = self.read(f"deployments/name/{deployment}")
        create = f"deployments/{found['id']}/create_flow_run"
        answer = self.request("POST", create, {"parameters": parameters})
        assert answer.status_code in (201, 409), answer.text
        return answer

    def state(self, run: str) -> str:
        """Return the type of a run's state."""
        return str(self.read(f"flow_runs/{run}")["state_type"])

    def read(self, what: str) -> Any:
        """Get from Prefect's API."""
        return self.request("GET", what).raise_for_status().json()

    def description_of(self, run: str) -> str:
        """Return what a person reads above the form of a suspended run."""
        keys = self.read(f"flow_runs/{run}")["state"]["state_details"]["run_input_keyset"]
        address = f"flow_runs/{run}/input/{keys['description']}"

        def is_there() -> bool:
            return self.request("GET", address).is_success

        # The state is set before what is asked.
        wait_until(is_there, what="the question's text")
        return str(self.read(address))

    @property
    def mlflow(self) -> str:
        """Address of MLflow."""
        found = re.search(r"(?m)^MLflow +(\S+)", self.told)
        assert found is not None
        return found[1]

    def slots(self) -> int:
        """Return how many slots of the device's tag are taken."""
        limits = self.ask("v2/concurrency_limits/filter")
        return int(next(each for each in limits if each["name"] == "tag:device")["active_slots"])

    def failed_tasks(self, run: str) -> list[str]:
        """Return the names of a run's tasks that failed."""
        tasks = self.ask("task_runs/filter", flow_runs={"id": {"any_": [run]}})
        return [task["name"] for task in tasks if task["state"]["type"] == "FAILED"]

    def ends_in_mlflow(self, run: str) -> list[str]:
        """Return how each run ended that the tries of a flow run made in MLflow, in order."""
        client = connect(self.mlflow)
        (experiment,) = (each for each in client.search_experiments() if each.name == "small")
        found = client.search_runs(
            [experiment.experiment_id],
            f"tags.`prefect.flow_run_id` = '{run}' and tags.`mlflow.parentRunId` IS NULL",
            order_by=["attributes.start_time ASC"],
        )
        return [str(each.info.status) for each in found]


@pytest.fixture
def notices() -> Iterator[tuple[str, list[str]]]:
    """A web server for notices: its address, and the texts that it was sent."""
    texts: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            texts.append(json.loads(body)["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", free_port()), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", texts
        server.shutdown()


@pytest.fixture
def running(project: Path, tmp_path: Path, notices: tuple[str, list[str]]) -> Iterator[Running]:
    """`retune up` in a copy of the finished project, with the deployments that ship."""
    folder = project.parent
    for name in ("deployments", "flows", "tasks", "conf", "assets"):
        shutil.copytree(REPOSITORY / name, folder / name)
    prefect, mlflow = free_port(), free_port()
    command = [sys.executable, "-m", "retune.cli", "up"]
    command += ["--port-prefect", str(prefect), "--port-mlflow", str(mlflow)]
    given = {
        **environment(folder, own_server=True),
        "PYTHONUNBUFFERED": "1",
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "RETUNE_NOTIFY_URL": notices[0],
    }
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=given, cwd=folder
    )
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if "Ctrl-C" in line:
            break
    address = f"http://127.0.0.1:{prefect}"
    try:
        yield Running(process, folder, command, given, f"{address}/api", told, notices[1])
    finally:
        if process.poll() is None:
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for child in children:
                child.kill()


def test_everything_runs_by_one_command(
    running: Running, finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told, deployed once, checked on submission, reused, mended after kills, and gone at the end.

    One story, since each of its servers takes longer to start than all that is asked of it.
    """
    say_where_it_is_and_keep_its_ports(running)
    deploying_again_doubles_nothing(running)
    wrong_parameters_are_refused_on_submission(running)
    a_run_reuses_what_the_command_line_computed(running, finished)
    a_retraining_that_ends_badly_frees_the_device(running, monkeypatch)
    a_person_is_asked_and_the_answer_promotes_without_training(running)
    automations_act_on_what_was_promoted(running)
    a_server_that_dies_is_started_again(running)
    it_stops_with_all_its_children(running)


def say_where_it_is_and_keep_its_ports(running: Running) -> None:
    """Both addresses answer; a second `retune up` names the port, and changes nothing."""
    assert running.process.poll() is None, running.told
    addresses = re.findall(r"(?m)^(?:Prefect|MLflow) +(http://127\.0\.0\.1:\d+)", running.told)
    assert len(addresses) == 2
    for address in addresses:
        page = httpx.get(address, timeout=GUARD_SECONDS, follow_redirects=True)
        assert page.is_success and "<html" in page.text.lower()
    assert "finetune/text-to-sql-demo" in running.told
    second = subprocess.run(
        running.command,
        capture_output=True,
        text=True,
        env=running.environment,
        cwd=running.folder,
        timeout=GUARD_SECONDS,
        check=False,
    )
    assert second.returncode == 7
    assert addresses[0].rpartition(":")[2] in second.stderr and "--port-prefect" in second.stderr


def deploying_again_doubles_nothing(running: Running) -> None:
    """What is there is found by its name, and a schedule that was switched on stays on."""
    nightly = running.read("deployments/name/retrain/text-to-sql-demo")
    schedule = nightly["schedules"][0]["id"]
    switch = f"deployments/{nightly['id']}/schedules/{schedule}"
    running.request("PATCH", switch, {"active": True}).raise_for_status()
    before = [len(running.ask(f"{kind}/filter")) for kind in ("deployments", "automations")]
    done = subprocess.run(
        [sys.executable, "-m", "retune.cli", "deploy"],
        capture_output=True,
        text=True,
        env={**running.environment, "PREFECT_API_URL": running.api},
        cwd=running.folder,
        timeout=GUARD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"retrain/text-to-sql-demo +next .* 03:00 America/Sao_Paulo", done.stdout)
    after = [len(running.ask(f"{kind}/filter")) for kind in ("deployments", "automations")]
    assert before == after and min(after) > 0
    nights_are_planned_as_long_as_the_schedule_is_on(running, nightly["id"], switch)


def nights_are_planned_as_long_as_the_schedule_is_on(
    running: Running, deployment: str, switch: str
) -> None:
    """Prefect's scheduler makes the runs to come, and takes them back."""

    def planned() -> list[dict[str, Any]]:
        state = {"type": {"any_": ["SCHEDULED"]}}
        found = running.ask(
            "flow_runs/filter",
            deployments={"id": {"any_": [deployment]}},
            flow_runs={"state": state},
        )
        return list(found)

    wait_until(planned, what="the scheduler to plan the nights to come", every=1)
    assert {each["expected_start_time"][11:16] for each in planned()} == {"06:00"}
    running.request("PATCH", switch, {"active": False}).raise_for_status()
    wait_until(lambda: not planned(), what="the planned runs to be taken back", every=1)


def wrong_parameters_are_refused_on_submission(running: Running) -> None:
    """No run is made of what cannot be one."""
    recipe = str(running.folder / "recipe.yaml")
    for wrong in ({"overrides": ["max_steps"]}, {"recipe": ""}, {"overrides": "training.r=1"}):
        answer = running.submit("finetune/text-to-sql-demo", **{"recipe": recipe, **wrong})
        assert answer.status_code == 409, answer.text
        assert next(iter(wrong)) in answer.json()["detail"]
    answer = running.submit("collect/pages", source="a", out="b", settings={"atempts": 3})
    assert answer.status_code == 409 and "settings" in answer.json()["detail"]


def a_run_reuses_what_the_command_line_computed(
    running: Running, finished: tuple[Path, dict[str, Any]]
) -> None:
    """The same stage keys, whoever starts the flow; nothing that is reused waits for the device."""
    recipe = str(running.folder / "recipe.yaml")
    run = running.submit("finetune/text-to-sql-demo", recipe=recipe).json()["id"]
    wait_until(lambda: running.state(run) in ENDED, what="the run's end", every=1)
    assert running.state(run) == "COMPLETED"
    tasks = running.ask("task_runs/filter", flow_runs={"id": {"any_": [run]}})
    assert len(tasks) == len(finished[1]["stages"])
    assert {task["state"]["type"] for task in tasks} == {"COMPLETED"}
    assert {tuple(task["tags"]) for task in tasks} == {("reused",)}
    assert stage_folders(running.folder) == stage_folders(finished[0].parent)


def a_retraining_that_ends_badly_frees_the_device(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, cancelled, failed: the next try or run has the device each time, and MLflow the end.

    What is killed with -9 cannot say so itself: it goes on by itself a minute later, once, and
    that second try, which Prefect counts as the same run, ends the first one's run in MLflow.
    """
    given = {"recipe": str(running.folder / "recipe.yaml"), "force": True}
    endless = ["training.max_steps=100000", "training.evaluations=0"]
    deployment, locks = "retrain/text-to-sql-demo", running.folder.parent / "run" / "retune"
    monkeypatch.setenv("RETUNE_DEVICE_LOCKS", str(locks))
    run = running.submit(deployment, **given, overrides=endless).json()["id"]
    wait_until(lambda: running.slots() == 1, what="the run's first task on the device", every=1)
    assert running.ends_in_mlflow(run) == ["RUNNING"]
    os.kill(int((locks / "device-all.lock").read_text()), signal.SIGKILL)
    take_and_give_back_the_device()
    wait_until(lambda: running.state(run) != "RUNNING", what="the run to be told", every=1)
    wait_until(lambda: running.slots() == 0, what="the end of the slot's lease", every=1)

    wait_until(lambda: running.slots() == 1, what="the second try on the device", every=1)
    assert running.ends_in_mlflow(run) == ["KILLED", "RUNNING"]
    # What it learns until it is cancelled nobody needs: others go before it.
    for each in psutil.Process(int((locks / "device-all.lock").read_text())).children():
        each.nice(10)
    running.ask(f"flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    wait_until(lambda: running.state(run) == "CANCELLED", what="the end of the run", every=1)
    wait_until(lambda: running.slots() == 0, what="the slot of what was cancelled", every=1)
    take_and_give_back_the_device()
    assert running.ends_in_mlflow(run) == ["KILLED", "KILLED"]

    wrong = ["method.target_modules=[nowhere]"]
    run = running.submit(deployment, **given, overrides=wrong).json()["id"]
    wait_until(lambda: running.state(run) in ENDED, what="the run's end", every=1)
    assert running.state(run) == "FAILED"
    assert [name.partition("-")[0] for name in running.failed_tasks(run)] == ["check_method"]
    wait_until(lambda: running.slots() == 0, what="the slot of what failed", every=1)
    take_and_give_back_the_device()
    assert running.ends_in_mlflow(run) == ["FAILED"]


def a_person_is_asked_and_the_answer_promotes_without_training(running: Running) -> None:
    """The run ends its process with the decision's table at its form, and goes on when answered."""
    given = {"recipe": str(running.folder / "recipe.yaml"), "force": True}
    settings = ["registry.approval=required", "gate.metric=probe_pass_rate", "gate.min_gain=-0.9"]
    run = running.submit("retrain/text-to-sql-demo", **given, overrides=settings).json()["id"]
    wait_until(lambda: running.state(run) in ("PAUSED", *ENDED), what="the question", every=1)
    assert running.state(run) == "PAUSED"
    wait_until(lambda: running.slots() == 0, what="the slot of what waits", every=1)
    client, stages = connect(running.mlflow), stage_folders(running.folder)
    assert client.get_model_version("small", "1").tags["retune.approval"] == "pending"
    assert "champion" not in client.get_registered_model("small").aliases
    shown = running.description_of(run)
    assert "small version 1 could become champion" in shown
    assert "| against the base | is | by | rows |" in shown and "Probe pass rate" in shown

    answer = {"approve": True, "name": "maria", "reason": "it reads well"}
    told = running.ask(f"flow_runs/{run}/resume", run_input=answer)
    assert told["status"] == "ACCEPT", told
    wait_until(lambda: running.state(run) in ENDED, what="the run's end", every=1)

    assert running.read(f"flow_runs/{run}")["state"]["name"] == "Promoted"
    assert stage_folders(running.folder) == stages
    assert int(client.get_model_version_by_alias("small", "champion").version) == 1
    last = Ledger(running.mlflow, "small", running.folder / ".retune" / LEDGERS).entries()[-1]
    assert (last.kind, last.actor, last.to_version) == ("promoted", "maria", 1)
    page = running.folder / ".retune" / "reports" / "overview-small" / "overview.html"
    assert "it reads well" in page.read_text("utf-8")


def automations_act_on_what_was_promoted(running: Running) -> None:
    """A notice is sent, and the next flow is started, for the model that the file names."""
    wait_until(
        lambda: [text for text in running.notices if text.startswith("retune.promoted: small ")],
        what="the notice of the promotion",
    )
    assert [text for text in running.notices if text.startswith("crashed: ")]

    def evaluations() -> list[dict[str, Any]]:
        champion = {"name": {"any_": ["champion"]}}
        return list(running.ask("flow_runs/filter", deployments=champion))

    assert not evaluations()
    resource = {"prefect.resource.id": "retune.model.text-to-sql-pt"}
    event = {"event": "retune.promoted", "resource": resource, "id": str(uuid.uuid4())}
    event["occurred"] = datetime.now(UTC).isoformat()
    running.request("POST", "events", [event]).raise_for_status()
    wait_until(evaluations, what="the automation's run")
    # What it would compute is another test's.
    for each in evaluations():
        running.request("DELETE", f"flow_runs/{each['id']}").raise_for_status()


def take_and_give_back_the_device() -> None:
    """Wait for the device's lock; whoever was killed holds it no more."""
    mine = find_device_lock()
    mine.take(lambda _: None)
    mine.release()


def a_server_that_dies_is_started_again(running: Running) -> None:
    """And answers at the same address, with what it knew."""
    known = len(running.ask("deployments/filter"))
    port = running.api.rpartition(":")[2].partition("/")[0]
    server = next(
        each
        for each in psutil.Process(running.process.pid).children()
        if {"server", "start", port} <= set(each.cmdline())
    )
    server.kill()
    assert running.process.stdout is not None
    assert "Prefect ended" in running.process.stdout.readline()

    def answers() -> bool:
        try:
            return httpx.get(f"{running.api}/health").is_success
        except httpx.HTTPError:
            return False

    wait_until(answers, what="the second server", every=1)
    assert len(running.ask("deployments/filter")) == known


def it_stops_with_all_its_children(running: Running) -> None:
    """SIGTERM is an end like Ctrl-C: no error, and no process left."""
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert len(children) >= 3
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(GUARD_SECONDS) == 0
    _, alive = psutil.wait_procs(children, timeout=GUARD_SECONDS)
    assert alive == []


def stage_folders(folder: Path) -> set[str]:
    return {
        manifest.parent.relative_to(folder).as_posix()
        for manifest in (folder / ".retune").glob("*/*/manifest.json")
    }
