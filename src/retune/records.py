"""The frozen records that stages pass on: a folder, its digest, counts and figures.

Bytes live in the artifact store. A record's `digest` stands for its content, never for where it
lies or when it was made, so that equal content gives equal stage keys on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from retune.digests import digest_json
from retune.errors import ScoringError
from retune.recipe.sections.data import FormatName
from retune.recipe.sections.method import MERGEABLE, MethodKind

Side = Literal["train", "validation", "test"]
Role = Literal["base", "adapter", "merged", "champion"]

LOG_FOLDER = "log"
"""Sub-folder of an artifact for what two equal runs may differ in (timings, live metrics)."""


class Record(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class ContentRecord(Record):
    """A record that can be a stage's input: it has a content digest."""

    digest: str
    """sha256 (hex) of the content."""


class ArtifactRecord(ContentRecord):
    """A record whose bytes lie in a folder."""

    folder: Path
    """Where the files are now; the store rewrites it when an artifact moves."""


class Source(ContentRecord):
    """A file outside the store that a recipe names."""

    path: Path


class HubDataset(Record):
    """A split of a dataset on the hub, at the commit that was resolved when the run began."""

    dataset_id: str
    config: str | None
    split: str
    commit: str | None
    """None for a folder of this machine."""
    streaming: bool


class RowSource(ContentRecord):
    """Where rows come from: files of this machine, or a split of a hub dataset at a commit."""

    name: str
    """As the recipe names it: path, glob or hub id; shown, no part of the digest."""
    files: tuple[Path, ...] = ()
    hub: HubDataset | None = None


class DatabasesRef(ArtifactRecord):
    """Databases that rows may ask about (`databases.parquet`)."""

    databases: int


class DatasetRef(ArtifactRecord):
    """Rows of one source in one layout.

    `rows.parquet` holds them, `databases.parquet` the databases that they brought along,
    `log/bad.jsonl` what could not be read, `log/columns.json` what each column holds. The digest
    covers all of them, since later stages report what could not be read.
    """

    format: FormatName
    rows: int
    bad_rows: int
    labels: tuple[str, ...]
    """Distinct labels, sorted; empty where rows have none."""
    databases: int
    """Databases that stand in the rows themselves."""


class EncodedRef(ArtifactRecord):
    """The rows of one source as chats (`chats.parquet`), row by row in the same order."""

    rows: int
    tokenizer_digest: str
    tokens: int
    repaired: int
    """Rows whose missing final channel was put back (harmony)."""
    folded: int = 0
    """Rows whose system message stands above their first question."""
    apart: int = 0
    """Rows whose answer is tokenized apart from the prompt."""
    prompts: tuple[str, ...] = ()
    """How prompts are written, a sentence each."""


class Share(Record):
    """Some of several rows."""

    rows: int
    of: int
    first: tuple[str, ...] = ()
    """The first few, as ``file:line`` or ids, for messages."""


class CleanRef(ArtifactRecord):
    """Which rows of all sources are kept.

    `index.parquet` names them, `signatures.npy` stands for their texts, `log/quality.json` says
    what was found and `log/dropped.jsonl` what was dropped. The digest covers the first two.
    """

    rows: int
    """Rows that are kept."""
    test_rows: int
    """How many of them come from a fixed test source."""
    faults: dict[str, Share]
    """Rows at fault by the names of `LimitsConfig`."""


class SplitRef(ArtifactRecord):
    """Rows by side (`<side>.parquet`, with the columns of the index)."""

    train: int
    validation: int
    test: int
    groups_shared: int
    """Groups that lie on two sides; zero for a grouped split."""
    faults: dict[str, Share] = {}
    """Leaked rows, once the sides have been compared (`log/leaks.json`, `log/leaks.jsonl`)."""


class PairsRef(ArtifactRecord):
    """Pairs of answers by side as token ids (`pairs.parquet`)."""

    train: int
    validation: int
    longest_tokens: int
    tokenizer_digest: str


class SideRef(ArtifactRecord):
    """One side's chats (`rows.parquet`) and the databases they ask about (`databases.parquet`).

    Its digest covers this side alone: a new training row leaves what was scored on the test side.
    """


