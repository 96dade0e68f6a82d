"""Everything that a recipe names outside of the store: found, and known by what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from retune.data.chats.templates import locate_template
from retune.data.sources import LocatedRows, locate_databases, locate_rows, locate_source
from retune.errors import ConfigError, RetuneError
from retune.modeling.reference import REFERENCE_TEXT
from retune.modeling.snapshots import locate_base
from retune.recipe.loading import LoadedRecipe
from retune.recipe.recipe import Recipe
from retune.recipe.sections import prompt_fields
from retune.records import BaseRef, RowSource, Source


@dataclass(frozen=True)
class RowInput:
    """One source of rows.

    Attributes:
        located: Its files or hub dataset, its format and columns.
        key: Dotted path in the recipe, as messages name it.
        held_out: Whether its rows are for the final scores alone.
        weight: Its share in the mix; None where nothing is mixed.
    """

    located: LocatedRows
    key: str
    held_out: bool
    weight: float | None

    @property
    def asks_sql(self) -> bool:
        """Whether its rows are answered with a query."""
        return self.located.format == "text_to_sql"


@dataclass(frozen=True)
class Inputs:
    """The files and the model of a recipe.

    Attributes:
        rows: Sources to learn from, then the fixed held-out ones.
        databases: What the rows ask about.
        probes: Probe cases.
        reference_text: What the quantized model is compared on.
        base: The unquantized snapshot.
        template: The chat template, when it is not the tokenizer's own.
    """

    rows: tuple[RowInput, ...]
    databases: RowSource | None
    probes: Source | None
    reference_text: Source
    base: BaseRef
    template: Source | None

    @property
    def asks_sql(self) -> bool:
        """Whether any row is answered with a query."""
        return any(row.asks_sql for row in self.rows)


def locate_inputs(loaded: LoadedRecipe, *, with_weights: bool = True) -> Inputs:
    """Find every file and model that a recipe names, and take their digests.

    Args:
        loaded: The recipe.
        with_weights: Whether a model of the hub is downloaded as a whole; for a look at the data
            its tokenizer is enough, and that its weights may be read.

    Returns:
        The inputs of the first stages.

    Raises:
        ConfigError: The model or a dataset is not there or lacks a part, or the recipe asks of the
            rows what their format does not have; where several inputs are wrong, all of them.
        DataError: A file is not there, or empty.
    """
    recipe, resolve = loaded.recipe, loaded.resolve
    reference = recipe.quantization.reference_text or REFERENCE_TEXT
    databases, probes = recipe.data.databases, recipe.probes
    attempts = _Attempts()
    rows = attempts.make(lambda: _located_rows(loaded))
    found = {
        "databases": attempts.make(
            lambda: locate_databases(resolve(databases)) if databases else None
        ),
        "probes": attempts.make(
            lambda: locate_source(resolve(probes.file), "probes.file") if probes else None
        ),
        "reference_text": attempts.make(
            lambda: locate_source(resolve(reference), "quantization.reference_text")
        ),
        "base": attempts.make(
            lambda: locate_base(
                loaded.resolve_model(recipe.model.id),
                recipe.model.revision,
                with_weights=with_weights,
            )
        ),
        "template": attempts.make(
            lambda: locate_template(recipe.prompt, resolve, loaded.resolve_model)
        ),
    }
    attempts.raise_failures()
    return Inputs(rows=cast(tuple[RowInput, ...], rows), **cast(dict[str, Any], found))


class _Attempts:
    """Tries to find several things, and tells of all that failed at once."""

    def __init__(self) -> None:
        self._failures: list[RetuneError] = []

    def make(self, attempt: Callable[[], object]) -> object:
        try:
            return attempt()
        except RetuneError as error:
            self._failures.append(error)
            return None

    def raise_failures(self) -> None:
        if len(self._failures) == 1:
            raise self._failures[0]
        if self._failures:
            raise ConfigError("\n".join(error.message for error in self._failures))


def _located_rows(loaded: LoadedRecipe) -> tuple[RowInput, ...]:
    rows = locate_all_rows(loaded)
    _refuse_unfit(loaded.recipe, rows)
    return rows


def locate_all_rows(loaded: LoadedRecipe) -> tuple[RowInput, ...]:
    """Find every source of rows, those to learn from first.

    Args:
        loaded: The recipe.

    Returns:
        One entry per source.

    Raises:
        ConfigError: A hub dataset is not there.
        DataError: A file is not there, or its format is not known.
    """
    data = loaded.recipe.data
    sides = (("train", data.train), ("test", data.test or ()))
    return tuple(
        RowInput(
            located=locate_rows(source, data, loaded.resolve, f"data.{side}.{place}"),
            key=f"data.{side}.{place}",
            held_out=side == "test",
            weight=source.weight,
        )
        for side, sources in sides
        for place, source in enumerate(sources)
    )


def _refuse_unfit(recipe: Recipe, rows: tuple[RowInput, ...]) -> None:
    if any(row.asks_sql for row in rows):
        return
    formats = ", ".join(sorted({row.located.format for row in rows}))
    metric = recipe.gate.metric
    if metric is not None and metric.startswith("sql_"):
        raise ConfigError(
            f"gate.metric is {metric}, but no source of rows is text-to-SQL (found: {formats}). "
            "Choose another metric, or state format: text_to_sql for the source."
        )
    if recipe.prompt.user is not None and "schema" in prompt_fields(recipe.prompt.user):
        raise ConfigError(
            "prompt.user has {schema}, but no source of rows is text-to-SQL (found: "
            f"{formats}), so there is no schema to show. Remove {{schema}}, or name data.databases."
        )


def display_names(source: RowSource, root: Path) -> tuple[str, ...]:
    """Return how reports name the files of a source.

    Args:
        source: The source.
        root: The project's root.

    Returns:
        Paths relative to the root where they lie below it, or the hub id.
    """
    if source.hub is not None:
        return (source.name,)
    return tuple(
        str(path.relative_to(root) if path.is_relative_to(root) else path) for path in source.files
    )
