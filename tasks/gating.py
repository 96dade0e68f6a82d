"""What the gate needs, checked before anything is trained."""

from __future__ import annotations

from retune.gate.power import (
    DetectableGain,
    find_base_figure,
    find_detectable_gain,
    find_earlier,
)
from retune.gate.requirements import (
    choose_planned_metric,
    describe_power,
    list_categories,
    list_scored_figures,
    read_scored_groups,
    refuse_small_guards,
    refuse_unfit_rows,
    refuse_unscored,
    refuse_weak_test,
)
from retune.release.spending import find_level
from retune.scoring.figures import figure_of
from tasks.runs.job import Job


def check_gate(job: Job) -> DetectableGain | None:
    """Refuse what the gate could never pass, and tell what the held-out rows can show.

    Args:
        job: Its recipe and rows.

    Returns:
        The smallest gain that they show; None where rows are not known yet, or the figure that
        decides is not over rows.

    Raises:
        ConfigError: A guard or the deciding figure is not scored, or no row has what rows are
            parted by.
        DataError: The held-out rows, or what a guard is over, are too few.
    """
    run, gate = job.run, job.run.recipe.gate
    scored = list_scored_figures(run.recipe, job.inputs)
    refuse_unscored(gate, scored)
    if not job.rows_known:
        return None
    metric, side = choose_planned_metric(gate, scored), job.data.chat.side("test")
    for note in refuse_unfit_rows(gate, metric, side, run.recipe.scoring.sql_dialect):
        run.watcher.note(note)
    level = find_level(gate)
    cases = list_categories(job.inputs) if gate.guards else []
    for note in refuse_small_guards(gate, metric, side, cases, level):
        run.watcher.note(note)
    if figure_of(metric).over != "rows":
        return None
    earlier = find_earlier(run.store, side.digest, metric)
    base = find_base_figure(run.store, side.digest, job.inputs.base.digest, metric)
    found = find_detectable_gain(metric, read_scored_groups(metric, side), level, earlier, base)
    refuse_weak_test(gate, found)
    # `retune check` prints it in its own table.
    if not run.planning and not run.direct:
        run.watcher.note(describe_power(found))
    return found
