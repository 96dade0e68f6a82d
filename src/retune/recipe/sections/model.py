"""Sections on the model: which base, how it is quantized, how it is adapted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError, ValidationError

from retune.recipe.sections.base import Count, RecipePath, Section, Text

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class ModelConfig(Section):
    """The base model."""

    id: Text
    """A folder with a model and its tokenizer, or a name on the Hugging Face hub. A folder of this
    name is taken first."""

    revision: Text | None = None
    """Commit, tag or branch on the hub; a commit makes the run repeatable. null: the newest."""

    dtype: Dtype = "auto"
    """Number type of the weights that are not quantized. auto: on a GPU bfloat16 where it has it,
    else float16; on a CPU float32, where figures do not depend on the batch size."""

    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """Implementation of attention in training. auto: what transformers takes for the model."""


class QuantizationConfig(Section):
    """How the frozen base is compressed while adapters are trained."""

    kind: Literal["none", "nf4"] = "nf4"
    """nf4: 4-bit NormalFloat, as in QLoRA. none: the base keeps `model.dtype`."""

    double: bool = True
    """Whether the scale factors are quantized too (saves about 0.4 bit per weight)."""

    compute_dtype: Dtype = "auto"
    """Number type that training multiplies in. auto: bfloat16 where the device computes it
    natively, else float16 on a GPU and float32 on a CPU."""

    reference_text: RecipePath | None = None
    """File of texts, one JSON object with "text" per line (and "prompt" where it is an answer), on
    which the perplexity of the quantized
    model is compared with the unquantized one. null: a few paragraphs in Portuguese and English
    that come with retune."""


def _one_message(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    try:
        return handler(value)
    except ValidationError as error:
        # A union reports one error per member, under paths that do not stand in the file.
        raise PydanticCustomError("modules", "not all-linear and not a list of names") from error


ModuleNames = Annotated[
    Literal["all-linear"] | Annotated[tuple[Text, ...], Field(strict=False, min_length=1)],
    WrapValidator(_one_message),
]


class LoraConfig(Section):
    """Low-rank adapters (LoRA); over a quantized base this is QLoRA."""

    kind: Literal["lora"] = "lora"
    """Name of the method."""

    r: Count = 16
    """Rank of each adapter: the width of its two matrices."""

    alpha: Count = 32
    """Strength: the adapter's output is multiplied by alpha / r (alpha / sqrt(r) with rslora)."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of the adapter's inputs that is zeroed at random in training, 0 to under 1."""

    target_modules: ModuleNames = "all-linear"
    """Layers that get an adapter: all-linear (every linear layer but the output head), or a list of
    ends of module names, such as [q_proj, v_proj]."""

    rslora: bool = False
    """Whether the output is scaled by alpha / sqrt(r), which keeps high ranks stable."""


# One member so far. A second method makes this
# `Annotated[LoraConfig | OtherConfig, Field(discriminator="kind")]`; the loader already leaves
# the tag, which pydantic adds to the place of an error, out of the path that a person reads.
MethodConfig = LoraConfig
