"""The stages that ask what fits, before anything is paid: their inputs, settings and versions."""

from __future__ import annotations

from typing import Annotated

from retune.machine import Device
from retune.model_records import BaseRef, MethodFit, ScoredModel
from retune.modeling.libraries import ADAPTED
from retune.modeling.memory.memory_estimate import (
    BatchSearch,
    FurtherEstimates,
    TrainingEstimate,
)
from retune.modeling.memory.stage_sizes import JudgeSizes, StageSizes
from retune.recipe.sections import MethodConfig
from retune.recipe.sections.judge import JudgeLanguage
from retune.recipe.sections.model import Attention, Dtype, QuantizationKind
from retune.recipe.sections.scoring import Form
from retune.records import DatasetRef, PairsRef, Record, SideRef, Source, SplitRef
from retune.spine.stage import Settings, Workdir, reads, stage


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
    from retune.preflight.check_method import check_method

    return check_method(inputs, settings, work)


class EstimateInputs(Record):
    """What a training's memory depends on, beside its settings."""

    base: BaseRef
    train: SideRef
    device: Device
    packed_to: int | None = None
    """Length of packed sequences; None where rows are not packed."""
    devices: int = 1
    """That share the rows of a step; what is estimated is one of them, with the whole model."""
    alternatives: bool = False
    """Whether other settings are estimated too."""


class TrainedSettings(Settings):
    """What the memory of any training depends on: no rate, no number of steps."""

    dtype: Annotated[Dtype, reads("model.dtype")]
    attention: Annotated[Attention, reads("model.attention")]
    quantization: Annotated[QuantizationKind, reads("quantization.kind")]
    double: Annotated[bool, reads("quantization.double")]
    compute_dtype: Annotated[Dtype, reads("quantization.compute_dtype")]
    method: MethodConfig
    gradient_accumulation: Annotated[int, reads("training.gradient_accumulation")]
    gradient_checkpointing: Annotated[bool, reads("training.gradient_checkpointing")]
    optimizer: Annotated[str, reads("training.optimizer")]
    evaluations: Annotated[int, reads("training.evaluations")]


class EstimateSettings(TrainedSettings):
    """The same of supervised fine-tuning, with its batches."""

    batch_size: Annotated[int, reads("training.batch_size")]


@stage(EstimateInputs, version=3, libraries=(*ADAPTED, "trl"), on_device=True)
def estimate_training(
    inputs: EstimateInputs, settings: EstimateSettings, work: Workdir
) -> TrainingEstimate:
    """Count the memory of a training by part, before a weight is loaded."""
    from retune.preflight.estimate_training import estimate_training

    return estimate_training(inputs, settings, work)


class FurtherInputs(Record):
    """What the memory of preferences and rewards depends on, beside their settings."""

    base: BaseRef
    pairs: PairsRef | None
    """None where nothing is preferred."""
    train: SideRef
    """Whose prompts are answered."""
    device: Device


class FurtherSettings(TrainedSettings):
    """The same of preferences and rewards, with their batches; None without them."""

    pairs_at_once: Annotated[int | None, reads("dpo.batch_size")]
    prompts_per_step: Annotated[int | None, reads("grpo.prompts_per_step")]
    answers: Annotated[int | None, reads("grpo.answers")]
    max_new_tokens: Annotated[int | None, reads("grpo.max_new_tokens")]
    beta: Annotated[float | None, reads("grpo.beta")]


@stage(FurtherInputs, version=1, libraries=(*ADAPTED, "trl", "pyarrow"), on_device=True)
def estimate_further(
    inputs: FurtherInputs, settings: FurtherSettings, work: Workdir
) -> FurtherEstimates:
    """Count the memory of preferences and rewards, before a weight is loaded."""
    from retune.preflight.estimate_further import estimate_further

    return estimate_further(inputs, settings, work)


class SizesInputs(Record):
    """What the memory of the stages around a training depends on, beside its settings."""

    base: BaseRef
    rows: SideRef
    """Held-out rows that are scored."""
    checked: SideRef
    """Rows that the released model is compared on with what was trained."""
    texts: tuple[Source, ...]
    """Files of texts that losses are measured on: the reference text, then the general one."""
    device: Device
    forms: tuple[Form, ...]
    """That may be scored in."""
    batch_size: int
    """Rows at once in scoring. It changes no figure there, but what is counted here."""


class SizesSettings(Settings):
    """What the memory of the stages around a training depends on."""

    dtype: Annotated[Dtype, reads("model.dtype")]
    quantization: Annotated[QuantizationKind, reads("quantization.kind")]
    max_new_tokens: Annotated[int, reads("scoring.max_new_tokens")]
    check_rows: Annotated[int, reads("merge.check_rows")]


@stage(
    SizesInputs,
    version=3,
    libraries=("torch", "transformers", "bitsandbytes", "pyarrow", "tokenizers"),
    on_device=True,
)
def measure_stages(inputs: SizesInputs, settings: SizesSettings, work: Workdir) -> StageSizes:
    """Count what the stages around a training need, before a weight is loaded."""
    from retune.preflight.measure_stages import measure_stages

    return measure_stages(inputs, settings, work)


class JudgeSizesInputs(Record):
    """What the memory of a judge of this machine depends on, beside its settings."""

    judge: ScoredModel
    wording: Source
    """The text that it is asked by."""
    split: SplitRef
    """Names the held-out rows."""
    sources: tuple[DatasetRef, ...]
    """What they ask."""
    system: str | None
    """The recipe's system message."""
    human_verdicts: Source | None
    """Pairs that people have judged."""
    device: Device
    batch_size: int
    """Questions at once. It changes no verdict, but what is counted here."""


class JudgeSizesSettings(Settings):
    """What the memory of a judge depends on."""

    language: Annotated[JudgeLanguage, reads("judge.language")]
    rubric: Annotated[str | None, reads("judge.rubric")]
    max_new_tokens: Annotated[int, reads("judge.max_new_tokens")]
    answer_tokens: Annotated[int, reads("scoring.max_new_tokens")]


@stage(
    JudgeSizesInputs,
    version=1,
    libraries=("torch", "transformers", "bitsandbytes", "pyarrow", "tokenizers", "numpy"),
    on_device=True,
)
def measure_judge(
    inputs: JudgeSizesInputs, settings: JudgeSizesSettings, work: Workdir
) -> JudgeSizes:
    """Count what a judge of this machine needs, before a weight is loaded."""
    from retune.preflight.measure_judge import measure_judge

    return measure_judge(inputs, settings, work)


class FindBatchInputs(EstimateInputs):
    """As for an estimate, with the memory that a pass has to fit in."""

    capacity: int
    """Bytes."""
    ratio: float | None = None
    """Measured by estimated memory of earlier trainings; None where there was none."""


@stage(FindBatchInputs, version=1, libraries=(*ADAPTED, "trl", "pyarrow"), on_device=True)
def find_batch(inputs: FindBatchInputs, settings: EstimateSettings, work: Workdir) -> BatchSearch:
    """Find the most rows that go through the device at once, before a weight is loaded."""
    from retune.preflight.find_batch import find_batch

    return find_batch(inputs, settings, work)
