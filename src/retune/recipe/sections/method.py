"""The section on how the model is adapted: one form for each method, told apart by `kind`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, LiteralString

from pydantic import Discriminator, Field, Tag, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError, ValidationError

from retune.recipe.sections.base import Count, Section, Text

MethodKind = Literal[
    "lora", "qlora", "full", "frozen", "bottleneck", "prefix", "p_tuning", "prompt"
]
MERGEABLE: frozenset[MethodKind] = frozenset({"lora", "qlora", "full", "frozen"})
"""Methods whose result is plain weights of the base's own shape. The others add inputs or layers
that the base does not have, and are released as an adapter beside their base."""
CONTINUABLE: frozenset[MethodKind] = frozenset({"lora", "qlora", "full"})
"""Methods whose result can be trained further by preferences and rewards."""
SHARDED: frozenset[MethodKind] = frozenset({"lora", "qlora", "full"})
"""Methods whose model may be parted over devices (`training.sharding: fsdp`)."""

_NO_LOFTQ: LiteralString = (
    "loftq is not offered: it trains over a rounded copy of the base, so that the adapter would "
    "not fit the base that it is released on, and peft computes it on a GPU only; write "
    "kind: qlora, or init: pissa over quantization.kind: none"
)


ALL_LINEAR = "all-linear"
_PLAIN_WORD = re.compile(r"[\w-]+")
"""As an expression it would match no layer, whose full name has dots."""


def _one_message(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        found = handler(value)
    except ValidationError as error:
        # A union reports one error per member, under paths that do not stand in the file.
        raise PydanticCustomError("modules", "not all-linear and not a list of names") from error
    if isinstance(found, str) and found != ALL_LINEAR:
        if _PLAIN_WORD.fullmatch(found):
            raise PydanticCustomError("modules", "the end of a name, and not in a list")
        _refuse_broken(found)
    return found


def _refuse_broken(expression: str) -> None:
    try:
        re.compile(expression)
    except re.error as error:
        raise PydanticCustomError(
            "expression",
            "is no regular expression ({reason}); ends of names are a list, as [q_proj, v_proj]",
            {"reason": str(error)},
        ) from error


def _known_init(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    if value == "loftq":
        raise PydanticCustomError("init", _NO_LOFTQ)
    return handler(value)


_Names = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]
_Expression = Annotated[Text, Field(examples=[r".*\.self_attn\.(q|v)_proj"])]
ModuleNames = Annotated[Literal["all-linear"] | _Names | _Expression, WrapValidator(_one_message)]
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
    """Layers that get an adapter: all-linear (every linear layer but the output head), a list of
    ends of module names, such as [q_proj, v_proj], or a regular expression that a full name has to
    match as a whole, such as .*\\.(0|1)\\.self_attn\\.(q|v)_proj."""

    target_parameters: _Names | None = None
    """Ends of names of stacked weights (parameters with three dimensions, which hold a matrix for
    each expert) that get an adapter beside those of target_modules, such as
    [7.mlp.experts.gate_up_proj, 7.mlp.experts.down_proj] of gpt-oss; each expert has a rank of r.
    Needs dropout: 0, dora: false, and init: true or gaussian. null: none."""

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

    trainable_tokens: _Names | None = None
    """Tokens whose rows of the embedding (and of an output head with weights of its own) are
    trained, such as [<start_of_turn>, <end_of_turn>] of a template that is borrowed: thousands of
    weights, where both ends as a whole are often a tenth of the model. null: none."""

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


class FrozenConfig(Section):
    """No weight of the base is trained, only the classification head; needs `head`."""

    kind: Literal["frozen"] = "frozen"
    """The base stays as it is: a linear classifier over what it says already."""


class BottleneckConfig(Section):
    """Bottleneck adapters: a narrow two-layer network in each block, after Houlsby or Pfeiffer.

    Cannot be merged: the network is not linear.
    """

    kind: Literal["bottleneck"] = "bottleneck"
    """Adapters with a bottleneck after attention, after the feed-forward layers, or both."""

    size: Count = 64
    """Width of the bottleneck; less than the width of the model."""

    activation: Literal["relu", "gelu", "silu", "tanh"] = "gelu"
    """Function between the two layers."""

    after_attention: bool = True
    """Whether each block has one after attention (Houlsby)."""

    after_feed_forward: bool = True
    """Whether each block has one after the feed-forward layers. With `after_attention: false` this
    is the form of Pfeiffer."""

    residual: bool = True
    """Whether the adapter's input is added to its output, so that training starts from the base.
    false: the output alone goes on, and training starts from a broken model."""

    init_std: Annotated[float, Field(gt=0, le=1)] = 1.0e-3
    """Standard deviation of the first weights: near zero, so that an adapter at first passes on
    what it gets. At zero itself nothing would be learned."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the bottleneck's activations that is zeroed at random in training, 0 to under 1."""


class PrefixConfig(Section):
    """Prefix tuning: learned keys and values before those of the text, in every block."""

    kind: Literal["prefix"] = "prefix"
    """Learned keys and values in every block. Cannot be merged."""

    virtual_tokens: Count = 20
    """Number of learned positions; each takes one from the context."""

    projection: bool = False
    """Whether the values come out of a small network that is thrown away after training, which
    keeps high learning rates stable."""

    projection_size: Count = 128
    """Width of that network; unused without it."""


class PTuningConfig(Section):
    """P-tuning: learned inputs before the text, made by a small encoder."""

    kind: Literal["p_tuning"] = "p_tuning"
    """Learned inputs out of an encoder. Cannot be merged."""

    virtual_tokens: Count = 20
    """Number of learned positions; each takes one from the context."""

    encoder: Literal["mlp", "lstm"] = "mlp"
    """Kind of the encoder."""

    encoder_size: Count = 128
    """Width of the encoder."""

    encoder_layers: Count = 2
    """Layers of an lstm; an mlp always has two hidden ones."""

    encoder_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the encoder's activations that is zeroed at random in training; lstm alone."""


class PromptTuningConfig(Section):
    """Prompt tuning: learned inputs before the text, and nothing else."""

    kind: Literal["prompt"] = "prompt"
    """Learned inputs. Cannot be merged; the smallest of all methods."""

    virtual_tokens: Count = 20
    """Number of learned positions; each takes one from the context."""

    init_text: Text | None = None
    """Text whose embeddings the learned inputs start from, repeated or cut to their number. null:
    the embeddings of words drawn at random."""


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
    | Annotated[FullConfig, Tag("full")]
    | Annotated[FrozenConfig, Tag("frozen")]
    | Annotated[BottleneckConfig, Tag("bottleneck")]
    | Annotated[PrefixConfig, Tag("prefix")]
    | Annotated[PTuningConfig, Tag("p_tuning")]
    | Annotated[PromptTuningConfig, Tag("prompt")],
    Field(discriminator=Discriminator(_kind_of), json_schema_extra=_any_of),
]
