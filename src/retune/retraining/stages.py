"""The stages of the triggers `drift` and `degraded`: inputs, settings and versions."""

from __future__ import annotations

from typing import Annotated

from retune.data.stages import NoSettings
from retune.model_records import BaseRef, ScoredModel
from retune.modeling.libraries import ADAPTED
from retune.records import CleanRef, Record, SideRef, Source, SplitRef
from retune.retraining.drift_records import DriftReport, PromptLosses, RequestsRef, View
from retune.retraining.request_log import LogRef
from retune.scoring.stages import BatchSize, ScoringDevices
from retune.spine.stage import Settings, Workdir, reads, stage

SystemMessage = Annotated[str | None, reads("prompt.system")]
Seed = Annotated[int, reads("retrain.triggers.drift.seed")]


class LogInputs(Record):
    """The newest lines of a log, and what they may be in that are not UTF-8."""

    log: LogRef
    encoding: str | None


class LogSettings(Settings):
    """Where a line says what was asked."""

    column: Annotated[str, reads("retrain.triggers.drift.column")]


@stage(LogInputs, version=1, libraries=("pyarrow",))
def read_requests(inputs: LogInputs, settings: LogSettings, work: Workdir) -> RequestsRef:
    """Read what was asked in production."""
    from retune.retraining.requests import read_requests

    return read_requests(inputs, settings, work)


class CompareInputs(Record):
    """Requests, the rows that the champion was trained on, and the tokenizer of those rows."""

    requests: RequestsRef
    rows: SideRef
    """The training side of the recipe."""
    split: SplitRef
    """What its rows are by content."""
    history: Source | None = None
    """Rows of the champion's manifest, as in `KnownInputs`; None: it was trained on all of them."""
    base: BaseRef
    template: Source | None
    view: View


class CompareSettings(Settings):
    """How a text is written as a chat, and what the null is drawn from."""

    system: SystemMessage
    seed: Seed
    min_rows: Annotated[int, reads("retrain.triggers.drift.min_rows")]
    loss: Annotated[bool, reads("retrain.triggers.drift.loss")]


@stage(CompareInputs, version=1, libraries=("numpy", "tokenizers", "transformers"), on_device=True)
def compare_requests(
    inputs: CompareInputs, settings: CompareSettings, work: Workdir
) -> DriftReport:
    """Compare lengths, tokens and classes of requests with those of the training rows."""
    from retune.retraining.comparing import compare_requests

    return compare_requests(inputs, settings, work)


class PromptInputs(Record):
    """A model, requests, and prompts that it knows; an index is above chance in `level`."""

    model: ScoredModel
    requests: RequestsRef
    rows: SideRef
    view: View
    level: float


class PromptSettings(Settings):
    """How a text is written as a chat, how many prompts are scored, and what the null is from."""

    system: SystemMessage
    seed: Seed
    max_rows: Annotated[int, reads("retrain.triggers.drift.max_rows")]
    batch_size: BatchSize
    devices: ScoringDevices


@stage(PromptInputs, version=1, libraries=(*ADAPTED, "numpy"), on_device=True)
def score_prompts(inputs: PromptInputs, settings: PromptSettings, work: Workdir) -> PromptLosses:
    """Measure how surprised a model is by requests, and by prompts that it knows."""
    from retune.retraining.prompt_losses import score_prompts

    return score_prompts(inputs, settings, work)


class KnownInputs(Record):
    """Newer rows, and what the champion knows: the recipe's rows, or those of its manifest."""

    newer: CleanRef
    split: SplitRef
    history: Source | None = None
    """Rows of the champion's manifest (`HISTORY_SCHEMA`); None where it has none."""


@stage(KnownInputs, version=1, libraries=("numpy", "pyarrow"))
def leave_out_known(inputs: KnownInputs, settings: NoSettings, work: Workdir) -> SplitRef:
    """Leave out of newer rows what the champion was trained or judged by."""
    from retune.retraining.newer_rows import leave_out_known

    return leave_out_known(inputs, work)
