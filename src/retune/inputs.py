"""Everything that a recipe names outside of the store: found, and known by what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retune.data.sources import locate_source
from retune.modeling.reference import REFERENCE_TEXT
from retune.modeling.snapshots import locate_base
from retune.recipe.loading import LoadedRecipe
from retune.records import BaseRef, Source


@dataclass(frozen=True)
class Inputs:
    """The files and the model of a recipe.

    Attributes:
        train: Rows to learn from.
        test: Rows of a fixed test file.
        databases: What the rows ask about.
        probes: Probe cases.
        reference_text: What the quantized model is compared on.
        base: The unquantized snapshot.
    """

    train: Source
    test: Source | None
    databases: Source | None
    probes: Source | None
    reference_text: Source
    base: BaseRef


def locate_inputs(loaded: LoadedRecipe) -> Inputs:
    """Find every file and model that a recipe names, and take their digests.

    Args:
        loaded: The recipe.

    Returns:
        The inputs of the first stages.

    Raises:
        ConfigError: The model is not there, or lacks a part.
        DataError: A file is not there, or empty.
    """
    recipe, resolve = loaded.recipe, loaded.resolve

    def source(path: Path | None, name: str) -> Source | None:
        return None if path is None else locate_source(resolve(path), name)

    reference = recipe.quantization.reference_text
    return Inputs(
        train=locate_source(resolve(recipe.data.train), "data.train"),
        test=source(recipe.data.test, "data.test"),
        databases=source(recipe.data.databases, "data.databases"),
        probes=source(recipe.probes.file if recipe.probes else None, "probes.file"),
        reference_text=locate_source(
            resolve(reference) if reference else REFERENCE_TEXT, "quantization.reference_text"
        ),
        base=locate_base(loaded.resolve_model(recipe.model.id), recipe.model.revision),
    )
