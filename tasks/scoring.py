"""Tasks that measure a model."""

from __future__ import annotations

from typing import cast

from retune.inputs import Inputs
from retune.records import ModelScores, Role, ScoredModel, SideRef
from retune.stages import PROBE_MODEL, SCORE_PERPLEXITY, SCORE_SQL
from tasks.run import Run
from tasks.stage_task import Pending, StageTask, is_pending

score_perplexity = StageTask(SCORE_PERPLEXITY)
score_sql = StageTask(SCORE_SQL)
probe_model = StageTask(PROBE_MODEL)


def score_model(
    run: Run, role: Role, model: ScoredModel, rows: SideRef, source: Inputs
) -> ModelScores:
    """Score one model on everything, one stage after the other while it stays loaded.

    Args:
        run: The current run.
        role: Which model it is.
        model: Where its parts lie.
        rows: The held-out side.
        source: What the recipe names: whether the rows ask for SQL, probes, chat template.

    Returns:
        All reports of the model.
    """
    perplexity = score_perplexity(run, role=role, model=model, rows=rows)
    sql = score_sql(run, role=role, model=model, rows=rows) if source.asks_sql else None
    passed = (
        probe_model(run, role=role, model=model, cases=source.probes, template=source.template)
        if source.probes
        else None
    )
    if is_pending([perplexity, sql, passed]):
        return cast(ModelScores, Pending())
    return ModelScores.of(perplexity, sql, passed)
