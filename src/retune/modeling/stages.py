"""The stages on weights: what each is given, what it reads of the recipe, and its version."""

from __future__ import annotations

from typing import Annotated

from retune.recipe.sections import MergeConfig, MethodConfig
from retune.recipe.sections.model import Dtype, QuantizationKind
from retune.records import (
    AdapterRef,
    BaseRef,
    MergedRef,
    MethodFit,
    ModelRef,
    PairsRef,
    Record,
    SideRef,
    Source,
)
from retune.stage import Settings, Workdir, reads, stage

ADAPTED = ("torch", "transformers", "peft", "bitsandbytes")


class MethodInputs(Record):
    """The base that a method is put on, and all that a run gives it to read."""

    base: BaseRef
    has_head: bool = False
    """Whether the model names classes and writes nothing."""
    train: SideRef
    validation: SideRef
    test: SideRef | None = None
    """None where nothing is scored."""
    writes: bool = True
    """Whether prompts of the test side are answered in writing."""
    pairs: PairsRef | None = None
    probes: Source | None = None
    counterfactuals: Source | None = None
    template: Source | None = None
    """Chat template that probes are asked in, when it is not the tokenizer's own."""
    texts: tuple[Source, ...] = ()
    """Files of texts that losses are measured on."""
    start: Source | None = None
    """Folder of the adapter whose weights training goes on from."""


class MethodSettings(Settings):
    """What decides whether a method fits: no rate, no number of steps."""

    method: MethodConfig
    quantization: Annotated[QuantizationKind, reads("quantization.kind")]
    gradient_checkpointing: Annotated[bool, reads("training.gradient_checkpointing")]
    system: Annotated[str | None, reads("prompt.system")]
    reasoning_effort: Annotated[str | None, reads("prompt.reasoning_effort")]
    max_new_tokens: Annotated[int, reads("scoring.max_new_tokens")]
    probe_tokens: Annotated[int | None, reads("probes.max_new_tokens")]
    """None where nothing is probed."""
    reward_tokens: Annotated[int | None, reads("grpo.max_new_tokens")]
    """None where nothing is rewarded."""


@stage(MethodInputs, version=2, libraries=(*ADAPTED, "pyarrow", "tokenizers"), on_device=True)
def check_method(inputs: MethodInputs, settings: MethodSettings, work: Workdir) -> MethodFit:
    """Refuse a method, a model or rows that do not fit each other."""
    from retune.modeling.methods.fitting import check_method

    return check_method(inputs, settings, work)


class QuantizeInputs(Record):
    """The base and the text that its quantized form is compared on."""

    base: BaseRef
    reference_text: Source


class QuantizeSettings(Settings):
    """How the base is compressed."""

    dtype: Annotated[Dtype, reads("model.dtype")]
    kind: Annotated[QuantizationKind, reads("quantization.kind")]
    double: Annotated[bool, reads("quantization.double")]
    compute_dtype: Annotated[Dtype, reads("quantization.compute_dtype")]


@stage(
    QuantizeInputs, version=1, libraries=("torch", "transformers", "bitsandbytes"), on_device=True
)
def quantize_model(inputs: QuantizeInputs, settings: QuantizeSettings, work: Workdir) -> ModelRef:
    """Write what training starts from, and measure what quantizing costs."""
    from retune.modeling.quantizing import quantize_model

    return quantize_model(inputs, settings, work)


class MergeInputs(Record):
    """The adapter, the base it is merged into, and the rows that both are compared on."""

    adapter: AdapterRef
    base: BaseRef
    rows: SideRef
    template: Source | None
    """Chat template that the merged model is saved with, when it is not the base's own."""


class MergeSettings(Settings):
    """The form of the merged weights, and how they are checked."""

    merge: MergeConfig


@stage(MergeInputs, version=3, libraries=(*ADAPTED, "numpy", "safetensors"), on_device=True)
def merge_adapter(inputs: MergeInputs, settings: MergeSettings, work: Workdir) -> MergedRef:
    """Merge an adapter into its base, and prove each step."""
    from retune.modeling.merging import merge_adapter

    return merge_adapter(inputs, settings, work)


class BundleSettings(Settings):
    """How the bundle is checked."""

    check_rows: Annotated[int, reads("merge.check_rows")]


@stage(MergeInputs, version=2, libraries=(*ADAPTED, "numpy", "safetensors"), on_device=True)
def bundle_adapter(inputs: MergeInputs, settings: BundleSettings, work: Workdir) -> MergedRef:
    """Put an adapter that cannot be merged beside its base."""
    from retune.modeling.bundling import bundle_adapter

    return bundle_adapter(inputs, settings, work)