class ChatRef(ArtifactRecord):
    """Rows as chats: prompt and answer texts, token ids and the loss mask, a folder per side.

    `log/audit.json` says what the audit of the masks found, `log/left_out.jsonl` which rows are at
    fault and so left out.
    """

    train: int
    validation: int
    test: int
    side_digests: dict[Side, str]
    tokenizer_digest: str
    train_tokens: int
    answer_tokens: int
    """Training tokens that carry loss."""
    longest_tokens: int
    faults: dict[str, Share]
    prompts: tuple[str, ...] = ()
    """How prompts are written, a sentence each: what a server has to do alike."""

    def side(self, side: Side) -> SideRef:
        """Return one side."""
        return SideRef(digest=self.side_digests[side], folder=self.folder / side)


class BaseRef(ArtifactRecord):
    """An unquantized snapshot: a local folder or a downloaded hub revision."""

    model_id: str
    revision: str | None
    tokenizer_digest: str
    weight_bytes: int = 0
    """Size of the weight files, here or on the hub."""

    def as_scored(self) -> ScoredModel:
        """Return what scorers load."""
        return ScoredModel(digest=self.digest, weights=self.folder, tokenizer=self.folder)


class ModelRef(ArtifactRecord):
    """The model that training starts from, quantized or not."""

    quantization: Literal["none", "nf4"]
    parameters: int
    footprint_bytes: int
    base_footprint_bytes: int
    reference_perplexity: float
    """Perplexity of the quantized model on the reference text."""
    base_reference_perplexity: float

    def weights(self, base: BaseRef) -> Path:
        """Return the folder to train over: the quantized checkpoint, or the base itself."""
        return base.folder if self.quantization == "none" else self.folder


class MethodFit(ContentRecord):
    """That a method fits a model, and what it would train; a head counts as one of two labels."""

    trainable_parameters: int
    total_parameters: int


class AdapterRef(ArtifactRecord):
    """What was trained, and its figures.

    An adapter (`adapter_model.safetensors`), or with kind `full` a snapshot folder whose weights
    are in float32, as they were trained.
    """

    kind: MethodKind = "lora"
    trainable_parameters: int
    total_parameters: int
    steps: int
    """Optimizer steps that were taken."""
    stopped_early: bool = False
    """Whether training ended before its planned steps, since it no longer gained."""
    best_step: int
    best_score: float | None = None
    """The watched score of the kept weights, where a task is watched and not the loss."""
    resumed_from_step: int
    train_loss: float
    validation_loss: float | None
    """Held-out loss in nats per answer token; None when the recipe asks for no evaluation."""
    base_validation_loss: float | None
    started_from: str | None = None
    """Digest of the adapter whose weights training went on from; None for new ones."""
    figures: dict[str, float] = {}
    """What only this kind of training has: preference accuracy, mean reward."""

    @property
    def mergeable(self) -> bool:
        """Whether the result is plain weights of the base's own shape."""
        return self.kind in MERGEABLE

    def as_scored(self, model: ModelRef, base: BaseRef) -> ScoredModel:
        """Return what scorers load: the model it was trained over, with this adapter on top.

        Weights that were trained as a whole are loaded without another model under them.
        """
        if self.kind == "full":
            digest = digest_json({"weights": self.digest, "tokenizer": base.tokenizer_digest})
            return ScoredModel(digest=digest, weights=self.folder, tokenizer=base.folder)
        return ScoredModel(
            digest=digest_json({"adapter": self.digest, "model": model.digest}),
            weights=model.weights(base),
            adapter=self.folder,
            tokenizer=base.folder,
        )


class MergedRef(ArtifactRecord):
    """What is released, checked against what was trained.

    Merged weights in a plain snapshot folder; or, where a method's result cannot be merged, a
    bundle: the base's weights and the adapter in folders beside each other.
    """

    bundled: bool = False
    """Whether the adapter lies beside the weights."""
    rows_checked: int
    max_logit_difference: float
    """Largest ``|released - adapter|`` over the checked answer positions."""
    logit_spread: float
    """Standard deviation of the adapter's logits there: the scale of the difference."""
    divergence_nats: float | None = None
    """How much more surprised the released model is by what the adapter expects there than the
    adapter, in nats per token (Kullback-Leibler); None where it was not measured."""
    answers_equal: int
    """Checked rows whose greedy answer is the same text."""

    def as_scored(self) -> ScoredModel:
        """Return what scorers load."""
        weights, adapter = locate_bundle(self.folder) if self.bundled else (self.folder, None)
        return ScoredModel(digest=self.digest, weights=weights, tokenizer=weights, adapter=adapter)


