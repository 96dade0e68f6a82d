"""Tasks on champion and challenger: can they be compared, which is better, and registering it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from retune.data.chats.tokenizers import tokenizer_digest
from retune.errors import ConfigError
from retune.gate import stages as gate
from retune.gate.requirements import choose_planned_metric, list_scored_figures
from retune.model_records import AdapterRef, BaseRef, ChampionRef, MergedRef, Role
from retune.modeling.head_files import read_labels
from retune.modeling.snapshots import weigh_model
from retune.modeling.tokenizer_identity import compare_tokenizers
from retune.records import Source
from retune.registry import stages as registry
from retune.registry.aliases.moving import settle_model
from retune.registry.records import TRAINING_HOURS
from retune.registry.versions.finding import find_opponent
from retune.release.error_budget import ErrorBudget
from retune.score_records import GateDecision, ModelScores, RegisteredRef
from retune.scoring.figures import FIGURES, figure_of
from retune.training.resource_record import read_measured
from tasks.data import retokenize_rows
from tasks.runs.job import Job
from tasks.runs.run import RecipeRun
from tasks.runs.stage_task import StageTask, combine, is_pending
from tasks.scoring import score_model

decide = StageTask(gate.decide)
register_model = StageTask(registry.register_model)

_SECONDS_PER_HOUR = 3600

Scores = Mapping[Role, ModelScores | None]
"""The reports of each model; None where there is no such model."""


def settle_champion(run: RecipeRun) -> None:
    """Make sure before anything expensive that a decision can be written down at the end.

    Args:
        run: The current run; while it is planning nothing is changed.

    Raises:
        ArtifactError: The ledger does not hold, or a withdrawn model was made champion by hand.
        ServiceError: MLflow does not answer.
    """
    if not run.planning:
        name = run.recipe.registry.model_name
        settle_model(run.context["tracking_uri"], name, Path(run.context["ledgers"]))


def refuse_unlike_champion(job: Job) -> None:
    """Stop before anything expensive where challenger and champion could never be compared.

    Args:
        job: Its run, inputs and rows.

    Raises:
        ConfigError: The champion names other classes than the rows have; or it has a head, or reads
            other tokens, and the recipe asks for a figure that such a model does not have, or that
            cannot be compared, as what decides or as a guard.
    """
    run, inputs = job.run, job.inputs
    champion = _find(run, "")
    if champion is None:
        return
    likeness = compare_tokenizers(inputs.base.folder, champion.tokenizer, inputs.template)
    if likeness == "other_tokens":
        _refuse_figures_per_token(job, champion)
    known = read_labels(champion.adapter or champion.weights)
    if known is None:
        return
    if not inputs.has_labels:
        raise ConfigError(
            f"{_called(run, champion)} has a classification head, which names classes and writes "
            f"nothing, but no source of rows has labels. {_instead()}"
        )
    _refuse_figures_of_writers(job, champion)
    if not is_pending(job.labels) and sorted(known) != sorted(job.labels):
        raise ConfigError(
            f"{_called(run, champion)} has a classification head for the labels "
            f"{', '.join(known)}, and the rows have {', '.join(job.labels)}. {_instead()}"
        )


def find_champion(run: RecipeRun, merged: MergedRef | None) -> ChampionRef | None:
    """Return the registered version that the merged model has to beat, or None.

    Args:
        run: The current run.
        merged: The challenger. When it is the champion itself, the one that it beat is returned,
            so that a reused run asks the same question as the run that it reuses. None: there is
            no challenger yet.
    """
    # A merged model that a plan cannot know yet is no registered one.
    return _find(run, "" if merged is None or is_pending(merged) else merged.digest)


def decide_release(
    job: Job,
    merged: MergedRef,
    champion: ChampionRef | None,
    scores: Scores,
    budget: ErrorBudget | None,
) -> GateDecision:
    """Say whether the released model becomes champion.

    Args:
        job: Its run, inputs and held-out rows.
        merged: The challenger.
        champion: From `find_champion`.
        scores: Of `merged`, `base` and `champion`.
        budget: What the held-out rows may still be asked; None where a plan does not know it.

    Returns:
        The decision.
    """
    return decide(
        job.run,
        challenger=cast(ModelScores, scores["merged"]),
        base=cast(ModelScores, scores["base"]),
        champion=scores["champion"],
        rows=job.data.chat.side("test"),
        # Without a budget the stage is not computed: the plan knows no challenger either.
        alpha=0.0 if budget is None else budget.alpha,
        release_bytes=_weigh(job, merged, champion),
    )


def register_release(
    job: Job,
    adapter: AdapterRef,
    merged: MergedRef,
    decision: GateDecision,
    champion: ChampionRef | None,
    scores: Scores,
) -> RegisteredRef:
    """Make the released model a version, and let the decision on it take effect.

    Args:
        job: Its run, inputs and held-out rows.
        adapter: What was trained last; how long that took is written down with the decision.
        merged: The released model.
        decision: The gate's.
        champion: What it was compared with.
        scores: Of `merged`.

    Returns:
        The version, and the alias that it got.
    """
    return register_model(
        _told_cost(job.run, adapter),
        merged=merged,
        decision=decision,
        champion=champion,
        rows=job.data.chat.side("test"),
        test_set="" if (cases := cases_that_decide(job)) is None else cases.digest,
        base=job.inputs.base,
        scores=scores["merged"],
    )


def cases_that_decide(job: Job) -> Source | None:
    """Return the file of probes where a figure over its cases decides; None where rows do.

    Args:
        job: Its recipe and files.
    """
    metric = job.run.recipe.gate.metric
    return job.inputs.probes if metric and figure_of(metric).over == "cases" else None


def _told_cost(run: RecipeRun, adapter: AdapterRef) -> RecipeRun:
    # In the context and no input: a training that took longer is not another model.
    measured = None if is_pending(adapter) else read_measured(adapter.folder)
    if measured is None:
        return run
    hours = measured.seconds / _SECONDS_PER_HOUR
    return replace(run, context={**run.context, TRAINING_HOURS: str(hours)})


def _weigh(job: Job, merged: MergedRef, champion: ChampionRef | None) -> dict[str, int]:
    """Return the size of each model's weights in bytes, where a guard compares it."""
    if "release_bytes" not in job.run.recipe.gate.guards:
        return {}
    models: dict[str, MergedRef | BaseRef | ChampionRef]
    models = {"challenger": merged, "base": job.inputs.base}
    if champion is not None:
        models["champion"] = champion
    return combine(
        lambda each: {name: weigh_model(model.as_scored()) for name, model in each.items()}, models
    )


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
    return score_model(read_as_champion(job, champion), "champion", champion.as_scored())


