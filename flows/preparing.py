"""The first half of every flow on a recipe: from its files to chats by side."""

from __future__ import annotations

from retune.data.prepared import PreparedData
from retune.inputs import Inputs
from tasks.aligning import prepare_pairs
from tasks.data import (
    clean_sources,
    format_sources,
    load_databases,
    load_sources,
    prepare_sides,
    remove_leaks,
    split_rows,
)
from tasks.run import RecipeRun


def prepare_data(run: RecipeRun, source: Inputs) -> PreparedData:
    """Turn a recipe's rows into chats that can be trained on and scored.

    Args:
        run: The current run; while it is planning, stages are looked up and not run.
        source: The recipe's files and model.

    Returns:
        The records of all steps.
    """
    databases = load_databases(run, source=source.databases) if source.databases else None
    rows = load_sources(run, source, databases)
    clean = clean_sources(run, source, rows)

    split = split_rows(run, rows=clean)
    split = remove_leaks(run, split=split, clean=clean, rows=rows, databases=databases)

    chats = format_sources(run, source, rows, databases, source.base)
    chat = prepare_sides(
        run, split=split, rows=rows, chats=chats, databases=databases, base=source.base
    )
    pairs = prepare_pairs(run, source, chat)
    return PreparedData(rows=rows, clean=clean, split=split, chat=chat, pairs=pairs)