def locate_bundle(folder: Path) -> tuple[Path, Path]:
    """Return where the weights (with their tokenizer) and the adapter of a bundle lie.

    Args:
        folder: The bundle. It has no weights itself: loaded as a model it is an error, and never
            the base without its adapter.
    """
    return folder / "weights", folder / "adapter"


def is_bundle(folder: Path) -> bool:
    """Tell whether a folder holds weights with an adapter beside them."""
    weights, adapter = locate_bundle(folder)
    return (weights / "config.json").is_file() and (adapter / "adapter_config.json").is_file()


class ChampionRef(ContentRecord):
    """The registered version that a challenger has to beat."""

    version: int
    weights: Path
    tokenizer: Path
    adapter: Path | None = None
    """What is put over the weights; None where they are the whole model."""

    def as_scored(self) -> ScoredModel:
        """Return what scorers load."""
        return ScoredModel(
            digest=self.digest,
            weights=self.weights,
            tokenizer=self.tokenizer,
            adapter=self.adapter,
        )


class ScoredModel(ContentRecord):
    """Where a model's parts lie; its role is not part of it, so equal weights score once."""

    weights: Path
    tokenizer: Path
    adapter: Path | None = None


class Metric(Record):
    """One figure with its interval; ``value=None`` means that it could not be scored."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Rows that the value is over."""

    groups: int | None = None
    """Independent groups that those rows fall into; 1 where all share the same one. None: no two
    rows share one."""


class ScoreReport(ArtifactRecord):
    """Figures of one model on one side, with a per-row file (`rows.jsonl`)."""

    metrics: dict[str, Metric]
    rows: int
    unscored: dict[str, int]
    """Rows that could not be scored, by reason."""


class ModelScores(ContentRecord):
    """All reports of one model: what the gate compares."""

    reports: dict[str, ScoreReport]
    """By what was scored, such as ``sql``; only those that the rows and the recipe ask for."""

    @classmethod
    def of(cls, reports: Mapping[str, ScoreReport | None]) -> ModelScores:
        """Put one model's reports together; their digests make its own."""
        found = {name: report for name, report in reports.items() if report}
        digests = {name: report.digest for name, report in found.items()}
        return cls(digest=digest_json(digests), reports=found)

    def over_rows(self) -> ScoreReport:
        """Return a report over the held-out rows: all of them, or those with a label for a head.

        Raises:
            ScoringError: There is none.
        """
        found = self.first_of("perplexity", "labels")
        if found is None:
            raise ScoringError("neither perplexity nor labels of the held-out rows were scored.")
        return found

    def first_of(self, *names: str) -> ScoreReport | None:
        """Return the first report of some that there is."""
        return next((self.reports[name] for name in names if name in self.reports), None)

    def metrics(self) -> dict[str, Metric]:
        """Return every metric by name."""
        found = [report.metrics for report in self.reports.values()]
        return {name: metric for metrics in found for name, metric in metrics.items()}

    def report_of(self, metric: str) -> ScoreReport | None:
        """Return the report that holds a metric."""
        holds = (report for report in self.reports.values() if metric in report.metrics)
        return next(holds, None)


class FigureDifference(Record):
    """A figure of one model minus that of another, paired over the same rows."""

    metric: str
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    verdict: Literal["better", "worse", "undecided"]
    groups: int | None = None
    """Independent groups that the rows fall into, as in `Metric`."""
    worse_on_rows: bool = False
    """Where groups are too few to decide: whether the rows at hand, each on its own, are worse."""


class Comparison(FigureDifference):
    """The challenger minus an opponent."""

    against: Literal["base", "champion"]


class GateDecision(ContentRecord):
    """What the gate says of the challenger, and why."""

    promote: bool
    """True when the challenger becomes champion."""
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]


class RegisteredRef(ContentRecord):
    """A version in the model registry, reloaded by alias and compared."""

    model_name: str
    version: int
    alias: Literal["champion", "challenger"]
    rows_checked: int
    answers_equal: int
