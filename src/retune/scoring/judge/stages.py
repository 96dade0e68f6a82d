"""The stages of a judge: what each is given, what it reads of the recipe, and its version."""

from __future__ import annotations

from typing import Annotated

from retune.model_records import ScoredModel
from retune.recipe.sections.judge import (
    JudgeBudget,
    JudgeLanguage,
    JudgePrices,
    JudgeRuntime,
)
from retune.records import DatasetRef, Record, Source, SplitRef
from retune.score_records import JudgeAgreement, JudgedAnswers, ScoreReport
from retune.scoring.stages import SCORED, BatchSize, Resamples, ScoringDevices
from retune.spine.stage import Settings, Workdir, reads, stage


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


@stage(CheckLocalJudgeInputs, version=1, libraries=SCORED, on_device=True)
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


@stage(LocalJudgeInputs, version=1, libraries=SCORED, on_device=True)
def judge_answers_locally(
    inputs: LocalJudgeInputs, settings: LocalJudgeSettings, work: Workdir
) -> JudgedAnswers:
    """Let a model of this machine compare two models' answers."""
    from retune.scoring.judge.win_rate import judge_answers_locally

    return judge_answers_locally(inputs, settings, work)
