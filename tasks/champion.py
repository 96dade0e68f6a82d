"""Tasks on champion and challenger: can they be compared, which is better, and registering it."""

from __future__ import annotations

from retune.data.chats.tokenizers import tokenizer_digest
from retune.errors import ConfigError
from retune.modeling.head_files import read_labels
from retune.modeling.tokenizer_identity import compare_tokenizers
from retune.records import BaseRef, ChampionRef, MergedRef, ModelScores
from retune.registry import stages as registry
from retune.registry.versions import find_opponent
from retune.release import stages as release
from tasks.data import retokenize_rows
from tasks.job import Job
from tasks.run import RecipeRun
from tasks.scoring import score_model
from tasks.stage_task import StageTask, is_pending

decide = StageTask(release.decide)
register_model = StageTask(registry.register_model)


def refuse_unlike_champion(job: Job) -> None:
    """Stop before anything expensive where challenger and champion could never be compared.

    Args:
        job: Its run, inputs and rows.

    Raises:
        ConfigError: The champion reads other tokens, or names other classes than the rows have.
    """
    run, inputs = job.run, job.inputs
    champion = _find(run, "")
    if champion is None:
        return
    likeness = compare_tokenizers(inputs.base.folder, champion.tokenizer, inputs.template)
    if likeness == "other_tokens":
        raise ConfigError(
            f"{_called(run, champion)} has another tokenizer than model.id of this recipe: what "
            f"the two say of a row is over other tokens, and no gate can decide. {_instead()}"
        )
    known = read_labels(champion.adapter or champion.weights)
    if known is None:
        return
    if not inputs.has_labels:
        raise ConfigError(
            f"{_called(run, champion)} has a classification head, which names classes and writes "
            f"nothing, but no source of rows has labels. {_instead()}"
        )
    if not is_pending(job.labels) and sorted(known) != sorted(job.labels):
        raise ConfigError(
            f"{_called(run, champion)} has a classification head for the labels "
            f"{', '.join(known)}, and the rows have {', '.join(job.labels)}. {_instead()}"
        )


def find_champion(run: RecipeRun, merged: MergedRef) -> ChampionRef | None:
    """Return the registered version that the merged model has to beat, or None.

    Args:
        run: The current run.
        merged: The challenger. When it is the champion itself, the one that it beat is returned,
            so that a reused run asks the same question as the run that it reuses.
    """
    # A merged model that a plan cannot know yet is no registered one.
    return _find(run, "" if is_pending(merged) else merged.digest)


def score_champion(job: Job, champion: ChampionRef | None) -> ModelScores | None:
    """Score the champion on the rows, asked in its own chat template where it has another.

    Args:
        job: With the rows as the recipe's base reads them.
        champion: From `find_champion`.

    Returns:
        Its reports; None where there is no champion.
    """
    if champion is None:
        return None
    inputs = job.inputs
    if compare_tokenizers(inputs.base.folder, champion.tokenizer, inputs.template) != "alike":
        reader = BaseRef(
            digest=champion.digest,
            folder=champion.tokenizer,
            model_id=_called(job.run, champion),
            revision=None,
            tokenizer_digest=tokenizer_digest(champion.tokenizer),
        )
        job = retokenize_rows(job, "the champion", reader)
    return score_model(job, "champion", champion.as_scored())


def _find(run: RecipeRun, merged_digest: str) -> ChampionRef | None:
    return find_opponent(
        run.context["tracking_uri"],
        run.recipe.registry.model_name,
        merged_digest,
        cache_folder=run.store.root / "champions",
    )


def _called(run: RecipeRun, champion: ChampionRef) -> str:
    return f"{run.recipe.registry.model_name} version {champion.version}, the champion,"


def _instead() -> str:
    return (
        "Name another registry.model_name, or take the alias champion from that version in the "
        "MLflow UI."
    )
