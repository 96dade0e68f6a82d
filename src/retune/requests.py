"""What each stage is given: its input records, and the sections of the recipe that it may see.

They stand apart from the functions so that a flow can name them without importing torch. A section
class names recipe sections by their own names; a stage's key holds these and nothing else.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from retune.recipe.sections import (
    ColumnsConfig,
    DpoConfig,
    FormatName,
    GateConfig,
    GrpoConfig,
    HeadConfig,
    MergeConfig,
    MethodConfig,
    ModelConfig,
    ProbesConfig,
    PromptConfig,
    QualityConfig,
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
    CleanRef,
    DatabasesRef,
    DatasetRef,
    EncodedRef,
    GateDecision,
    MergedRef,
    ModelRef,
    ModelScores,
    PairsRef,
    Record,
    RowSource,
    ScoredModel,
    SideRef,
    Source,
    SplitRef,
)

_WATCHED_SQL = {"max_new_tokens", "sql_dialect", "sql_timeout_seconds"}
"""What a query's score depends on."""


class DatabasesInputs(Record):
    """What databases are read from: a file, or all SQLite files of a folder."""

    source: RowSource


class NoSection(Record):
    """For stages without settings."""


class LoadInputs(Record):
    """One source of rows, and how it is read."""

    source: RowSource
    format: FormatName
    columns: ColumnsConfig
    labels: tuple[str, ...] | None
    encoding: str | None = None
    max_row_bytes: int
    max_rows: int | None
    ignore: tuple[str, ...] = ()
    """Keys that are passed over."""
    databases: DatabasesRef | None = None
    """What `db_id` has to name; None where rows bring their own, or are not SQL."""


class EncodeInputs(Record):
    """Rows of one source, their databases, and the model whose tokenizer and template are used."""

    rows: DatasetRef
    databases: DatabasesRef | None
    base: BaseRef
    template: Source | None
    """File of the chat template, when it is not the tokenizer's own."""


class EncodeSection(Record):
    """Settings of `format_chat`."""

    prompt: PromptConfig


class CleanInputs(Record):
    """All sources: first those to learn from, then the fixed held-out ones."""

    rows: tuple[DatasetRef, ...]
    weights: tuple[float | None, ...]
    held_out: tuple[bool, ...]
    names: tuple[tuple[str, ...], ...]
    """Files of each source (or its one hub id), as reports name them."""


class CleanSection(Record):
    """Settings of `clean_rows`."""

    quality: QualityConfig


class SplitInputs(Record):
    """What is split."""

    rows: CleanRef


class SplitSection(Record):
    """Settings of `split_rows`."""

    split: SplitConfig


class LeaksInputs(Record):
    """The sides to compare, and the texts they stand for."""

    split: SplitRef
    clean: CleanRef
    rows: tuple[DatasetRef, ...]
    databases: DatabasesRef | None


class LeaksSection(Record):
    """Settings of `remove_leaks`."""

    quality: QualityConfig
    scoring: ScoringConfig
    """For the SQL dialect."""


class ChatInputs(Record):
    """Rows by side, and all sources as chats."""

    split: SplitRef
    rows: tuple[DatasetRef, ...]
    chats: tuple[EncodedRef, ...]
    databases: DatabasesRef | None
    base: BaseRef


class ChatSection(Record):
    """Settings of `prepare_sides`."""

    prompt: PromptConfig


class QuantizeInputs(Record):
    """The base and the text that its quantized form is compared on."""

    base: BaseRef
    reference_text: Source


class QuantizeSection(Record):
    """Settings of `quantize_model`."""

    model: ModelConfig
    quantization: QuantizationConfig


class MethodInputs(Record):
    """The base that a method is put on, and all that a run gives it to read."""

    base: BaseRef
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


class MethodSection(Record):
    """Settings of `check_method`."""

    quantization: QuantizationConfig
    method: MethodConfig
    head: HeadConfig | None
    training: TrainingConfig
    prompt: PromptConfig = Field(default_factory=PromptConfig)
    """For what probes are asked with."""
    scoring: ScoringConfig = Field(default_factory=ScoringConfig)
    """For the tokens that are written behind a prompt; those of probes and rewards too."""
    probes: ProbesConfig | None = None
    grpo: GrpoConfig | None = None


class StartInputs(Record):
    """The model that a training starts from, quantized or not."""

    base: BaseRef
    model: ModelRef


