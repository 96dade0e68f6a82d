"""Tasks that put models side by side: finding them, making their rows, reporting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from retune.data.chats.templates import knows_effort
from retune.data.chats.tokenizers import load_tokenizer
from retune.data.tables import read_rows
from retune.digests import digest_json
from retune.errors import ConfigError
from retune.modeling.tokenizer_identity import Likeness, compare_tokenizers
from retune.recipe.sections.prompt import Effort
from retune.release.comparing import (
    ModelComparison,
    ScoredCandidate,
    compare_models,
    write_comparison,
)
from retune.resolving import EvaluatedModel, resolve_model
from tasks.data import render_rows, retokenize_rows
from tasks.modeling import quantize_model
from tasks.runs.job import Job
from tasks.runs.prefect_api import show
from tasks.runs.run import RecipeRun
from tasks.scoring import score_model


def find_models(run: RecipeRun, models: Sequence[str]) -> list[EvaluatedModel]:
    """Find all models before anything is computed.

    Args:
        run: The current run.
        models: As a person named them.

    Returns:
        The models, each with a name of its own.

    Raises:
        ConfigError: There are none, or one is not there.
    """
    if not models:
        raise ConfigError("No model to evaluate. Name one or several, such as base.")
    cache = run.store.root / "champions"
    uri = run.context["tracking_uri"]
    found: list[EvaluatedModel] = []
    for text in models:
        model = resolve_model(text, run.loaded, uri, cache)
        if model.doubt:
            run.watcher.note(model.doubt)
        names = {each.name for each in found}
        times = sum(each.name.partition(" (")[0] == model.name for each in found)
        found.append(
            replace(model, name=f"{model.name} ({times + 1})") if model.name in names else model
        )
    return found


def prepare_for(job: Job, model: EvaluatedModel) -> tuple[Job, Likeness]:
    """Return the job with the rows as a model reads them, made anew where it has another tokenizer.

    Args:
        job: With the rows as the recipe's base reads them.
        model: What is scored.

    Returns:
        The job with the same rows, and how alike the two tokenizers are.
    """
    inputs = job.inputs
    likeness = compare_tokenizers(inputs.base.folder, model.tokenizer.folder, inputs.template)
    if likeness == "alike":
        return job, likeness
    return retokenize_rows(job, model.name, model.tokenizer), likeness


def refuse_unknown_efforts(
    job: Job, models: Sequence[EvaluatedModel], efforts: Sequence[Effort]
) -> None:
    """Refuse models that cannot be told how much to think, before anything is computed.

    Args:
        job: Its template is that of all models, where the recipe names one.
        models: What is scored.
        efforts: What they shall be asked.

    Raises:
        ConfigError: An effort is named twice, or a template knows none; the message names models.
    """
    if len(set(efforts)) < len(efforts):
        raise ConfigError(f"--effort: found {', '.join(efforts)}; expected each effort once.")
    deaf = [each.name for each in models if efforts and not _knows_effort(job, each)]
    if deaf:
        raise ConfigError(
            f"--effort: the chat template of {', '.join(deaf)} knows no reasoning_effort, so that "
            "it would change nothing. Leave --effort out, or name models whose template has it "
            "(gpt-oss)."
        )


def _knows_effort(job: Job, model: EvaluatedModel) -> bool:
    return knows_effort(load_tokenizer(model.tokenizer.folder, job.inputs.template))


def ask_with_effort(job: Job, model: EvaluatedModel, effort: Effort) -> tuple[Job, Likeness]:
    """Return the job with the rows as a model reads them that shall think so much.

    Args:
        job: With the rows as the recipe's base reads them.
        model: What is scored.
        effort: How much it shall think.

    Returns:
        The job with the same rows, and how alike the two tokenizers are.
    """
    run, inputs = job.run, job.inputs
    prompt = run.recipe.prompt.model_copy(update={"reasoning_effort": effort})
    recipe = run.recipe.model_copy(update={"prompt": prompt})
    asked = replace(run, settings=recipe, loaded=replace(run.loaded, recipe=recipe))
    likeness = compare_tokenizers(inputs.base.folder, model.tokenizer.folder, inputs.template)
    return render_rows(replace(job, run=asked), model.tokenizer), likeness


def put_on_weights(job: Job, model: EvaluatedModel) -> EvaluatedModel:
    """Return an adapter on the recipe's model over the weights that a run scores it on.

    Args:
        job: Its run and inputs.
        model: What is scored; all but such adapters are returned unchanged, and those that an
            engine elsewhere answers for.
    """
    if model.scored.engine is not None:
        return model
    if model.adapter_digest is None or job.run.recipe.quantization.kind == "none":
        return model
    # Not `inputs.base`: its weights may not be here yet.
    quantized = quantize_model(
        job.run, base=model.tokenizer, reference_text=job.inputs.reference_text
    )
    return model.over(quantized)


def score_candidate(
    job: Job, model: EvaluatedModel, likeness: Likeness, effort: Effort | None = None
) -> ScoredCandidate:
    """Score one model on everything.

    Args:
        job: With the rows as the model reads them.
        model: What is scored.
        likeness: How alike its tokenizer and the base's are.
        effort: How much it is asked to think, where efforts are compared.
    """
    adapted = model.adapter_digest is not None
    name = f"{model.name}, effort {effort}" if effort else model.name
    scores = score_model(job, name, model.scored, adapted=adapted)
    place = model.name if model.kind == "registered" else model.tokenizer.model_id
    if model.scored.adapter is not None:
        place = f"{model.scored.adapter} on {place}"
    if model.scored.engine is not None:
        place = f"{place}, asked as {model.scored.engine.model} at {model.scored.engine.address}"
    return ScoredCandidate(
        name=name,
        kind=model.kind,
        place=place,
        digest=model.scored.digest,
        likeness=likeness,
        scores=scores,
        effort=effort,
        engine=model.scored.engine,
    )


def report_evaluation(
    job: Job, evaluated: Sequence[ScoredCandidate], out: Path | None
) -> ModelComparison:
    """Write down how the models compare: pages, JSON, Prefect.

    Args:
        job: With the rows as the recipe's base reads them.
        evaluated: Models and scores.
        out: Folder of the pages; None for one below the store's `reports`.

    Returns:
        The comparison.
    """
    recipe = job.run.recipe
    identity = [[each.name, each.digest, each.scores.digest] for each in evaluated]
    folder = job.run.store.root / "reports" / f"evaluation-{digest_json(identity)[:12]}"
    prompts = read_rows(job.data.chat.side("test").folder / "rows.parquet")
    comparison = compare_models(
        evaluated,
        recipe=recipe.name,
        folder=(out or folder).absolute(),
        resamples=recipe.scoring.resamples,
        samples=recipe.scoring.samples,
        prompts={row["row_id"]: row["prompt"] for row in prompts},
    )
    write_comparison(comparison)
    _report_to_prefect(comparison)
    return comparison


def _report_to_prefect(comparison: ModelComparison) -> None:
    show(
        create_table_artifact,
        key="comparison",
        description=f"{comparison.recipe}: models on the same rows, with 95 % intervals",
        table=[
            {
                "model": model.name,
                "metric": name,
                "value": figure.value,
                "low": figure.low,
                "high": figure.high,
                "rows": figure.n,
                "unscored": figure.unscored,
            }
            for model in comparison.models
            for name, figure in model.metrics.items()
        ],
    )
    show(
        create_markdown_artifact,
        key="comparison-page",
        description="Models side by side",
        markdown=(comparison.folder / "comparison.md").read_text("utf-8"),
    )
