"""The section on a classification head."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError, ValidationError

from retune.recipe.sections.base import Section

Weight = Annotated[float, Field(gt=0)]


def _one_message(value: Any, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError as error:
        raise PydanticCustomError(
            "class_weights", "not none, not balanced, and no positive number for each label"
        ) from error


class HeadConfig(Section):
    """A classification head instead of the language model's: one figure per class.

    It reads the last real token of the prompt. The rows must have labels (`text_label`).
    """

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Part of what the head reads that is zeroed at random in training, 0 to under 1."""

    class_weights: Annotated[
        Literal["none", "balanced"] | dict[str, Weight], WrapValidator(_one_message)
    ] = "none"
    """What an error on each class costs. balanced: the rarer the class, the more, rows / (classes *
    rows of the class), as in scikit-learn. Or a positive number for every label."""
