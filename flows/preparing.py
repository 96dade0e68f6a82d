"""The first half of every flow on a recipe: from its files to chats by side."""

from __future__ import annotations

from pathlib import Path

from retune.data.prepared import PreparedData
from retune.inputs import Inputs
from tasks.alignment import prepare_pairs
from tasks.data import (
    clean_sources,
    format_sources,
    load_databases,
    load_sources,
    prepare_sides,
    remove_leaks,
    split_rows,
)
from tasks.remembering import find_earlier_rows, keep_rows
from tasks.runs.job import Job
from tasks.runs.run import RecipeRun


def prepare_job(run: RecipeRun, inputs: Inputs, earlier: Path | None = None) -> Job:
    """Turn a recipe's rows into chats that can be trained on and scored.

    Args:
        run: The current run; while it is planning, stages are looked up and not run.
        inputs: The recipe's files and model.
        earlier: What the rows of an earlier version were; None for those of the champion.

    Returns:
        The run with its inputs and rows.
    """
    databases = load_databases(run, source=inputs.databases) if inputs.databases else None
    rows = load_sources(run, inputs, databases)
    clean = clean_sources(run, inputs, rows)

    earlier = earlier or find_earlier_rows(run)
    split = split_rows(run, rows=clean, kept=keep_rows(run, clean, earlier))
    split = remove_leaks(run, split=split, clean=clean, rows=rows, databases=databases)

    chats = format_sources(run, inputs, rows, databases, inputs.base)
    chat = prepare_sides(
        run, split=split, rows=rows, chats=chats, databases=databases, base=inputs.base
    )
    pairs = prepare_pairs(run, inputs, chat)
    return Job(run, inputs, PreparedData(rows, clean, split, chat, pairs, earlier))
