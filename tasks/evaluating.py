"""Tasks that put models side by side: finding them, making their rows, telling what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from retune.data.prepared import PreparedData
from retune.data.tables import read_rows
from retune.digests import digest_json
from retune.errors import ConfigError
from retune.inputs import Inputs
from retune.modeling.resolving import EvaluatedModel, resolve_model
from retune.modeling.tokenizer_identity import Likeness, compare_tokenizers
from retune.recipe.loading import load_recipe
from retune.records import Role
from retune.release.comparing import (
    ModelComparison,
    ScoredCandidate,
    compare_models,
    write_comparison,
)
from retune.store import check_writable
from tasks.data import read_anew
from tasks.modeling import quantize_model
from tasks.run import RecipeRun, open_run
from tasks.running import prepare_run
from tasks.scoring import score_model

Evaluated = ScoredCandidate


@contextmanager
def evaluation_run(recipe: Path, overrides: Sequence[str]) -> Iterator[RecipeRun]:
    """Open a run that computes and writes nothing to MLflow.

    Args:
        recipe: The recipe's file.
        overrides: Settings that win over it.

    Yields:
        The run.

    Raises:
        ConfigError: The recipe is wrong.
        ArtifactError: The store cannot be written.
    """
    run = prepare_run(load_recipe(recipe, overrides))
    check_writable(run.store.root)
    with open_run(run):
        yield run


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


def prepare_for(
    run: RecipeRun, model: EvaluatedModel, data: PreparedData, source: Inputs
) -> tuple[PreparedData, Likeness]:
    """Return the rows as a model reads them: the recipe's, or made anew with its own tokenizer.

    Args:
        run: The current run.
        model: What is scored.
        data: The rows as the recipe's base reads them.
        source: What the recipe names.

    Returns:
        The same rows, and how alike the two tokenizers are.
    """
    likeness = compare_tokenizers(source.base.folder, model.tokenizer.folder, source.template)
    if likeness == "alike":
        return data, likeness
    return read_anew(run, model.name, model.tokenizer, data, source), likeness


def put_on_weights(run: RecipeRun, model: EvaluatedModel, source: Inputs) -> EvaluatedModel:
    """Return an adapter on the recipe's model over the weights that a run scores it on.

    Args:
        run: The current run.
        model: What is scored; all but such adapters are returned unchanged.
        source: What the recipe names.
    """
    if model.adapter_digest is None or run.loaded.recipe.quantization.kind == "none":
        return model
    # Not `source.base`: its weights may not be here yet.
    quantized = quantize_model(run, base=model.tokenizer, reference_text=source.reference_text)
    return model.over(quantized)


def score_candidate(
    run: RecipeRun, model: EvaluatedModel, data: PreparedData, likeness: Likeness, source: Inputs
) -> Evaluated:
    """Score one model on everything.

    Args:
        run: The current run.
        model: What is scored.
        data: Its rows.
        likeness: How alike its tokenizer and the base's are.
        source: What the recipe names.
    """
    # A role is only shown, and here the model's own name says more.
    scores = score_model(run, cast(Role, model.name), model.scored, data, source)
    place = model.name if model.kind == "registered" else model.tokenizer.model_id
    if model.scored.adapter is not None:
        place = f"{model.scored.adapter} on {place}"
    return Evaluated(
        name=model.name,
        kind=model.kind,
        place=place,
        digest=model.scored.digest,
        likeness=likeness,
        scores=scores,
    )


def tell_comparison(
    run: RecipeRun, data: PreparedData, evaluated: Sequence[Evaluated], out: Path | None
) -> dict[str, Any]:
    """Write down how the models compare: pages, JSON, Prefect.

    Args:
        run: The current run.
        data: The rows as the recipe's base reads them.
        evaluated: Models and scores.
        out: Folder of the pages; None for one below the store's `reports`.

    Returns:
        The comparison as JSON.
    """
    recipe = run.loaded.recipe
    identity = [[each.name, each.digest, each.scores.digest] for each in evaluated]
    folder = run.store.root / "reports" / f"evaluation-{digest_json(identity)[:12]}"
    prompts = read_rows(data.chat.side("test").folder / "rows.parquet")
    comparison = compare_models(
        evaluated,
        recipe=recipe.name,
        folder=(out or folder).absolute(),
        resamples=recipe.scoring.resamples,
        samples=recipe.scoring.samples,
        prompts={row["row_id"]: row["prompt"] for row in prompts},
    )
    write_comparison(comparison)
    _tell_prefect(comparison)
    return comparison.model_dump(mode="json")


def _tell_prefect(comparison: ModelComparison) -> None:
    create_table_artifact(
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
    create_markdown_artifact(
        key="comparison-page",
        description="Models side by side",
        markdown=(comparison.folder / "comparison.md").read_text("utf-8"),
    )
