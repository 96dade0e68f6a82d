"""Uses the additions of docs/extending.md: ``python run_extended.py RECIPE ROWS_OF_EVALS``.

It runs where PYTHONPATH names the extended copy, without Prefect's server: the stages of a flow in
its order, called one by one. What came of them is printed as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from flows.preparing import prepare_job
from retune.data.sources import locate_rows
from retune.data.tables import read_rows
from retune.inputs import locate_inputs
from retune.recipe.loading import load_recipe
from retune.recipe.sections.data import DataConfig
from retune.release.methods import describe_method
from retune.release.summary import headline
from retune.score_records import ModelScores
from retune.stages import STAGES
from retune.training.metrics import read_metrics
from tasks.champion import decide
from tasks.data import load_rows
from tasks.modeling import check_method, make_release, quantize_model, train_model
from tasks.runs.opening import prepare_run
from tasks.runs.run import RecipeRun
from tasks.scoring import score_model


def retrain(recipe: Path, *overrides: str) -> tuple[RecipeRun, dict[str, Any]]:
    """Train, score and decide, as the flow does."""
    run = prepare_run(load_recipe(recipe, overrides), direct=True)
    inputs = locate_inputs(run.loaded)
    job = prepare_job(run, inputs)
    check_method(job)
    model = quantize_model(run, base=inputs.base, reference_text=inputs.reference_text)
    base = score_model(job, "base", inputs.base.as_scored())
    adapter = train_model(job, model)
    release = make_release(job, adapter)
    scores: ModelScores = score_model(job, "merged", release.as_scored())
    decision = decide(run, challenger=scores, base=base, champion=None)
    rows = (scores.reports["overlap"].folder / "rows.jsonl").read_text("utf-8").splitlines()
    return run, {
        "report": {name: metric.value for name, metric in headline(scores).items()},
        "base_report": {name: metric.value for name, metric in headline(base).items()},
        "answers": [json.loads(row) for row in rows],
        "reasons": decision.reasons,
        "curve": read_metrics(adapter.folder / "log" / "metrics.jsonl"),
        "best_score": adapter.best_score,
        "adapter": json.loads((adapter.folder / "adapter_config.json").read_text("utf-8")),
        "trainable": adapter.trainable_parameters,
        "merged": (release.bundled, release.rows_checked),
        "method": describe_method(run.recipe.method, "none"),
        "sides": {
            side: [
                f"{row['question']} {row['answer']}"
                for row in read_rows(job.data.chat.side(side).folder / "rows.parquet")
            ]
            for side in ("train", "test")
        },
    }


def vocabulary(run: RecipeRun) -> dict[str, Any]:
    """Return what the new stage has in the store, verified."""
    key = next(line.key for line in run.lines if line.name == "measure_vocabulary")
    run.store.verify("measure_vocabulary", key)
    record = run.store.load("measure_vocabulary", key, STAGES["measure_vocabulary"].output)
    text = (record.folder / "unseen.json").read_text("utf-8")  # type: ignore[attr-defined]
    return {**record.model_dump(mode="json"), "which": json.loads(text)}


def states(recipe: Path, *overrides: str) -> dict[str, str]:
    """Return which stages of the rows, and of the settings of a training, a change would run."""
    run = prepare_run(load_recipe(recipe, overrides), planning=True)
    prepare_job(run, locate_inputs(run.loaded))
    return {line.name: line.state for line in run.lines}


def reads(recipe: Path, stage: str, *overrides: str) -> str:
    """Return what a stage reads of a changed recipe."""
    settings = STAGES[stage].settings.of(load_recipe(recipe, overrides).recipe)
    return json.dumps(settings.by_name(), sort_keys=True)


def read_evals(path: Path, run: RecipeRun) -> dict[str, Any]:
    """Load rows whose format nobody states."""
    located = locate_rows(DataConfig(train=path).train[0], DataConfig(train=path), Path, "data")
    given = {name: getattr(located, name) for name in ("source", "format", "columns", "labels")}
    given |= {name: getattr(located, name) for name in ("max_row_bytes", "max_rows", "ignore")}
    found = load_rows(run, **given)
    return {"format": found.format, "rows": read_rows(found.folder / "rows.parquet")}


def main() -> None:
    """Print what came of every example."""
    recipe, evals = map(Path, sys.argv[1:])
    run, trained = retrain(recipe)
    accents = "scoring.overlap_ignores_accents=true"
    found = {
        **trained,
        "vocabulary": vocabulary(run),
        "after_least_uses": states(recipe, "vocabulary.least_uses=2"),
        "after_nothing": states(recipe),
        "overlap_reads_accents": reads(recipe, "score_overlap")
        != reads(recipe, "score_overlap", accents),
        "watched_reads_accents": reads(recipe, "train_adapter")
        != reads(recipe, "train_adapter", accents),
        "unwatched_reads_accents": reads(recipe, "train_adapter", "training.watch=loss")
        != reads(recipe, "train_adapter", "training.watch=loss", accents),
        "evals": read_evals(evals, run),
    }
    print(json.dumps(found, default=str))


if __name__ == "__main__":
    main()
