"""The stages on weights: what each is given, what it reads of the recipe, and its version."""

from __future__ import annotations

from typing import Annotated

from retune.model_records import AdapterRef, BaseRef, MergedRef, ModelRef
from retune.modeling.libraries import ADAPTED
from retune.recipe.sections import MergeConfig
from retune.recipe.sections.model import Dtype, QuantizationKind
from retune.records import Record, SideRef, Source
from retune.spine.stage import Settings, Workdir, reads, stage


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
    from retune.weights.quantize import quantize_model

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


@stage(MergeInputs, version=4, libraries=(*ADAPTED, "numpy", "safetensors"), on_device=True)
def merge_adapter(inputs: MergeInputs, settings: MergeSettings, work: Workdir) -> MergedRef:
    """Merge an adapter into its base, and prove each step."""
    from retune.weights.merge import merge_adapter

    return merge_adapter(inputs, settings, work)


class BundleSettings(Settings):
    """How the bundle is checked."""

    check_rows: Annotated[int, reads("merge.check_rows")]


@stage(MergeInputs, version=2, libraries=(*ADAPTED, "numpy", "safetensors"), on_device=True)
def bundle_adapter(inputs: MergeInputs, settings: BundleSettings, work: Workdir) -> MergedRef:
    """Put an adapter that cannot be merged beside its base."""
    from retune.weights.bundle import bundle_adapter

    return bundle_adapter(inputs, settings, work)
