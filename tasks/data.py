"""Tasks on rows, and the two that go over all sources."""

from __future__ import annotations

from dataclasses import replace

from retune.data import stages
from retune.inputs import Inputs, display_names
from retune.model_records import BaseRef
from retune.records import CleanRef, DatabasesRef, DatasetRef, EncodedRef
from tasks.runs.job import Job
from tasks.runs.run import RecipeRun
from tasks.runs.stage_task import StageTask

load_databases = StageTask(stages.load_databases)
load_rows = StageTask(stages.load_rows)
clean_rows = StageTask(stages.clean_rows)
split_rows = StageTask(stages.split_rows)
remove_leaks = StageTask(stages.remove_leaks)
format_chat = StageTask(stages.format_chat)
prepare_sides = StageTask(stages.prepare_sides)


def load_sources(
    run: RecipeRun, inputs: Inputs, databases: DatabasesRef | None
) -> tuple[DatasetRef, ...]:
    """Read every source by itself, so that a new one leaves the others as they are."""
    return tuple(
        load_rows.of(_role(inputs, row.key))(
            run,
            source=row.located.source,
            format=row.located.format,
            columns=row.located.columns,
            labels=row.located.labels,
            encoding=row.located.encoding,
            max_row_bytes=row.located.max_row_bytes,
            max_rows=row.located.max_rows,
            ignore=row.located.ignore,
            databases=databases if row.asks_sql else None,
        )
        for row in inputs.rows
    )


def clean_sources(run: RecipeRun, inputs: Inputs, rows: tuple[DatasetRef, ...]) -> CleanRef:
    """Look at the rows of all sources together, and keep what the recipe wants kept."""
    return clean_rows(
        run,
        rows=rows,
        weights=tuple(row.weight for row in inputs.rows),
        held_out=tuple(row.held_out for row in inputs.rows),
        names=tuple(display_names(row.located.source, run.loaded.root) for row in inputs.rows),
    )


def format_sources(
    run: RecipeRun,
    inputs: Inputs,
    rows: tuple[DatasetRef, ...],
    databases: DatabasesRef | None,
    base: BaseRef,
) -> tuple[EncodedRef, ...]:
    """Render and tokenize every source by itself."""
    return tuple(
        format_chat.of(_role(inputs, row.key))(
            run,
            rows=each,
            databases=databases if row.asks_sql else None,
            base=base,
            template=inputs.template,
        )
        for row, each in zip(inputs.rows, rows, strict=True)
    )


def retokenize_rows(job: Job, name: str, reader: BaseRef) -> Job:
    """Return the job with the same rows as a model with another tokenizer or template reads them.

    Args:
        job: With the rows as the recipe's base reads them.
        name: Of the model, for people.
        reader: The snapshot whose tokenizer and template make the rows.
    """
    job.run.watcher.note(f"{name} has another tokenizer or template: its rows are made anew")
    return render_rows(job, reader)


def render_rows(job: Job, reader: BaseRef) -> Job:
    """Return the job with the same rows, written as its recipe and a model's template say.

    Args:
        job: With the rows and their sides.
        reader: The snapshot whose tokenizer and template make the rows.
    """
    run, inputs, data = job.run, job.inputs, job.data
    databases = load_databases(run, source=inputs.databases) if inputs.databases else None
    chats = format_sources(run, inputs, data.rows, databases, reader)
    chat = prepare_sides(
        run, split=data.split, rows=data.rows, chats=chats, databases=databases, base=reader
    )
    return replace(job, data=replace(data, chat=chat))


def _role(inputs: Inputs, key: str) -> str:
    """Name a source in a line of the run: ``train`` where it is the only one of its side."""
    side = key.split(".")[1]
    alone = sum(row.key.split(".")[1] == side for row in inputs.rows) == 1
    return side if alone else key.removeprefix("data.")
