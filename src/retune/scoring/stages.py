"""The stages that score: what each is given, what it reads of the recipe, and its version."""

from __future__ import annotations

from typing import Annotated

from retune.model_records import ScoredModel
from retune.modeling.libraries import ADAPTED
from retune.recipe.sections.base import Devices, Text
from retune.recipe.sections.rubrics import RubricConfig
from retune.recipe.sections.scoring import (
    ClassifyBy,
    PerturbationKind,
    SamplingConfig,
    TextMetricName,
    TextNormaliser,
)
from retune.records import Record, SideRef, Source
from retune.score_records import ScoreReport
from retune.spine.stage import Settings, Workdir, reads, stage

SCORED = (*ADAPTED, "numpy", "scipy")
"""Libraries that the scores of any model depend on."""

BatchSize = Annotated[int, reads("scoring.runtime.batch_size")]
ScoringDevices = Annotated[Devices, reads("scoring.runtime.devices")]
Resamples = Annotated[int, reads("scoring.resamples")]
MaxNewTokens = Annotated[int, reads("scoring.max_new_tokens")]
SqlDialect = Annotated[str, reads("scoring.sql_dialect")]
SqlTimeout = Annotated[float, reads("scoring.sql_timeout_seconds")]
NamesClassBy = Annotated[ClassifyBy, reads("scoring.classify_by")]


class ScoreInputs(Record):
    """A model and the rows that it is scored on."""

    model: ScoredModel
    rows: SideRef


class LossSettings(Settings):
    """Settings of the scorers that measure losses."""

    resamples: Resamples
    batch_size: BatchSize
    devices: ScoringDevices


@stage(ScoreInputs, version=4, libraries=SCORED, on_device=True)
def score_perplexity(inputs: ScoreInputs, settings: LossSettings, work: Workdir) -> ScoreReport:
    """Measure how surprised a model is by the reference answers."""
    from retune.scoring.perplexity import score_perplexity

    return score_perplexity(inputs, settings, work)


class AnswerSettings(Settings):
    """How answers are written."""

    max_new_tokens: MaxNewTokens
    batch_size: BatchSize
    devices: ScoringDevices


class SqlSettings(AnswerSettings):
    """Settings of `score_sql`."""

    sql_dialect: SqlDialect
    sql_timeout_seconds: SqlTimeout


class WatchSettings(SqlSettings):
    """What the scorers read that a training may be watched by."""


@stage(ScoreInputs, version=5, libraries=(*SCORED, "sqlglot"), on_device=True)
def score_sql(inputs: ScoreInputs, settings: SqlSettings, work: Workdir) -> ScoreReport:
    """Let a model write a query for each row, and compare it with the reference."""
    from retune.scoring.sql.answers import score_sql

    return score_sql(inputs, settings, work)


class SampleSettings(AnswerSettings):
    """Settings of `sample_answers`."""

    samples: Annotated[int, reads("scoring.samples")]


@stage(ScoreInputs, version=3, libraries=ADAPTED, on_device=True)
def sample_answers(inputs: ScoreInputs, settings: SampleSettings, work: Workdir) -> ScoreReport:
    """Let a model answer a few questions, for a person to read."""
    from retune.scoring.samples import sample_answers

    return sample_answers(inputs, settings, work)


class TextMetricInputs(ScoreInputs):
    """A model, rows that it answers in free text, and what answers are compared by."""

    metrics: tuple[TextMetricName, ...]
    """Those that ship."""
    own: dict[str, Source]
    """Folders of the team's metrics, by the name of their figure."""
    results: dict[str, str]
    """Which of a metric's numbers is the figure, where the recipe says so."""


class TextMetricSettings(AnswerSettings):
    """Settings of `score_text`."""

    text_normalisers: Annotated[tuple[TextNormaliser, ...], reads("scoring.text_normalisers")]
    resamples: Resamples


@stage(
    TextMetricInputs,
    version=1,
    libraries=(*SCORED, "datasets", "evaluate", "rouge_score", "sacrebleu"),
    on_device=True,
)
def score_text(
    inputs: TextMetricInputs, settings: TextMetricSettings, work: Workdir
) -> ScoreReport:
    """Let a model answer each question in free text, and compare answers with references."""
    from retune.scoring.free_text.score import score_text

    return score_text(inputs, settings, work)


class RubricInputs(Record):
    """Answers in free text, and the rows that they were written for."""

    answers: ScoreReport
    rows: SideRef


class RubricSettings(Settings):
    """Settings of `check_rubrics`."""

    rubrics: Annotated[tuple[RubricConfig, ...], reads("scoring.rubrics")]
    resamples: Resamples


@stage(
    RubricInputs,
    version=1,
    libraries=("jsonschema", "numpy", "py3langid", "referencing", "scipy"),
)
def check_rubrics(inputs: RubricInputs, settings: RubricSettings, work: Workdir) -> ScoreReport:
    """Check written answers by the rules of the recipe."""
    from retune.scoring.rubrics.score import check_rubrics

    return check_rubrics(inputs, settings, work)


