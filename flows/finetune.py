"""The flow `finetune`: a recipe in, a decision out.

Run it with ``python -m flows.finetune RECIPE``, ``retune run RECIPE``, or as a deployment.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.preparing import prepare_data
from retune.inputs import locate_inputs
from tasks.aligning import align_model
from tasks.champion import find_champion, refuse_unlike_champion, score_champion
from tasks.modeling import check_method, make_release, quantize_model, train_model
from tasks.release import decide, register_model
from tasks.run import RecipeRun
from tasks.running import finetune_run
from tasks.scoring import score_label_baselines, score_model
from tasks.telling import tell_data, tell_result


def name_run() -> str:
    """Name a flow run after its recipe."""
    return Path(flow_run.parameters["recipe"]).stem


def retrain(run: RecipeRun) -> dict[str, Any]:
    """Retrain one model: the whole product, in order.

    Args:
        run: The current run; while it is planning, stages are looked up and not run.

    Returns:
        The run's summary; empty while planning.
    """
    source = locate_inputs(run.loaded)

    data = prepare_data(run, source)
    tell_data(run, data)
    refuse_unlike_champion(run, data, source)
    check_method(run, data, source)

    model = quantize_model(run, base=source.base, reference_text=source.reference_text)
    baselines = score_label_baselines(run, data, source)
    base_scores = score_model(run, "base", source.base.as_scored(), data, source)

    adapter = train_model(run, data, source, model)
    adapter = align_model(run, adapter, data, source, model)
    tuned = adapter.as_scored(model, source.base)
    adapter_scores = score_model(run, "adapter", tuned, data, source)

    merged = make_release(run, adapter, data, source)
    merged_scores = score_model(run, "merged", merged.as_scored(), data, source)

    champion = find_champion(run, merged)
    champion_scores = score_champion(run, champion, data, source)
    decision = decide(run, challenger=merged_scores, base=base_scores, champion=champion_scores)
    registered = register_model(
        run,
        merged=merged,
        decision=decision,
        champion=champion,
        rows=data.chat.side("test"),
        base=source.base,
    )
    return tell_result(
        run,
        data=data,
        models=(model, adapter, merged),
        scores={
            "base": base_scores,
            "adapter": adapter_scores,
            "merged": merged_scores,
            "champion": champion_scores,
        },
        baselines=baselines,
        release=(decision, registered),
    )


@flow(name="finetune", flow_run_name=name_run, persist_result=False)
def finetune(recipe: Path, overrides: list[str] | None = None) -> dict[str, Any]:
    """Retrain a model by a recipe, reusing every stage whose inputs and settings are the same.

    Args:
        recipe: The recipe's YAML file; a relative path starts at the working directory.
        overrides: Settings that win over the file, such as ``training.learning_rate=1.0e-4``.

    Returns:
        The summary that ``retune run --json`` prints.

    Raises:
        RetuneError: The recipe, the data or a stage failed; the message says what to do.
    """
    with finetune_run(recipe, overrides or []) as run:
        return retrain(run)


if __name__ == "__main__":
    print(json.dumps(finetune(Path(sys.argv[1]), sys.argv[2:])))
