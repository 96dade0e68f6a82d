"""What goes wrong in a whole run, and how that has to end; as data."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from retune.tracking import default_uri
from tests.faults.running_faults import Fault
from tests.faults.stage_faults import KILLED, MANIFEST_WRITTEN, at, calling, cut
from tests.serving import copy_tracking_database

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


def two_versions(project: Path) -> None:
    """Look whether a second version took the place of one whose files are gone."""
    path = default_uri(project / ".retune").removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database:
        versions = database.execute("SELECT version FROM model_versions ORDER BY version")
        assert versions.fetchall() == [(1,), (2,)]
        aliases = database.execute("SELECT alias, version FROM registered_model_aliases")
        assert aliases.fetchall() == [("challenger", 2)]


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
        a_run("killed in training", training("kill all"), gone=TRAINING, code=KILLED),
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
    often = "between decision and alias"
    found = [
        a_run(f"killed {name}", calling(function, "kill all"), often=name == often, **REGISTERING)
        for name, function in moments.items()
    ]
    found += [
        a_run(
            "disk full as the ledger is written",
            at("open", r"ledger/\.?small\.jsonl", "disk", "ENOSPC"),
            **{**REGISTERING, "code": 4},
        ),
        a_run(
            "files of the registered version are gone",
            before=lose_version,
            # The model is made a version once more.
            again="own",
            sound=two_versions,
        ),
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


def run_faults() -> list[Fault]:
    """Return what goes wrong in a whole run, and in what it registers."""
    return [*ended_processes(), *registrations()]