def read_as_champion(job: Job, champion: ChampionRef) -> Job:
    """Return the job with the rows as the champion reads them.

    Args:
        job: With the rows as the recipe's base reads them.
        champion: Its tokenizer and template make them anew where they are others.
    """
    inputs = job.inputs
    likeness = compare_tokenizers(inputs.base.folder, champion.tokenizer, inputs.template)
    if likeness == "other_tokens":
        # A release is saved with the template that it was trained in; the recipe's is another's.
        job = replace(job, inputs=replace(inputs, template=None))
    if likeness != "alike":
        reader = BaseRef(
            digest=champion.digest,
            folder=champion.tokenizer,
            model_id=_called(job.run, champion),
            revision=None,
            tokenizer_digest=tokenizer_digest(champion.tokenizer),
        )
        job = retokenize_rows(job, "the champion", reader)
    return job


def _refuse_figures_per_token(job: Job, champion: ChampionRef) -> None:
    gate, run = job.run.recipe.gate, job.run
    asked = {
        "gate.metric": gate.metric or "",
        **{f"gate.guards.{name}": name for name in gate.guards},
    }
    named = [key for key, name in asked.items() if name in FIGURES and FIGURES[name].per_token]
    if named:
        raise ConfigError(
            f"{_called(run, champion)} has another tokenizer than model.id of this recipe: what "
            f"the two say of a row is over other tokens, and {', '.join(named)} names a figure per "
            f"token. Name bits_per_byte in its place, or: {_instead()}"
        )
    run.watcher.note(
        f"{_called(run, champion)} reads other tokens: it is compared on the same rows, each model "
        "in its own tokens and template, and no figure per token is"
    )


def _refuse_figures_of_writers(job: Job, champion: ChampionRef) -> None:
    run, gate = job.run, job.run.recipe.gate
    scored = list_scored_figures(run.recipe, job.inputs)
    asked = {"gate.metric": choose_planned_metric(gate, scored)}
    asked |= {f"gate.guards.{name}": name for name in gate.guards}
    known = list_scored_figures(run.recipe, job.inputs, writes=False)
    absent = [f"{key} ({name})" for key, name in asked.items() if name not in known]
    if absent:
        raise ConfigError(
            f"{_called(run, champion)} has a classification head, which writes nothing, so that "
            f"it could never be compared by {', '.join(absent)}. It has {', '.join(known)}: name "
            f"one of these in gate.metric, and guard no other. {_instead()}"
        )


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
