"""Tasks on a judge: it is held against people, and then compares the answers of two models."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from retune.errors import ScoringError
from retune.machine import Device
from retune.model_records import ChampionRef, MergedRef, Role, ScoredModel
from retune.modeling.memory.stage_sizes import JudgeSizes
from retune.preflight import stages as preflight
from retune.preflight.memory_plan import JUDGE
from retune.recipe.sections.judge import JudgeConfig, list_judged_keys
from retune.records import Source
from retune.resolving import resolve_model
from retune.score_records import (
    JudgeAgreement,
    JudgedAnswers,
    JudgedSide,
    ModelScores,
    ScoreReport,
)
from retune.scoring.judge import stages
from retune.scoring.judge.kept_answers import ANSWERS_FOLDER
from retune.scoring.judge.standing import doubt_judge, stand
from tasks.champion import Scores
from tasks.runs.job import Job
from tasks.runs.run import RecipeRun
from tasks.runs.stage_task import StageTask, combine, is_pending

check_endpoint = StageTask(stages.check_judge)
check_local = StageTask(stages.check_local_judge)
judge_answers = StageTask(stages.judge_answers)
judge_answers_locally = StageTask(stages.judge_answers_locally)
measure_judge = StageTask(preflight.measure_judge)


def check_judge(job: Job) -> JudgeAgreement | None:
    """Hold the judge against people, before anything is trained.

    Args:
        job: Its recipe names a judge, and pairs that people have judged.

    Returns:
        How they agree; None without a judge, or without such pairs.

    Raises:
        ScoringError: The judge is to decide or to guard, and does not agree with people enough: no
            model could be promoted.
        ConfigError: The judge cannot be found, or not be asked.
        ServiceError: It does not answer.
    """
    judge, verdicts = job.run.recipe.judge, job.inputs.human_verdicts
    if judge is None or verdicts is None:
        return None
    run, wording = _told_place(job.run), _find_wording(job)
    local = find_local(job)
    if local is None:
        found = check_endpoint(run, human_verdicts=verdicts, wording=wording)
    else:
        found = check_local(run, human_verdicts=verdicts, wording=wording, judge=local)
    if not is_pending(found):
        _refuse_doubtful(job, judge, found)
    return found


def judge_release(
    job: Job,
    merged: MergedRef,
    champion: ChampionRef | None,
    scores: Scores,
    agreement: JudgeAgreement | None,
) -> Scores:
    """Let the judge compare the released model's answers with the champion's, or the base's.

    Args:
        job: Its recipe may name a judge.
        merged: The released model.
        champion: What it has to beat; None where that is the base.
        scores: Whose answers are compared.
        agreement: From `check_judge`.

    Returns:
        The scores, with what the judge said of the two; as they are without a judge.

    Raises:
        ConfigError: The judge cannot be asked.
        ServiceError: It does not answer; what it has answered is kept.
    """
    judge, opponent = job.run.recipe.judge, _name_opponent(champion)
    answers = combine(_find_answers, (scores["merged"], scores[opponent]))
    if judge is None or answers is None:
        return scores
    own = combine(lambda _: _list_own(job, merged, champion), (merged, champion))
    judged = _ask_judge(job, answers, own)
    if is_pending([judged, agreement]):
        return {**scores, "merged": cast(ModelScores, judged)}
    standing = stand(judge, agreement, judged)
    sides: dict[Role, JudgedSide] = {"merged": "challenger", opponent: "opponent"}
    known = {role: cast(ModelScores, scores[role]) for role in sides}
    return {
        **scores,
        **{
            role: known[role].judged(judged.report_of(side), standing)
            for role, side in sides.items()
        },
    }


def _name_opponent(champion: ChampionRef | None) -> Role:
    return "base" if champion is None else "champion"


def _find_answers(
    both: tuple[ModelScores | None, ModelScores | None],
) -> tuple[ScoreReport, ScoreReport] | None:
    """Return the answers of two models; None where one writes none."""
    ours, theirs = (each.reports.get("text") if each else None for each in both)
    return None if ours is None or theirs is None else (ours, theirs)


def _ask_judge(
    job: Job,
    answers: tuple[ScoreReport, ScoreReport],
    itself: tuple[str, ...],
) -> JudgedAnswers:
    challenger = combine(lambda both: both[0], answers)
    opponent = combine(lambda both: both[1], answers)
    local, data, system = find_local(job), job.data, job.run.recipe.prompt.system
    if local is None:
        return judge_answers(
            _told_place(job.run),
            challenger=challenger,
            opponent=opponent,
            split=data.split,
            sources=data.rows,
            system=system,
            wording=_find_wording(job),
            itself=itself,
        )
    return judge_answers_locally(
        _told_place(job.run),
        challenger=challenger,
        opponent=opponent,
        split=data.split,
        sources=data.rows,
        system=system,
        wording=_find_wording(job),
        itself=itself,
        judge=local,
    )


def _list_own(job: Job, merged: MergedRef, champion: ChampionRef | None) -> tuple[str, ...]:
    """Name the models that the judge is itself, or that were trained from it."""
    judge, base, local = job.run.recipe.judge, job.inputs.base, find_local(job)
    digests = {"the base": base.digest, "the challenger": merged.digest}
    names = {"the base": base.model_id}
    if champion is not None:
        digests["the champion"] = champion.digest
        names["the champion"] = job.run.recipe.registry.model_name
    if local is not None:
        found = [name for name, digest in digests.items() if digest == local.digest]
    else:
        found = [name for name, known in names.items() if judge and judge.model == known]
    trained = ["the challenger"] if "the base" in found else []
    return tuple(dict.fromkeys([*found, *trained]))


def look_at_judge(job: Job, device: Device) -> JudgeSizes | None:
    """Count what a judge of this machine needs.

    Args:
        job: Its run, inputs and rows.
        device: For which kind of device.

    Returns:
        None where there is none, or what it is asked is not known.
    """
    local = find_local(job)
    if local is None:
        return None
    found = measure_judge(
        job.run,
        judge=local,
        wording=_find_wording(job),
        split=job.data.split,
        sources=job.data.rows,
        system=job.run.recipe.prompt.system,
        human_verdicts=job.inputs.human_verdicts,
        device=device,
        batch_size=job.run.recipe.scoring.runtime.batch_size,
    )
    if is_pending(found):
        return None
    if found.fault:
        job.run.watcher.note(f"memory of the judge is not planned: {found.fault}")
    return found


def find_local(job: Job) -> ScoredModel | None:
    """Return the judge of this machine, held where the plan of memory says.

    Args:
        job: Its recipe may name one.

    Returns:
        None without a judge, or where it is at an endpoint.

    Raises:
        ConfigError: There is no such model.
    """
    run, planned = job.run, job.plan.of(JUDGE) if job.plan else None
    named = run.recipe.judge.local if run.recipe.judge else None
    if named is None:
        return None
    cache = run.store.root / "champions"
    found = resolve_model(named, run.loaded, run.context["tracking_uri"], cache).scored
    return found.held(found.form, planned.place) if planned else found


def _find_wording(job: Job) -> Source:
    # There is one wherever there is a judge.
    return cast(Source, job.inputs.judge_wording)


def _told_place(run: RecipeRun) -> RecipeRun:
    # In the context and no input: where answers are kept changes no verdict.
    place = str(run.store.root / ANSWERS_FOLDER)
    return replace(run, context={**run.context, ANSWERS_FOLDER: place})


def _refuse_doubtful(job: Job, judge: JudgeConfig, found: JudgeAgreement) -> None:
    doubts, keys = doubt_judge(judge, found), list_judged_keys(job.run.recipe.gate)
    if doubts and keys:
        raise ScoringError(
            f"{', '.join(keys)}: the judge {judge.name} may decide nothing, so that no model could "
            f"be promoted: {'; '.join(doubts)}. {found.folder / 'verdicts.jsonl'} has its verdicts "
            "pair by pair. Name another judge, judge.prompt or judge.rubric, or let another figure "
            "decide."
        )
