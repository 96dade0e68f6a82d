"""What a version declares to whoever serves it: text in, text out, and pinned libraries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from retune.spine.provenance import library_versions

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

_SERVED_TOKENS = 256


def text_signature() -> ModelSignature:
    """Return the signature of a model that continues prompts."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    # `mlflow models serve` drops every generation parameter that is not declared here.
    params = [
        ParamSpec("max_new_tokens", DataType.long, _SERVED_TOKENS),
        ParamSpec("do_sample", DataType.boolean, False),
        ParamSpec("return_full_text", DataType.boolean, False),
        # A rendered chat has its begin token; a second one would be another prompt.
        ParamSpec("add_special_tokens", DataType.boolean, False),
    ]
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string)]),
        outputs=Schema([ColSpec(DataType.string)]),
        params=ParamSchema(params),
    )


def pin_requirements(names: Iterable[str]) -> list[str]:
    """Return the installed versions of libraries as pip requirements.

    Args:
        names: Distribution names.
    """
    # An index has no local versions such as 2.13.0+cpu.
    versions = library_versions(names)
    return [f"{name}=={text.partition('+')[0]}" for name, text in versions.items()]
