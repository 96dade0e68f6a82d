"""Whether what a stage reads is still what its key says.

A key is made of digests. What is stored under it has to come of content with those digests, or a
run that asks for them later is given something else. So the artifacts that a stage reads are
verified when it begins and when it has ended, and so is a model outside of the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from retune.errors import ArtifactError, DataError
from retune.records import ContentRecord
from retune.spine.store import Store


def refuse_changed(store: Store, stage: str, inputs: BaseModel) -> None:
    """Refuse inputs that are not, or no longer, what their digests say.

    Args:
        store: Where artifacts among them lie; of a shared one the cache is looked at.
        stage: Of whose inputs.
        inputs: Its input records.

    Raises:
        ArtifactError: An artifact that it reads is missing or damaged.
        DataError: What it reads outside of the store has changed.
    """
    local = Store(store.root)
    for artifact in sorted({found for path in _paths(inputs) if (found := local.holder(path))}):
        wrong = local.damage(*artifact)
        if wrong is not None:
            raise ArtifactError(
                f"{stage}: it reads {local.folder(*artifact)}: {wrong}. Run the recipe again: that "
                "is computed anew first."
            )
    for record in _records(inputs):
        if (path := record.find_changed()) is not None:
            raise DataError(f"{path}: changed since the run began. Run the recipe again.")


def _values(value: Any) -> Iterator[Any]:
    if isinstance(value, BaseModel):
        yield value
        for name in type(value).model_fields:
            yield from _values(getattr(value, name))
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _values(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _values(each)
    else:
        yield value


def _paths(inputs: BaseModel) -> Iterator[Path]:
    return (each for each in _values(inputs) if isinstance(each, Path))


def _records(inputs: BaseModel) -> Iterator[ContentRecord]:
    return (each for each in _values(inputs) if isinstance(each, ContentRecord))
