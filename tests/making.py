"""What tests are made of: work folders, sources, settings."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import TypeAdapter

from retune.data.sources import LocatedRows
from retune.data.stages import LoadInputs
from retune.digests import digest_file
from retune.recipe.recipe import Recipe
from retune.records import DatabasesRef, Source
from retune.spine.stage import Settings, Workdir


def make_workdir(folder: Path) -> Workdir:
    """Make the folders of a computation."""
    for name in ("artifact", "scratch"):
        (folder / name).mkdir(parents=True)
    return Workdir(folder / "artifact", folder / "scratch")


def source_of(path: Path) -> Source:
    """Return a file and its digest."""
    return Source(digest=digest_file(path), path=path)


def settings_of(kind: type[Settings], **sections: Any) -> Any:
    """Build a stage's settings from plain mappings, as a recipe file gives its sections."""
    fields = Recipe.model_fields
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in fields.items()
        if not field.is_required()
    }
    given = {
        name: TypeAdapter(fields[name].annotation).validate_json(json.dumps(section))
        for name, section in sections.items()
    }
    return kind.of(SimpleNamespace(**defaults | given))


def load_inputs(located: LocatedRows, databases: DatabasesRef | None = None) -> LoadInputs:
    """Return what `load_rows` is given of a source of rows that was found."""
    names = LoadInputs.model_fields.keys() - {"databases"}
    return LoadInputs(**{name: getattr(located, name) for name in names}, databases=databases)
