"""The section on how the model is adapted: one form for each method, told apart by `kind`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, LiteralString

from pydantic import Discriminator, Field, Tag, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError, ValidationError

from retune.recipe.sections.base import Count, Section, Text

MethodKind = Literal["lora", "qlora", "full"]

_NO_LOFTQ: LiteralString = (
    "loftq is not offered: it trains over a rounded copy of the base, so that the adapter would "
    "not fit the base that it is released on, and peft computes it on a GPU only; write "
    "kind: qlora, or init: pissa over quantization.kind: none"
)


def _one_message(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError as error:
        # A union reports one error per member, under paths that do not stand in the file.
        raise PydanticCustomError("modules", "not all-linear and not a list of names") from error


def _known_init(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    if value == "loftq":
        raise PydanticCustomError("init", _NO_LOFTQ)
    return handler(value)


_Names = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
ModuleNames = Annotated[Literal["all-linear"] | _Names, WrapValidator(_one_message)]
Init = Annotated[
    Literal[True, "gaussian", "pissa", "olora", "orthogonal", "mica"], WrapValidator(_known_init)
]


class LowRankConfig(Section):
    """What LoRA and QLoRA have in common: two narrow matrices beside each adapted layer."""

    kind: Literal["lora", "qlora"]
    """Name of the method."""

    r: Count = 16
    """Rank of each adapter: the width of its two matrices. At most the smaller side of the smallest
    adapted layer."""

    alpha: Count = 32
    """Strength: the adapter's output is multiplied by alpha / r (alpha / sqrt(r) with rslora)."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the adapter's inputs that is zeroed at random in training, 0 to under 1."""

    target_modules: ModuleNames = "all-linear"
    """Layers that get an adapter: all-linear (every linear layer but the output head), or a list of
    ends of module names, such as [q_proj, v_proj]."""

    rslora: bool = False
    """Whether the output is scaled by alpha / sqrt(r), which keeps high ranks stable."""

    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases of the base are trained too: none, all, or those of the adapted layers. Models
    such as Llama have none."""

    dora: bool = False
    """Whether the length of each weight's column is trained apart from its direction (DoRA): often
    better at low ranks, slower."""

    modules_to_save: _Names | None = None
    """Ends of names of modules that are trained as a whole and kept with the adapter, such as
    [lm_head, embed_tokens]. null: none."""

    init: Init = True
    """First values of the adapter. true: random and zero, so that training starts from the base.
    gaussian: the same, from a normal distribution. pissa: the largest singular directions of each
    weight; olora: the first ones of its QR form (not for GPT-2's layers); the saved adapter of
    these two has twice the rank. orthogonal: random and orthogonal (r even). mica: the smallest
    singular directions, of which half is frozen. All but true and gaussian need
    quantization.kind: none."""


class LoraConfig(LowRankConfig):
    """Low-rank adapters (LoRA); over a quantized base this is QLoRA."""

    kind: Literal["lora"] = "lora"
    """Low-rank adapters, over the base as `quantization` leaves it."""


class QloraConfig(LowRankConfig):
    """Low-rank adapters over a quantized base (QLoRA)."""

    kind: Literal["qlora"] = "qlora"
    """LoRA that insists on a quantized base."""


class FullConfig(Section):
    """All weights are trained, in float32; needs `quantization.kind: none`."""

    kind: Literal["full"] = "full"
    """Full fine-tuning: no adapter, every weight of the model."""


def _kind_of(value: object) -> str | None:
    if isinstance(value, dict):
        kind = value.get("kind", "lora")
        return kind if isinstance(kind, str) else None
    # What is no section at all is reported as such by the first form.
    return str(getattr(value, "kind", "lora"))


def _any_of(schema: dict[str, Any]) -> None:
    # Without `kind`, a section fits two forms, which `oneOf` would refuse.
    if "oneOf" in schema:
        schema["anyOf"] = schema.pop("oneOf")


MethodConfig = Annotated[
    Annotated[LoraConfig, Tag("lora")]
    | Annotated[QloraConfig, Tag("qlora")]
    | Annotated[FullConfig, Tag("full")],
    Field(discriminator=Discriminator(_kind_of), json_schema_extra=_any_of),
]
