"""What each stage is given: its input records, and the sections of the recipe that it may see.

They stand apart from the functions so that a flow can name them without importing torch. A section
class names recipe sections by their own names; a stage's key holds these and nothing else.
"""

from __future__ import annotations

from retune.recipe.sections import (
    DataConfig,
    GateConfig,
    LoraConfig,
    MergeConfig,
    ModelConfig,
    ProbesConfig,
    PromptConfig,
    QuantizationConfig,
    RegistryConfig,
    ScoringConfig,
    SplitConfig,
    TrainingConfig,
)
from retune.records import (
    AdapterRef,
    BaseRef,
    ChampionRef,
    DatasetRef,
    GateDecision,
    MergedRef,
    ModelRef,
    ModelScores,
    Record,
    ScoredModel,
    SideRef,
    Source,
    SplitRef,
)


class LoadInputs(Record):
    """Files that rows are loaded from."""

    train: Source
    test: Source | None = None
    databases: Source | None = None


class LoadSection(Record):
    """Settings of `load_rows`."""

    data: DataConfig


class SplitInputs(Record):
    """What is split."""

    rows: DatasetRef


class SplitSection(Record):
    """Settings of `split_rows`."""

    split: SplitConfig


class ChatInputs(Record):
    """Rows by side, their databases, and the model whose template is used."""

    rows: DatasetRef
    split: SplitRef
    base: BaseRef


class ChatSection(Record):
    """Settings of `format_chat`."""

    prompt: PromptConfig


class QuantizeInputs(Record):
    """The base and the text that its quantized form is compared on."""

    base: BaseRef
    reference_text: Source


class QuantizeSection(Record):
    """Settings of `quantize_model`."""

    model: ModelConfig
    quantization: QuantizationConfig


class TrainInputs(Record):
    """Chats to learn from, chats to watch the loss on, and the model to adapt."""

    train: SideRef
    validation: SideRef
    base: BaseRef
    model: ModelRef


class TrainSection(Record):
    """Settings of `train_adapter`."""

    seed: int
    model: ModelConfig
    quantization: QuantizationConfig
    method: LoraConfig
    training: TrainingConfig


class MergeInputs(Record):
    """The adapter, the base it is merged into, and the rows that both are compared on."""

    adapter: AdapterRef
    base: BaseRef
    rows: SideRef


class MergeSection(Record):
    """Settings of `merge_adapter`."""

    merge: MergeConfig


class ScoreInputs(Record):
    """A model and the rows that it is scored on."""

    model: ScoredModel
    rows: SideRef


class ScoreSection(Record):
    """Settings of the scorers."""

    scoring: ScoringConfig


class ProbeInputs(Record):
    """A model and the file of cases that it is probed with."""

    model: ScoredModel
    cases: Source


class ProbeSection(Record):
    """Settings of `probe_model`."""

    prompt: PromptConfig
    probes: ProbesConfig
    scoring: ScoringConfig


class DecideInputs(Record):
    """Scores on the same rows: challenger, base, and the champion where there is one."""

    challenger: ModelScores
    base: ModelScores
    champion: ModelScores | None = None


class DecideSection(Record):
    """Settings of `decide`."""

    gate: GateConfig
    scoring: ScoringConfig


class RegisterInputs(Record):
    """The merged model, what the gate said of it, and rows to compare it on once registered."""

    merged: MergedRef
    decision: GateDecision
    champion: ChampionRef | None = None
    """The version that the decision compared it with."""
    rows: SideRef
    base: BaseRef


class RegisterSection(Record):
    """Settings of `register_model`."""

    registry: RegistryConfig
