"""What goes wrong in a whole run, and how that has to end; as data."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from retune.tracking import default_uri
from tests.faults.running_faults import Fault
from tests.faults.stage_faults import (
    KILLED,
    MANIFEST_WRITTEN,
    at,
    calling,
    cut,
    restoring,
)
from tests.faulty_proxy import FaultyProxy, State
from tests.flows.conftest import environment
from tests.preloading import start_command
from tests.serving import copy_tracking_database, prefect_address
from tests.waiting import GUARD_SECONDS, closed_port

TRAINING = ("train_adapter",)
IN_TRAINING = ("open", r"train_adapter/\w+\.work/scratch/checkpoints/checkpoint-2/")
AT_THE_ADAPTER = ("os.mkdir", r"train_adapter/\w+\.work/artifact/log$")


def manifest_of(stage: str) -> tuple[str, str]:
    event, path = MANIFEST_WRITTEN
    return event, path.replace("{key}", rf"{stage}/\w+")


def one_version(project: Path) -> None:
    """Look whether the model is registered once, said so once, and nothing holds it."""
    path = default_uri(project / ".retune").removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database:
        versions = database.execute("SELECT name, version FROM model_versions").fetchall()
        aliases = database.execute("SELECT name, alias, version FROM registered_model_aliases")
        models = database.execute("SELECT name FROM registered_models").fetchall()
        assert versions == [("small", 1)], versions
        assert aliases.fetchall() == [("small", "challenger", 1)]
        assert models == [("small",)], models
    lines = (project / ".retune" / "ledger" / "small.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["rejected"]


def unregister(project: Path) -> None:
    """Leave MLflow and the ledger as they were before the first registration."""
    store = project / ".retune"
    shutil.rmtree(store / "mlflow")
    copy_tracking_database(store)
    (store / "ledger" / "small.jsonl").unlink()
    shutil.rmtree(store / "manifests")


def a_run(name: str, plan: Mapping[str, Any] | None = None, **given: Any) -> Fault:
    return Fault(f"run: {name}", plan or {}, **{"sound": one_version, **given})


def ended_processes() -> list[Fault]:
    """The run, its stage process, or both are ended, or stand still."""

    def training(does: str, moment: tuple[str, str] = IN_TRAINING, **more: Any) -> dict[str, Any]:
        return at(*moment, does, where="stage process", **more)

    return [
        a_run("killed in training", training("kill all"), gone=TRAINING, code=KILLED, often=True),
        a_run(
            "its stage process is killed once",
            training("kill it", times=1),
            gone=TRAINING,
            again="reused",
            often=True,
        ),
        a_run(
            "its stage process is killed each time",
            training("kill it", AT_THE_ADAPTER),
            gone=TRAINING,
            code=5,
            says="the stage process died (SIGKILL: killed by hand or by the kernel",
        ),
        a_run(
            "its stage process breaks off once",
            training("segfault", times=1),
            gone=TRAINING,
            again="reused",
        ),
        a_run(
            "its stage process is asked to stop",
            training("ask it to stop"),
            gone=TRAINING,
            code=130,
            says="run again to go on",
        ),
        a_run(
            "its stage process stands still for a while",
            training("stop it for", given=2.0, times=1),
            gone=TRAINING,
            again="reused",
        ),
        a_run(
            "it stands still for a while",
            at(*manifest_of("decide"), "stop it for", 2.0, times=1),
            gone=("decide",),
            again="reused",
        ),
        a_run(
            "interrupted in training",
            training("interrupt all"),
            gone=TRAINING,
            code=130,
            says="run again to go on",
        ),
        a_run(
            "asked to stop as it decides",
            at(*manifest_of("decide"), "ask it to stop", where="run"),
            gone=("decide",),
            code=130,
            says="run again to go on",
        ),
        a_run(
            "killed as it decides",
            at(*manifest_of("decide"), "kill all"),
            gone=("decide",),
            code=KILLED,
        ),
        a_run(
            "killed as the report is written",
            at("open", r"/reports/\w+/report\.html$", "kill all"),
            code=KILLED,
            again="reused",
        ),
        a_run(
            "memory runs out as rows are cleaned",
            calling("retune.data.quality.cleaning:clean_rows", "raise", "builtins:MemoryError"),
            gone=("clean_rows",),
            code=5,
            says="memory",
        ),
    ]


REGISTERING = {"gone": ("register_model",), "before": unregister, "code": KILLED}


def registrations() -> list[Fault]:
    """Killed between the parts of a registration: version, alias, ledger, manifest."""
    moments = {
        "before the version is made": "retune.registry.registering:create_version",
        "between version and check": "retune.registry.registering:reload_version",
        "between version and decision": "retune.registry.registering:record_decision",
        "between decision and alias": "retune.registry.aliases.moving:HeldModel._point",
        "between alias and ledger": "retune.registry.aliases.moving:HeldModel.append",
        "between the ledger's two places": "retune.registry.ledger.places:LedgerFile.add",
    }
    found = [
        a_run(f"killed {name}", calling(function, "kill all"), often="alias" in name, **REGISTERING)
        for name, function in moments.items()
    ]
    found += [
        a_run(
            "disk full as the ledger is written",
            at("open", r"ledger/\.?small\.jsonl", "disk", "ENOSPC"),
            **{**REGISTERING, "code": 4},
        ),
        a_run("files of the registered version are gone", before=lose_version, again="reused"),
        a_run("the ledger's last line was cut short", before=cut_ledger, again="reused"),
        a_run("the ledger's file is gone", before=lose_ledger, again="reused"),
        a_run(
            "the version's manifest was cut short",
            before=lambda project: cut(project / ".retune" / "manifests" / "small" / "1.json"),
            again="reused",
        ),
    ]
    return found


def lose_version(project: Path) -> None:
    shutil.rmtree(project / ".retune" / "mlflow" / "artifacts")


def cut_ledger(project: Path) -> None:
    path = project / ".retune" / "ledger" / "small.jsonl"
    os.truncate(path, path.stat().st_size - 40)


def lose_ledger(project: Path) -> None:
    (project / ".retune" / "ledger" / "small.jsonl").unlink()


@contextmanager
def prefect_is(state: State, delay: float = 0.0) -> Iterator[Mapping[str, str]]:
    with FaultyProxy(prefect_address(), delay=delay) as proxy:
        proxy.turn(state)
        yield {"PREFECT_API_URL": proxy.address}


@contextmanager
def mlflow_is(state: State) -> Iterator[Mapping[str, str]]:
    with closed_port() as port, FaultyProxy(f"http://127.0.0.1:{port}/") as proxy:
        proxy.turn(state)
        yield {"tracking.uri": proxy.address}


@contextmanager
def database_is_held(project: Path) -> Iterator[None]:
    """Hold MLflow's database, as a backup does, for longer than one statement waits."""
    path = default_uri(project / ".retune").removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.rollback()