class TextInputs(Record):
    """A model and the texts that it is scored on."""

    model: ScoredModel
    text: Source


@stage(TextInputs, version=3, libraries=SCORED, on_device=True)
def score_general_text(inputs: TextInputs, settings: LossSettings, work: Workdir) -> ScoreReport:
    """Measure what a model says of texts that are no rows."""
    from retune.scoring.general_text import score_general_text

    return score_general_text(inputs, settings, work)


class LabelInputs(ScoreInputs):
    """A model, the rows that it puts into classes, and the classes."""

    labels: tuple[str, ...]


class LabelSettings(AnswerSettings):
    """Settings of `score_labels`."""

    classify_by: NamesClassBy
    resamples: Resamples


@stage(LabelInputs, version=5, libraries=(*SCORED, "matplotlib", "scikit-learn"), on_device=True)
def score_labels(inputs: LabelInputs, settings: LabelSettings, work: Workdir) -> ScoreReport:
    """Score which class a model puts each row into."""
    from retune.scoring.labels import score_labels

    return score_labels(inputs, settings, work)


class BaselineInputs(Record):
    """Rows that two plain classifiers learn from, and those that they are scored on."""

    train: SideRef
    rows: SideRef
    labels: tuple[str, ...]


class BaselineSettings(Settings):
    """Settings of `score_baselines`."""

    resamples: Resamples


@stage(BaselineInputs, version=3, libraries=("numpy", "scikit-learn", "scipy"))
def score_baselines(
    inputs: BaselineInputs, settings: BaselineSettings, work: Workdir
) -> ScoreReport:
    """Score what any model of labels has to beat."""
    from retune.scoring.labels import score_baselines

    return score_baselines(inputs, settings, work)


class ProbeInputs(Record):
    """A model and the files of cases that it is probed with."""

    model: ScoredModel
    cases: Source
    template: Source | None


class ProbeSettings(Settings):
    """How a probe is asked."""

    system: Annotated[str | None, reads("prompt.system")]
    reasoning_effort: Annotated[str | None, reads("prompt.reasoning_effort")]
    max_new_tokens: Annotated[int, reads("probes.max_new_tokens")]
    batch_size: BatchSize
    devices: ScoringDevices


@stage(ProbeInputs, version=3, libraries=SCORED, on_device=True)
def probe_model(inputs: ProbeInputs, settings: ProbeSettings, work: Workdir) -> ScoreReport:
    """Ask a model fixed questions, and judge its answers."""
    from retune.scoring.probes.probe_models import probe_model

    return probe_model(inputs, settings, work)


class ShowInputs(Record):
    """A model that is asked, and its chat template where it is not its own."""

    model: ScoredModel
    template: Source | None


class ShowSettings(ProbeSettings):
    """What is asked, and how the tokens of the second answer are drawn."""

    show: Annotated[tuple[Text, ...], reads("probes.show")]
    sampling: Annotated[SamplingConfig | None, reads("probes.sampling")]


@stage(ShowInputs, version=1, libraries=ADAPTED, on_device=True)
def show_answers(inputs: ShowInputs, settings: ShowSettings, work: Workdir) -> ScoreReport:
    """Let a model answer the questions that the recipe shows, for a person to read."""
    from retune.scoring.probes.show_answers import show_answers

    return show_answers(inputs, settings, work)


class CounterfactualSettings(ProbeSettings):
    """Settings of `probe_counterfactuals`."""

    resamples: Resamples


@stage(ProbeInputs, version=3, libraries=SCORED, on_device=True)
def probe_counterfactuals(
    inputs: ProbeInputs, settings: CounterfactualSettings, work: Workdir
) -> ScoreReport:
    """Compare what a model does with the same sentence for two groups."""
    from retune.scoring.probes.probe_models import probe_counterfactuals

    return probe_counterfactuals(inputs, settings, work)


class RobustnessInputs(LabelInputs):
    """A model, rows whose questions are perturbed, and the classes where rows have labels."""

    paraphrases: Source | None


class RobustnessSettings(SqlSettings):
    """How questions are perturbed, and how answers to them are judged."""

    kinds: Annotated[tuple[PerturbationKind, ...], reads("probes.robustness.kinds")]
    rows: Annotated[int, reads("probes.robustness.rows")]
    seed: Annotated[int, reads("probes.robustness.seed")]
    typo_rate: Annotated[float, reads("probes.robustness.typo_rate")]
    classify_by: NamesClassBy
    resamples: Resamples


@stage(RobustnessInputs, version=3, libraries=(*SCORED, "sqlglot"), on_device=True)
def probe_robustness(
    inputs: RobustnessInputs, settings: RobustnessSettings, work: Workdir
) -> ScoreReport:
    """Ask the held-out questions again, perturbed on purpose."""
    from retune.scoring.robustness.probe_robustness import probe_robustness

    return probe_robustness(inputs, settings, work)
