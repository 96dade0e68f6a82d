"""What all sections of a recipe share: frozen, no unknown keys, no secrets, exact types.

Types are exact on purpose. `true` is not a number, `"16"` in quotes is text and `yes` is no
boolean: a recipe says what it means, and a slip of the keyboard is an error and not a run.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    field_validator,
)
from pydantic_core import PydanticCustomError

from retune.recipe.credentials import holds_secret


class Section(BaseModel):
    """Base of every section: frozen, strict, documented, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        # Validators are built at first use: `retune --help` imports this and needs none of them.
        defer_build=True,
        # pydantic's own message would print the value, and a refused value may be a secret.
        hide_input_in_errors=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_secret(cls, value: object) -> object:
        if holds_secret(value):
            raise PydanticCustomError(
                "secret",
                "looks like a secret (not shown): take it out of the recipe, revoke it if the "
                "file was shared, and pass it in the environment (HF_TOKEN, "
                "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD)",
            )
        return value


def conflict(*found: tuple[str, str]) -> PydanticCustomError:
    """Make the error of keys that do not fit together.

    Args:
        *found: Pairs of the key at fault (dotted, relative to the section) and the reason.

    Returns:
        The error to raise from a validator; it carries each pair, so that the loader can point
        at each line.
    """
    text = "; ".join(f"{key}: {reason}" for key, reason in found)
    context: dict[str, Any] = {"text": text, "conflicts": list(found)}
    return PydanticCustomError("conflict", "{text}", context)


def _usable_path(path: Path) -> Path:
    text = str(path)
    # Path("") is Path("."): an empty value would silently mean the project root.
    if text == "." or "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise PydanticCustomError(
            "path", "found {text}, expected the path of a file or folder", {"text": ascii(text)}
        )
    return path


RecipePath = Annotated[
    Path,
    Field(strict=False),
    AfterValidator(_usable_path),
    PlainSerializer(lambda path: path.as_posix(), return_type=str, when_used="json"),
]
"""A path as written; `LoadedRecipe.resolve` makes it absolute."""


def _folder_or_address(value: Any) -> Path | str:
    if isinstance(value, str) and re.match(r"[a-z][a-z0-9+.-]+:/", value):
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s?#]+", value):
            raise PydanticCustomError(
                "address",
                "found {text}, expected an address such as s3://bucket/prefix",
                {"text": ascii(value)},
            )
        return value
    if isinstance(value, str | Path):
        return _usable_path(Path(value))
    raise PydanticCustomError(
        "path", "found {text}, expected a folder or an address", {"text": ascii(value)}
    )


FolderOrAddress = Annotated[
    Path | str,
    PlainValidator(_folder_or_address, json_schema_input_type=str),
    PlainSerializer(str, return_type=str, when_used="json"),
]
"""A path as written, or the address of shared storage."""

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Devices = Literal["auto"] | Count
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
RUNTIME = "runtime"
"""Mark of a setting that cannot change a result, among others that can: no part of a stage key."""
# numpy and transformers take no larger seed.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
