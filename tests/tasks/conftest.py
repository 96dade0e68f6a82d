"""Runs and jobs made by hand: a temporary store, a watcher that remembers, small records."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retune.data.prepared import PreparedData
from retune.data.sources import LocatedRows
from retune.inputs import Inputs, RowInput
from retune.model_records import AdapterRef, BaseRef, ModelRef
from retune.recipe.loading import load_recipe
from retune.recipe.sections.data import ColumnsConfig
from retune.records import ChatRef, CleanRef, DatasetRef, RowSource, Source, SplitRef
from retune.watching import WATCHER, SilentWatcher, StageLine
from tasks.runs.job import Job
from tasks.runs.opening import prepare_run
from tasks.runs.run import RecipeRun
from tasks.runs.stage_task import Pending
from tests.serving import copy_tracking_database, on_shared_server

MakeRun = Callable[..., RecipeRun]
MakeJob = Callable[..., Job]


class Told(SilentWatcher):
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.lines: list[StageLine] = []
        self.notes: list[str] = []
        self.begun: list[tuple[str, str]] = []
        self.moved: list[tuple[str, str, int, int]] = []

    def started(self, label: str, reason: str) -> None:
        self.begun.append((label, reason))

    def progress(self, label: str, what: str, done: int, total: int) -> None:
        self.moved.append((label, what, done, total))

    def finished(self, line: StageLine) -> None:
        self.lines.append(line)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def told() -> Iterator[Told]:
    """The watcher of runs that are made here."""
    watcher = Told()
    token = WATCHER.set(watcher)
    yield watcher
    WATCHER.reset(token)


@pytest.fixture
def server() -> Iterator[None]:
    """Prefect's server for tests that call tasks in this process."""
    with on_shared_server():
        yield


@pytest.fixture
def tracking(tmp_path: Path) -> None:
    """An MLflow database, empty and up to date, in the store of runs that are made here."""
    copy_tracking_database(tmp_path / ".retune")


def write_recipe(folder: Path, **sections: Any) -> Path:
    """Write a recipe with the least that it needs; its files need not be there."""
    body = {
        "name": "small",
        "data": {"train": "rows.jsonl"},
        "model": {"id": "model"},
        "registry": {"model_name": "small"},
        **sections,
    }
    (folder / "pyproject.toml").touch()  # marks the project's root
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(body), "utf-8")
    return path


@pytest.fixture
def make_run(tmp_path: Path, told: Told) -> MakeRun:
    """Return a maker of runs that plan, by sections of their recipe."""

    def make(**sections: Any) -> RecipeRun:
        loaded = load_recipe(write_recipe(tmp_path, **sections), ())
        return prepare_run(loaded, planning=True, told=True)

    return make


def locate(place: int = 0, format_name: Any = "text_to_sql", side: str = "train") -> RowInput:
    """Return a source of rows that was found."""
    located = LocatedRows(
        source=RowSource(digest=f"rows{place}", name="rows.jsonl"),
        format=format_name,
        columns=ColumnsConfig(),
        detected=True,
        labels=None,
        encoding=None,
        max_row_bytes=1000,
        max_rows=None,
    )
    held_out = side == "test"
    return RowInput(located=located, key=f"data.{side}.{place}", held_out=held_out, weight=None)


def make_inputs(folder: Path, *rows: RowInput, **given: Any) -> Inputs:
    """Return what a recipe names, over a base without files."""
    source = Source(digest="text", path=folder / "text.jsonl")
    named: dict[str, Any] = dict.fromkeys(
        ("databases", "probes", "counterfactuals", "paraphrases", "template")
    )
    base = BaseRef(
        digest="base", folder=folder / "base", model_id="m", revision=None, tokenizer_digest="t"
    )
    named |= {"general_text": source, "reference_text": source, "base": base, **given}
    return Inputs(rows=rows or (locate(),), **named)


def make_data(folder: Path, labels: tuple[str, ...] = ()) -> PreparedData:
    """Return the records of rows, without their files."""
    rows = DatasetRef(
        digest="d", folder=folder, format="text", rows=4, bad_rows=0, labels=labels, databases=0
    )
    return PreparedData(
        rows=(rows,),
        clean=CleanRef(digest="c", folder=folder, rows=4, test_rows=0, faults={}),
        split=SplitRef(digest="s", folder=folder, train=2, validation=1, test=1, groups_shared=0),
        chat=ChatRef(
            digest="h",
            folder=folder,
            train=2,
            validation=1,
            test=1,
            side_digests={"train": "x", "validation": "y", "test": "z"},
            tokenizer_digest="t",
            train_tokens=20,
            answer_tokens=8,
            longest_tokens=10,
            faults={},
        ),
    )


PENDING: Any = Pending()
UNKNOWN = PreparedData(rows=(PENDING,), clean=PENDING, split=PENDING, chat=PENDING)
"""Rows that a plan does not know yet."""


@pytest.fixture
def make_job(tmp_path: Path, make_run: MakeRun) -> MakeJob:
    """Return a maker of jobs that plan, whose rows are not known."""

    def make(*rows: RowInput, given: dict[str, Any] | None = None, **sections: Any) -> Job:
        return Job(make_run(**sections), make_inputs(tmp_path, *rows, **(given or {})), UNKNOWN)

    return make


def with_rows(job: Job, folder: Path, labels: tuple[str, ...] = ()) -> Job:
    """Return the job with rows that are known."""
    return replace(job, data=make_data(folder, labels))


def make_model(folder: Path) -> ModelRef:
    """Return the record of a model that training starts from."""
    return ModelRef(
        digest="model",
        folder=folder,
        quantization="none",
        parameters=10,
        footprint_bytes=40,
        base_footprint_bytes=40,
        reference_perplexity=2.0,
        base_reference_perplexity=2.0,
    )


def make_adapter(folder: Path, **changes: Any) -> AdapterRef:
    """Return the record of a trained adapter."""
    figures: dict[str, Any] = {
        "digest": "adapter",
        "folder": folder,
        "trainable_parameters": 2,
        "total_parameters": 12,
        "steps": 4,
        "best_step": 4,
        "resumed_from_step": 0,
        "train_loss": 1.5,
        "validation_loss": 1.25,
        "base_validation_loss": 2.0,
    }
    return AdapterRef(**figures | changes)


def labels_of(job: Job) -> list[str]:
    """Return the stages that a job has planned so far, with their roles."""
    return [line.label for line in job.run.lines]
