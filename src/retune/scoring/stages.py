"""The stages that score: what each is given, what it reads of the recipe, and its version."""

from __future__ import annotations

from typing import Annotated

from retune.model_records import ScoredModel
from retune.modeling.libraries import ADAPTED
from retune.recipe.sections.base import Devices, Text
from retune.recipe.sections.judge import (
    JudgeBudget,
    JudgeLanguage,
    JudgePrices,
    JudgeRuntime,
)
from retune.recipe.sections.rubrics import RubricConfig
from retune.recipe.sections.scoring import (
    ClassifyBy,
    PerturbationKind,
    SamplingConfig,
    TextMetricName,
    TextNormaliser,
)
from retune.records import DatasetRef, Record, SideRef, Source, SplitRef
from retune.score_records import JudgeAgreement, JudgedAnswers, ScoreReport
from retune.spine.stage import Settings, Workdir, reads, stage

_SCORED = (*ADAPTED, "numpy", "scipy")

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


@stage(ScoreInputs, version=4, libraries=_SCORED, on_device=True)
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


@stage(ScoreInputs, version=5, libraries=(*_SCORED, "sqlglot"), on_device=True)
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
    libraries=(*_SCORED, "datasets", "evaluate", "rouge_score", "sacrebleu"),
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


class JudgeInputs(Record):
    """Two models' answers to the same rows, and how a judge is asked which is better."""

    challenger: ScoreReport
    """Of `score_text`, as the opponent's."""
    opponent: ScoreReport
    split: SplitRef
    """Names the held-out rows."""
    sources: tuple[DatasetRef, ...]
    """What they ask."""
    system: str | None
    """The recipe's system message."""
    wording: Source
    """The text that the judge is asked by."""
    itself: tuple[str, ...]
    """Which of the models the judge is itself, or was trained from."""


class LocalJudgeInputs(JudgeInputs):
    """The same, with a judge of this machine."""

    judge: ScoredModel


class CheckJudgeInputs(Record):
    """Pairs that people have judged, and how a judge is asked about them."""

    human_verdicts: Source
    wording: Source


class CheckLocalJudgeInputs(CheckJudgeInputs):
    """The same, with a judge of this machine."""

    judge: ScoredModel


class JudgementSettings(Settings):
    """How any judge is asked."""

    language: Annotated[JudgeLanguage, reads("judge.language")]
    rubric: Annotated[str | None, reads("judge.rubric")]
    max_new_tokens: Annotated[int, reads("judge.max_new_tokens")]
    resamples: Resamples


class JudgeSettings(JudgementSettings):
    """A judge at an endpoint, and what it may take."""

    endpoint: Annotated[str, reads("judge.endpoint")]
    model: Annotated[str, reads("judge.model")]
    revision: Annotated[str | None, reads("judge.revision")]
    budget: Annotated[JudgeBudget, reads("judge.budget")]
    prices: Annotated[JudgePrices | None, reads("judge.prices")]
    runtime: Annotated[JudgeRuntime, reads("judge.runtime")]


class LocalJudgeSettings(JudgementSettings):
    """How a judge of this machine is run."""

    batch_size: BatchSize
    devices: ScoringDevices


_JUDGED = ("numpy", "scipy")


@stage(CheckJudgeInputs, version=1, libraries=_JUDGED)
def check_judge(inputs: CheckJudgeInputs, settings: JudgeSettings, work: Workdir) -> JudgeAgreement:
    """Hold a judge at an endpoint against people."""
    from retune.scoring.judge.agreement import check_judge

    return check_judge(inputs, settings, work)


@stage(CheckLocalJudgeInputs, version=1, libraries=_SCORED, on_device=True)
def check_local_judge(
    inputs: CheckLocalJudgeInputs, settings: LocalJudgeSettings, work: Workdir
) -> JudgeAgreement:
    """Hold a model of this machine, as a judge, against people."""
    from retune.scoring.judge.agreement import check_local_judge

    return check_local_judge(inputs, settings, work)


@stage(JudgeInputs, version=1, libraries=_JUDGED)
def judge_answers(inputs: JudgeInputs, settings: JudgeSettings, work: Workdir) -> JudgedAnswers:
    """Let a judge at an endpoint compare two models' answers."""
    from retune.scoring.judge.win_rate import judge_answers

    return judge_answers(inputs, settings, work)


@stage(LocalJudgeInputs, version=1, libraries=_SCORED, on_device=True)
def judge_answers_locally(
    inputs: LocalJudgeInputs, settings: LocalJudgeSettings, work: Workdir
) -> JudgedAnswers:
    """Let a model of this machine compare two models' answers."""
    from retune.scoring.judge.win_rate import judge_answers_locally

    return judge_answers_locally(inputs, settings, work)


class TextInputs(Record):
    """A model and the texts that it is scored on."""

    model: ScoredModel
    text: Source


@stage(TextInputs, version=3, libraries=_SCORED, on_device=True)
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


@stage(LabelInputs, version=5, libraries=(*_SCORED, "matplotlib", "scikit-learn"), on_device=True)
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


@stage(ProbeInputs, version=3, libraries=_SCORED, on_device=True)
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


@stage(ProbeInputs, version=3, libraries=_SCORED, on_device=True)
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


@stage(RobustnessInputs, version=3, libraries=(*_SCORED, "sqlglot"), on_device=True)
def probe_robustness(
    inputs: RobustnessInputs, settings: RobustnessSettings, work: Workdir
) -> ScoreReport:
    """Ask the held-out questions again, perturbed on purpose."""
    from retune.scoring.robustness.probe_robustness import probe_robustness

    return probe_robustness(inputs, settings, work)