@contextmanager
def another_run(project: Path) -> Iterator[None]:
    """Start the same run beside; both have to end well."""
    other = start_command(
        "retune.cli",
        ["run", str(project / "recipe.yaml"), "--json"],
        folder=project,
        environment=environment(project),
    )
    yield
    done = other.finish(GUARD_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]


@contextmanager
def broken_memory_of_digests(project: Path) -> Iterator[Mapping[str, str]]:
    (project / "cache" / "retune").mkdir(parents=True)
    (project / "cache" / "retune" / "digests.sqlite").write_bytes(b"no database" * 500)
    yield {"XDG_CACHE_HOME": str(project / "cache")}


def services() -> list[Fault]:
    """Prefect and MLflow: away, failing, slow."""

    def of_prefect(state: State, delay: float = 0.0) -> Callable[[Path, str], Any]:
        return lambda _, __: prefect_is(state, delay)

    return [
        a_run("Prefect is away", beside=of_prefect("away"), code=7, says="Prefect", often=True),
        a_run("Prefect answers with errors", beside=of_prefect("failing"), code=7, says="Prefect"),
        a_run(
            "Prefect is slow",
            beside=of_prefect("slow", 0.2),
            gone=TRAINING,
            again="reused",
        ),
        a_run("MLflow is away", beside=lambda *_: mlflow_is("away"), code=7, says="MLflow"),
        a_run(
            "MLflow answers with errors",
            beside=lambda *_: mlflow_is("failing"),
            code=7,
            says="MLflow",
        ),
        a_run(
            "MLflow's database is held by another program",
            beside=lambda project, _: database_is_held(project),
            code=7,
            says="mlflow.db",
        ),
        a_run(
            "MLflow's database is none",
            code=7,
            says="mlflow.db",
            **restoring(".retune/mlflow/mlflow.db", b"no database" * 500),
        ),
    ]


