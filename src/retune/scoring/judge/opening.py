"""A judge as its stages are given it: who answers, how it is asked, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

from retune.model_records import ScoredModel
from retune.recipe.sections.judge import JudgeBudget
from retune.records import Source
from retune.scoring.judge.asking import Asking
from retune.scoring.judge.endpoint import EndpointJudge
from retune.scoring.judge.kept_answers import ANSWERS_FOLDER, KeptAnswers
from retune.scoring.judge.spending import Purse
from retune.scoring.judge.stages import JudgeSettings, LocalJudgeSettings
from retune.scoring.judge.wording import Wording
from retune.spine.stage import Workdir


def open_asking(wording: Source, settings: JudgeSettings, work: Workdir) -> tuple[Asking, Purse]:
    """Return a judge at an endpoint, and who counts what it takes.

    Args:
        wording: The text that it is asked by.
        settings: Where it is, and how it is asked.
        work: Says where answers are kept.
    """
    purse = Purse(settings.budget, settings.prices)
    judge = EndpointJudge(
        settings.endpoint,
        settings.model,
        max_new_tokens=settings.max_new_tokens,
        runtime=settings.runtime,
        purse=purse,
    )
    known = {
        "endpoint": settings.endpoint,
        "model": settings.model,
        "revision": settings.revision,
        "max_new_tokens": settings.max_new_tokens,
    }
    asked_by = Wording(wording, settings.language, settings.rubric)
    return Asking(judge, asked_by, KeptAnswers(_folder_of(work), known), work.reporter), purse


def open_local_asking(
    wording: Source, model: ScoredModel, settings: LocalJudgeSettings, work: Workdir
) -> tuple[Asking, Purse]:
    """Return a judge on this machine, and who counts what it takes.

    Args:
        wording: The text that it is asked by.
        model: Where its parts lie.
        settings: How it is asked.
        work: Says where answers are kept.
    """
    # Imported here: who asks an endpoint loads no model.
    from retune.scoring.judge.local_judge import LocalJudge

    purse = Purse(JudgeBudget(), None)
    judge = LocalJudge(
        model,
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        devices=settings.devices,
        purse=purse,
    )
    known = {"digest": model.digest, "max_new_tokens": settings.max_new_tokens}
    asked_by = Wording(wording, settings.language, settings.rubric)
    return Asking(judge, asked_by, KeptAnswers(_folder_of(work), known), work.reporter), purse


def _folder_of(work: Workdir) -> Path:
    # By hand, without a run that says where: beside the computation, which keeps it while it fails.
    return Path(work.context.get(ANSWERS_FOLDER, work.scratch / ANSWERS_FOLDER))