class TrainInputs(StartInputs):
    """Chats to learn from, chats to watch the loss on, and the model to adapt."""

    train: SideRef
    validation: SideRef
    start: Source | None = None
    """Folder of the adapter whose weights training goes on from; None for new ones."""


class TrainSection(Record):
    """Settings of `train_adapter`."""

    seed: int
    model: ModelConfig
    quantization: QuantizationConfig
    method: MethodConfig
    training: TrainingConfig
    prompt: PromptConfig = Field(default_factory=PromptConfig)
    """For the length that rows are packed to."""
    scoring: ScoringConfig = Field(default_factory=ScoringConfig)
    """For how queries are scored that are watched in training."""

    @model_validator(mode="after")
    def _keep_what_counts(self) -> TrainSection:
        # What a training does not use is no part of its key: how long answers may be trains
        # nothing again, unless the training is watched by its answers.
        packed = {"max_length"} if self.training.packing else set()
        sql = _WATCHED_SQL if self.training.watch.startswith("sql_") else set()
        for name, counts in (("prompt", packed), ("scoring", {"runtime"} | sql)):
            # A stage that needs the section for more declares it again, without a default.
            if not type(self).model_fields[name].is_required():
                section = getattr(self, name)
                kept = type(section)(**{each: getattr(section, each) for each in counts})
                self.__dict__[name] = kept  # frozen for everyone else
        return self


class PairsInputs(Record):
    """Pairs of answers, the model whose tokenizer and template are used, and rows to stay clear of.

    A pair whose prompt is that of a held-out row would train on what the final scores ask.
    """

    pairs: Source
    base: BaseRef
    template: Source | None
    held_out: SideRef
    encoding: str | None = None
    """What the file of pairs is in; None for UTF-8."""


class PairsSection(Record):
    """Settings of `format_pairs`."""

    prompt: PromptConfig
    dpo: DpoConfig


class PreferenceInputs(StartInputs):
    """Pairs to learn from, and what was trained before over a model."""

    pairs: PairsRef
    adapter: AdapterRef


class PreferenceSection(TrainSection):
    """Settings of `train_preferences`."""

    dpo: DpoConfig


class RewardInputs(StartInputs):
    """Chats whose prompts are answered, and what was trained before over a model."""

    train: SideRef
    adapter: AdapterRef


class RewardSection(TrainSection):
    """Settings of `train_rewards`."""

    grpo: GrpoConfig
    scoring: ScoringConfig
    """For the SQL dialect and the time limit of a query."""


class ClassifierInputs(TrainInputs):
    """What an adapter is trained on, and the classes that its head tells apart."""

    labels: tuple[str, ...]


class ClassifierSection(TrainSection):
    """Settings of `train_classifier`."""

    head: HeadConfig


class MergeInputs(Record):
    """The adapter, the base it is merged into, and the rows that both are compared on."""

    adapter: AdapterRef
    base: BaseRef
    rows: SideRef
    template: Source | None
    """Chat template that the merged model is saved with, when it is not the base's own."""


class MergeSection(Record):
    """Settings of `merge_adapter`."""

    merge: MergeConfig


class BundleSection(Record):
    """Settings of `bundle_adapter`."""

    merge: MergeConfig
    """For the rows that are compared."""


class ScoreInputs(Record):
    """A model and the rows that it is scored on."""

    model: ScoredModel
    rows: SideRef


class ScoreSection(Record):
    """Settings of the scorers."""

    scoring: ScoringConfig


class LabelInputs(Record):
    """A model, the rows that it puts into classes, and the classes."""

    model: ScoredModel
    rows: SideRef
    labels: tuple[str, ...]


class BaselineInputs(Record):
    """Rows that two plain classifiers learn from, and those that they are scored on."""

    train: SideRef
    rows: SideRef
    labels: tuple[str, ...]


class TextInputs(Record):
    """A model and the texts that it is scored on."""

    model: ScoredModel
    text: Source


class RobustnessInputs(Record):
    """A model, rows whose questions are spoilt, and the classes where rows have labels."""

    model: ScoredModel
    rows: SideRef
    labels: tuple[str, ...]
    paraphrases: Source | None


class ProbeInputs(Record):
    """A model and the files of cases that it is probed with."""

    model: ScoredModel
    cases: Source
    template: Source | None


class ProbeSection(Record):
    """Settings of `probe_model`."""

    prompt: PromptConfig
    probes: ProbesConfig
    scoring: ScoringConfig


class RobustnessSection(Record):
    """Settings of `probe_robustness`."""

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