def surroundings() -> list[Fault]:
    """Files of the project and of the store that change, or are not what they were."""
    row = {
        "path": "{project}/data/train.jsonl",
        "text": '{"id": "new", "db_id": "loja", "question": "?", "query": "SELECT 1"}\n',
    }
    return [
        a_run(
            "the same run beside it",
            gone=TRAINING,
            beside=lambda project, _: another_run(project),
            again="reused",
            often=True,
        ),
        a_run(
            "the recipe changes in the middle",
            at(
                *IN_TRAINING,
                "append",
                {"path": "{project}/recipe.yaml", "text": "gate:\n  min_gain: 0.9\n"},
                times=1,
            ),
            gone=TRAINING,
            # The decision alone is made anew, and says what the next recipe asked for.
            again="own",
            sound=lambda _: None,
        ),
        a_run(
            "the recipe becomes unreadable in the middle",
            at(*IN_TRAINING, "append", {"path": "{project}/recipe.yaml", "text": "\t: ["}, times=1),
            gone=TRAINING,
            again="reused",
            **restoring("recipe.yaml"),
        ),
        a_run(
            "rows are deleted in the middle",
            at(*IN_TRAINING, "write", row | {"text": ""}, times=1),
            gone=TRAINING,
            again="reused",
            **restoring("data/train.jsonl"),
        ),
        a_run(
            "the base changes while it is trained on",
            at(*IN_TRAINING, "append", {"path": "{project}/model/config.json", "text": " "}),
            gone=TRAINING,
            code=3,
            says="changed since the run began",
            **restoring("model/config.json"),
        ),
        a_run(
            "what is remembered of digests is no database",
            beside=lambda project, _: broken_memory_of_digests(project),
            gone=TRAINING,
            again="reused",
        ),
        a_run("earlier keys and requests were cut short", before=cut_notes, again="reused"),
        a_run("what estimates were off by was cut short", before=cut_calibration, again="reused"),
        a_run(
            "Prefect's own results are gone",
            before=lambda project: shutil.rmtree(project / "prefect"),
            again="reused",
        ),
        a_run("Prefect's own results were cut short", before=cut_results, again="reused"),
        a_run(
            "disk full as the report is written",
            at("open", r"/reports/\w+/", "disk", "ENOSPC"),
            code=4,
            says="no disk space left",
            again="reused",
        ),
        a_run(
            "the folder of logs cannot be written",
            at("open", r"/logs/", "disk", "EROFS"),
            gone=TRAINING,
            code=4,
            says="cannot be written",
        ),
        a_run(
            "the store cannot be written",
            before=lambda project: hide_store(project),
            lifted=lambda project: show_store(project),
            code=4,
            says="store.folder",
            again="reused",
        ),
        a_run(
            "every artifact of a model is cut short",
            before=cut_models,
            again="reused",
        ),
    ]


def cut_notes(project: Path) -> None:
    for kind in ("known", "requests"):
        for path in (project / ".retune" / kind).rglob("*.json"):
            cut(path)


def cut_calibration(project: Path) -> None:
    for path in (project / ".retune").glob("*calibration*.json"):
        cut(path)


def cut_results(project: Path) -> None:
    for path in (project / "prefect" / "storage").rglob("*"):
        if path.is_file():
            cut(path)


def hide_store(project: Path) -> None:
    (project / ".retune").rename(project / "aside")
    (project / ".retune").write_text("a file")


def show_store(project: Path) -> None:
    (project / ".retune").unlink()
    (project / "aside").rename(project / ".retune")


def cut_models(project: Path) -> None:
    for stage in ("quantize_model", "train_adapter", "merge_adapter"):
        for path in (project / ".retune" / stage).glob("*/*.safetensors"):
            cut(path)


def run_faults() -> list[Fault]:
    """Return what goes wrong in a whole run."""
    return [*ended_processes(), *registrations(), *services(), *surroundings()]
