"""Whole commands, as a person starts them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.bench.processes import Work
from benchmarks.warm_run import Place
from retune.spine.store import MANIFEST, Manifest

START = """
import os
# As `retune` has it: on a busy machine a server takes its time.
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "600"
import mlflow
import flows.finetune
from prefect import flow, task
@task
def one() -> None: ...
@flow
def start() -> None:
    one()
start()
"""
"""What every run pays before anything of ours: a flow on a server of its own, and the imports."""


def python(folder: Path, words: Sequence[str]) -> Work:
    """Run Python with some arguments."""
    del folder

    def run() -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True)

    run()  # files of modules are read, and compiled, by their first import
    return run, _none


def start_server(folder: Path) -> Work:
    """Run a flow of one empty task, as a command of its own, with the imports of a run."""
    place = Place(folder, ())
    words = [sys.executable, "-c", START]
    place.execute(words)  # the first one makes the server's database
    return lambda: place.execute(words), _none


def command(folder: Path, name: str) -> Work:
    """Run a command of retune over a store that it has filled before."""
    place = Place(folder, ())
    place.run(command=name)
    return lambda: place.run(command=name), _none


def cold_run(folder: Path) -> Work:
    """Run the recipe, cut short, into an empty store; tell the seconds of all stages."""
    numbers = count()

    def run() -> Path:
        place = Place(Path(tempfile.mkdtemp(dir=folder, prefix=f"{next(numbers)}-")), ())
        place.run()
        return place.store

    return run, _stage_seconds


def _stage_seconds(store: Path) -> float:
    found = [
        Manifest.model_validate_json(path.read_bytes()) for path in store.glob(f"*/*/{MANIFEST}")
    ]
    return sum(float(each.provenance["seconds"]) for each in found)


def _none(_: Any) -> None:
    return None
