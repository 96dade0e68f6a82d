"""A small project that a flow retrains in seconds, and one finished run of it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from retune.tracking import default_uri
from tests.preloading import run_command
from tests.serving import copy_tracking_database, prefect_address
from tests.tiny_models import REPOSITORY, write_snapshot
from tests.waiting import GUARD_SECONDS

TRAIN_ROWS, TEST_ROWS = 48, 8
PATHS_IN_MLFLOW = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def write_project(folder: Path, family: str = "llama") -> Path:
    """Write a project: a few real rows, a tiny model, and a recipe.

    Args:
        folder: Where to.
        family: Of the model.

    Returns:
        The recipe's file.
    """
    data = REPOSITORY / "assets" / "text_to_sql_pt"
    (folder / "data").mkdir(parents=True)
    for name, count in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
        lines = (data / f"{name}.jsonl").read_text("utf-8").splitlines(keepends=True)
        (folder / "data" / f"{name}.jsonl").write_text("".join(lines[:count]), "utf-8")
    shutil.copy(data / "databases.jsonl", folder / "data")
    shutil.copy(REPOSITORY / "conf" / "probes" / "text_to_sql_pt.yaml", folder / "probes.yaml")
    write_snapshot(folder / "model", family)
    (folder / "pyproject.toml").touch()  # marks the project's root
    recipe: dict[str, Any] = {
        "name": "small",
        "data": {f: f"data/{f}.jsonl" for f in ("train", "test", "databases")},
        "split": {"validation_fraction": 0.2},
        "model": {"id": "model"},
        "training": {"max_steps": 4, "batch_size": 4, "evaluations": 2, "learning_rate": 1.0e-2},
        "scoring": {"max_new_tokens": 8, "resamples": 200},
        "probes": {"file": "probes.yaml", "max_new_tokens": 4},
        "merge": {"check_rows": 4},
        "registry": {"model_name": "small", "check_rows": 2},
    }
    copy_tracking_database(folder / ".retune")
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    return path


def environment(home: Path, *, own_server: bool = False) -> dict[str, str]:
    """Return an environment whose Prefect, cache and settings lie below `home`.

    Args:
        home: Where to.
        own_server: Let each run start a Prefect server of its own, as a user's first one does.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
    # Nobody reads in the shared server what a run said: a user's own keeps it.
    shared = {"PREFECT_LOGGING_TO_API_ENABLED": "false"}
    server = {} if own_server else {**shared, "PREFECT_API_URL": prefect_address()}
    return {
        **kept,
        **server,
        "PREFECT_HOME": str(home / "prefect"),
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "140",
    }


def retune(
    recipe: Path,
    *arguments: str,
    command: str = "run",
    own_server: bool = False,
    cold: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run the command line on a recipe, as a user does.

    Args:
        recipe: Its file.
        arguments: Of the command, after the recipe.
        command: Such as ``check``.
        own_server: Let it start a Prefect server of its own; it is then started from nothing.
        cold: Start it from nothing: what it starts in turn is not forked either.
    """
    return run_command(
        "retune.cli",
        [command, str(recipe), *arguments],
        folder=recipe.parent,
        environment=environment(recipe.parent, own_server=own_server),
        timeout=GUARD_SECONDS,
        cold=cold or own_server,
    )


def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the JSON object that a command printed last."""
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One finished run: the recipe's file and its summary. Do not change; copy it.

    Of several workers, the first that needs it makes it for all.
    """
    own = tmp_path_factory.mktemp("finished")
    workers = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        workers = workers.parent
    made = workers / "finished.json"
    with FileLock(workers / "finished.lock"):
        if not made.is_file():
            recipe = write_project(own / "project")
            summary = last_json(retune(recipe, "--json", own_server=True))
            made.write_text(json.dumps({"recipe": str(recipe), "summary": summary}), "utf-8")
    found = json.loads(made.read_text("utf-8"))
    return Path(found["recipe"]), found["summary"]


@pytest.fixture
def project(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> Iterator[Path]:
    """A copy of the finished project, free to change; its stages are found where they now lie."""
    copy = tmp_path / "project"
    copy_project(finished[0].parent, copy)
    yield copy / "recipe.yaml"


def copy_project(source: Path, copy: Path) -> None:
    """Copy a project whose runs then write their files into the copy.

    MLflow keeps whole paths in its database: without this, a run of the copy would change the
    files of `source`, which other tests read.
    """
    shutil.copytree(source, copy)
    database = default_uri(copy / ".retune").removeprefix("sqlite:///")
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in PATHS_IN_MLFLOW:
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)",
                (str(source), str(copy)),
            )
