"""Sections on the model: which base, how it is quantized."""

from __future__ import annotations

from typing import Literal

from retune.recipe.sections.base import RecipePath, Section, Text

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2"]
QuantizationKind = Literal["none", "nf4"]


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

    attention: Attention = "auto"
    """Implementation of attention in training. auto: flash_attention_2 where it is installed, the
    device is a GPU, the weights are in 16 bits and the family has it; else sdpa where the family
    has it; else eager."""


class QuantizationConfig(Section):
    """How the frozen base is compressed while adapters are trained."""

    kind: QuantizationKind = "nf4"
    """nf4: 4-bit NormalFloat, as in QLoRA; a base that is stored so already is taken as it is, and
    needs this. none: the base keeps `model.dtype`. Experts in MXFP4 (gpt-oss) are dequantized under
    both."""

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
