"""Tasks of the gate's self-test: a model, and the same rows in another order and other batches."""

from __future__ import annotations

from dataclasses import dataclass, replace

from retune.gate import stages
from retune.gate.self_test import SelfTest, describe_gate, run_self_test
from retune.gate.stages import DecideSettings
from retune.model_records import ChampionRef
from retune.registry.versions.finding import find_opponent
from retune.score_records import ModelScores
from retune.scoring.uncertainty.resampling import SEED
from tasks.champion import read_as_champion
from tasks.runs.job import Job
from tasks.runs.stage_task import StageTask
from tasks.scoring import score_model

shuffle_rows = StageTask(stages.shuffle_rows)


@dataclass(frozen=True)
class TestedModel:
    """What is scored against itself.

    Attributes:
        name: For people.
        champion: The registered version; None for the base.
    """

    name: str
    champion: ChampionRef | None


def find_tested_model(job: Job) -> TestedModel:
    """Return the champion, or the base where there is none.

    Args:
        job: Its run.

    Raises:
        ArtifactError: The champion's files are gone.
        ServiceError: MLflow does not answer.
    """
    run, name = job.run, job.run.recipe.registry.model_name
    champion = find_opponent(
        run.context["tracking_uri"], name, "", cache_folder=run.store.root / "champions"
    )
    if champion is None:
        return TestedModel("base", None)
    return TestedModel(f"{name} version {champion.version}", champion)


def read_as(job: Job, model: TestedModel) -> Job:
    """Return the job with the rows as the model reads them."""
    return job if model.champion is None else read_as_champion(job, model.champion)


def score_tested(job: Job, model: TestedModel, role: str) -> ModelScores:
    """Score the model on the rows.

    Args:
        job: With the rows.
        model: The model.
        role: Which scoring it is, as lines name it.
    """
    base = job.inputs.base
    scored = base.as_scored() if model.champion is None else model.champion.as_scored()
    return score_model(job, role, scored)


def shuffle_and_rebatch(job: Job) -> Job:
    """Return the job with its held-out rows in another order, scored in batches of another size."""
    run, data = job.run, job.data
    chat = shuffle_rows(run, chat=data.chat, seed=SEED)
    scoring = run.recipe.scoring
    # Of the rows that there are: a batch that holds them all is the same one at any larger size.
    size = min(scoring.runtime.batch_size, data.chat.test)
    runtime = scoring.runtime.model_copy(update={"batch_size": size // 2 or 2})
    update = {"scoring": scoring.model_copy(update={"runtime": runtime})}
    recipe = run.recipe.model_copy(update=update)
    other = replace(run, settings=recipe, loaded=replace(run.loaded, recipe=recipe))
    return replace(job, run=other, data=replace(data, chat=chat))


def judge_scorings(
    job: Job, model: TestedModel, first: ModelScores, second: ModelScores, draws: int
) -> SelfTest:
    """Let the gate compare two scorings of one model.

    Args:
        job: With the rows in their own order.
        model: The model.
        first: Its scores on them.
        second: On the others.
        draws: Bootstrap seeds.
    """
    settings = DecideSettings.of(job.run.recipe)
    if note := describe_gate(settings.gate):
        job.run.watcher.note(note)
    rows = job.data.chat.side("test")
    return run_self_test(model.name, first, second, rows, settings, draws)
