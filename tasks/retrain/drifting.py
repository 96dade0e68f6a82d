"""Tasks of the trigger `drift`: served requests against what the champion was trained on."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact

from retune.model_records import ChampionRef
from retune.modeling.head_files import has_head
from retune.retraining import stages
from retune.retraining.drift import judge_drift, judge_no_requests, judge_too_few
from retune.retraining.drift_page import write_drift_page
from retune.retraining.drift_records import DriftReport, PromptLosses, RequestsRef, View
from retune.retraining.findings import TriggerFinding
from retune.retraining.request_log import locate_log
from tasks.champion import read_as_champion
from tasks.estimating import plan_scoring
from tasks.remembering import history_of
from tasks.runs.job import Job
from tasks.runs.prefect_api import show
from tasks.runs.stage_task import StageTask, is_pending

read_requests = StageTask(stages.read_requests)
compare_requests = StageTask(stages.compare_requests)
score_prompts = StageTask(stages.score_prompts)


def find_drift(job: Job, champion: ChampionRef) -> TriggerFinding:
    """Ask whether what is asked in production is still what the champion was trained on.

    The champion is loaded only where its losses are asked for and nothing cheaper has drifted.

    Args:
        job: Its recipe names the log; its rows are those that the champion was trained on.
        champion: The champion.

    Returns:
        Whether to retrain for it, and why. While planning, what a plan can know.

    Raises:
        DataError: The log cannot be where the recipe says, or no line of it can be read.
    """
    run, recipe = job.run, job.run.recipe
    config = recipe.retrain.triggers.drift
    if config is None:
        return TriggerFinding(trigger="drift", fires=False, reason="drift is not asked for")
    log = locate_log(config.log, run.loaded.resolve(config.log), config.max_rows)
    if log is None:
        return judge_no_requests(config)
    requests = read_requests(run, log=log, encoding=recipe.data.encoding)
    if is_pending(requests):
        return _not_planned()
    if requests.rows < config.min_rows:
        return judge_too_few(config, requests, requests.rows)
    report = compare_requests(
        run,
        requests=requests,
        rows=job.data.chat.side("train"),
        split=job.data.split,
        history=history_of(job),
        base=job.inputs.base,
        template=job.inputs.template,
        view=choose_view(job),
    )
    if is_pending(report):
        return _not_planned()
    finding, losses = judge_drift(config, requests, report), None
    if config.loss and report.indices and not finding.fires:
        losses = _score_prompts(job, champion, requests, report)
        if is_pending(losses):
            return _not_planned()
        finding = judge_drift(config, requests, report, losses)
    _report_drift(job, finding, report, losses)
    return finding


def choose_view(job: Job) -> View:
    """Say what of a training row the log's texts are like.

    Args:
        job: Its recipe names the key of the log, its inputs the formats of the rows.
    """
    drift, columns = job.run.recipe.retrain.triggers.drift, job.run.recipe.data.columns
    if not job.inputs.asks_questions:
        return "text"
    asked = drift.column if drift is not None else "prompt"
    # `prompt` is what a server was sent, whatever rows call their questions.
    only_question = asked != "prompt" and asked in ("question", columns.question)
    return "question" if only_question else "prompt"


def _score_prompts(
    job: Job, champion: ChampionRef, requests: RequestsRef, report: DriftReport
) -> PromptLosses | None:
    if has_head(champion.as_scored()):
        job.run.watcher.note("drift: the champion has a classification head, which has no loss")
        return None
    scored = plan_scoring(job).hold(champion.as_scored(), adapted=False)
    chat = read_as_champion(job, champion).data.chat
    learned = job.run.recipe.prompt.loss_on != "answer" or not job.inputs.asks_questions
    return score_prompts.of("champion")(
        job.run,
        model=scored,
        requests=requests,
        rows=chat.side("validation" if learned else "train"),
        view=choose_view(job),
        level=report.level,
    )


def _not_planned() -> TriggerFinding:
    reason = "not known before the requests have been compared"
    return TriggerFinding(trigger="drift", fires=False, reason=reason)


def _report_drift(
    job: Job, finding: TriggerFinding, report: DriftReport, losses: PromptLosses | None
) -> None:
    """Show bins of requests and of training rows side by side, for a person to see what moved."""
    folder = job.run.store.root / "reports" / f"drift-{report.digest[:12]}"
    page = write_drift_page(folder, finding, report, losses)
    if not (job.run.planning or job.run.direct):
        show(
            create_markdown_artifact,
            key="drift",
            description=finding.reason[:200],
            markdown=page.read_text("utf-8"),
        )
