"""What goes wrong in a whole run, and how that has to end; as data."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from retune.tracking import default_uri
from tests.faults.running_faults import Fault
from tests.faults.stage_faults import KILLED, at, calling
from tests.faulty_proxy import FaultyProxy
from tests.flows.conftest import environment
from tests.preloading import start_command
from tests.serving import copy_tracking_database, prefect_address
from tests.waiting import GUARD_SECONDS

TRAINING = ("train_adapter",)
IN_TRAINING = ("open", r"train_adapter/\w+\.work/scratch/checkpoints/checkpoint-2/")


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


@contextmanager
def prefect_is_away() -> Iterator[Mapping[str, str]]:
    with FaultyProxy(prefect_address()) as proxy:
        proxy.turn("away")
        yield {"PREFECT_API_URL": proxy.address}


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


def run_faults() -> list[Fault]:
    """Return what goes wrong in a whole run."""
    registering = {"gone": ("register_model",), "before": unregister, "code": KILLED}
    return [
        a_run(
            "killed in training",
            at(*IN_TRAINING, "kill all", where="stage process"),
            gone=TRAINING,
            code=KILLED,
            often=True,
        ),
        a_run(
            "its stage process is killed once",
            at(*IN_TRAINING, "kill it", where="stage process", times=1),
            gone=TRAINING,
            again="reused",
            often=True,
        ),
        a_run(
            "killed between decision and alias",
            calling("retune.registry.aliases.moving:HeldModel._point", "kill all"),
            often=True,
            **registering,
        ),
        a_run(
            "killed between alias and ledger",
            calling("retune.registry.aliases.moving:HeldModel.append", "kill all"),
            often=True,
            **registering,
        ),
        a_run(
            "Prefect is away",
            beside=lambda *_: prefect_is_away(),
            code=7,
            says="Prefect",
            often=True,
        ),
        a_run(
            "the same run beside it",
            gone=TRAINING,
            beside=lambda project, _: another_run(project),
            again="reused",
            often=True,
        ),
    ]
