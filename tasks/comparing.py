"""A comparison of trials: opened, and run over its trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from retune.digests import digest_json
from retune.inputs import locate_inputs
from retune.recipe.loading import LoadedRecipe
from retune.release import showing
from retune.scoring.figures import FIGURES, figure_that_decides
from retune.store import check_writable
from retune.tracking import RunStatus, check_tracking
from retune.trials.checking import Runner, check_inputs, check_runner
from retune.trials.results import TrialResult, value_of
from retune.trials.space import Axis
from retune.trials.study import Search, TrialStudy
from retune.trials.trials import LoadedTrial, Trial
from retune.watching import StageLine
from tasks.run import RecipeRun, open_run
from tasks.running import prepare_run
from tasks.spreading import TrialTask, count_at_once, try_all
from tasks.trying import TrialOrder, open_mirror

Kind = Literal["comparison", "sweep"]


@dataclass(frozen=True)
class Manner:
    """How trials are run.

    Attributes:
        stop_hopeless: Whether a trial that falls behind is stopped.
        runner: Task runner that trials are spread by; None runs them here, one by one.
        workers: How many at once.
    """

    stop_hopeless: bool = False
    runner: Runner | None = None
    workers: int | None = None


@dataclass(frozen=True)
class OpenComparison:
    """A comparison under way.

    Attributes:
        run: With the recipe of the first trial; rows are prepared in it.
        kind: Of methods, or a sweep.
        digest: Of what is compared; its folders are named by it.
        manner: How trials are run.
        recipe: The recipe's file.
    """

    run: RecipeRun
    kind: Kind
    digest: str
    manner: Manner
    recipe: Path

    @property
    def ledger(self) -> Path:
        """Where finished and stopped trials are remembered."""
        return self.run.store.root / "comparisons" / self.digest

    def order(self, trial: Trial) -> TrialOrder:
        """Return what a trial's task is given."""
        return TrialOrder(
            recipe=self.recipe,
            trial=trial,
            ledger=self.ledger,
            parent_run=self.run.parent_run,
            stop_hopeless=self.manner.stop_hopeless,
        )


@contextmanager
def open_comparison(
    recipe: Path, trials: Sequence[LoadedTrial], kind: Kind, identity: Any, manner: Manner
) -> Iterator[OpenComparison]:
    """Open a comparison, after a look at everything that its trials need.

    Args:
        recipe: The recipe's file.
        trials: All trials, or some that show whether a search can start.
        kind: Of methods, or a sweep.
        identity: What else tells it from other comparisons.
        manner: How trials are run.

    Yields:
        The comparison.

    Raises:
        RetuneError: Something is wrong or missing; nothing was started.
    """
    check_runner(manner.runner, manner.workers)
    check_inputs(trials)
    run = prepare_run(trials[0].loaded)
    check_writable(run.store.root)
    check_tracking(run.context["tracking_uri"])
    run.mirror = open_mirror(run)
    name = f"{run.loaded.recipe.name}: {kind}"
    run.parent_run = run.mirror.open_parent(name, {"retune.recipe": recipe.name})
    run.context["run_id"] = run.parent_run
    digest = digest_json([kind, identity, manner.stop_hopeless])[:12]
    run.mirror.params(run.parent_run, {"kind": kind, "digest": digest})
    status: RunStatus = "FAILED"
    try:
        with open_run(run):
            yield OpenComparison(run=run, kind=kind, digest=digest, manner=manner, recipe=recipe)
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        run.mirror.close(run.parent_run, status)
        for warning in run.mirror.warnings:
            run.watcher.note(warning)


def expect_metric(loaded: LoadedRecipe) -> str:
    """Name the figure that will decide, before anything is scored.

    Args:
        loaded: The recipe.
    """
    source = locate_inputs(loaded)
    has = {None: True, "text_to_sql": source.asks_sql, "text_label": source.has_labels}
    decides = figure_that_decides(lambda each: has.get(each.rows, False))
    return loaded.recipe.gate.metric or decides


def identify(trials: Sequence[LoadedTrial]) -> list[Any]:
    """Return what tells one list of trials from another."""
    return [[each.trial.name, each.digest] for each in trials]


def identify_sweep(
    trials: Sequence[LoadedTrial], search: Search | None, axes: Sequence[Axis]
) -> list[Any]:
    """Return what tells one sweep from another.

    Args:
        trials: Its trials, or some that show whether its search can start.
        search: How points are drawn.
        axes: What is varied: a logarithmic range has the ends of a plain one, and other draws.
    """
    return [identify(trials), search, [axis.model_dump() for axis in axes]]


def try_trials(
    comparison: OpenComparison, task: TrialTask, trials: Sequence[LoadedTrial]
) -> list[TrialResult]:
    """Run the trials of a list.

    Args:
        comparison: The comparison.
        task: Runs one trial.
        trials: Which.

    Returns:
        One line per trial.
    """
    orders = [comparison.order(each.trial) for each in trials]
    manner = comparison.manner
    return try_all(task, orders, manner.runner, manner.workers, _announcer(comparison))


def search_trials(
    comparison: OpenComparison,
    task: TrialTask,
    study: TrialStudy,
    metric: str,
    overrides: Sequence[str],
) -> list[TrialResult]:
    """Run the trials that a study asks for.

    Args:
        comparison: The comparison.
        task: Runs one trial.
        study: Draws points, and is told what came of them.
        metric: The figure that it is told.
        overrides: Settings that all trials share.

    Returns:
        One line per trial.
    """
    manner, found = comparison.manner, list[TrialResult]()
    at_once = count_at_once(manner.runner, manner.workers)
    while points := study.next_points(overrides, at_once):
        orders = [comparison.order(trial) for _, trial in points]
        done = try_all(task, orders, manner.runner, manner.workers, _announcer(comparison))
        for (number, _), result in zip(points, done, strict=True):
            study.tell(number, value_of(metric, result), result.state)
        found += done
    return found


def open_study(
    comparison: OpenComparison, axes: Sequence[Axis], search: Search, trials: int, metric: str
) -> TrialStudy:
    """Open the study of a search; an interrupted one goes on.

    Args:
        comparison: The comparison.
        axes: What is drawn.
        search: How.
        trials: Points of the whole search.
        metric: The figure that it is told.
    """
    return TrialStudy(
        comparison.ledger / "study.db",
        comparison.digest,
        axes=axes,
        search=search,
        trials=trials,
        higher_is_better=not FIGURES[metric].lower_is_better,
        seed=comparison.run.loaded.recipe.seed,
    )


def _announcer(comparison: OpenComparison) -> Callable[[TrialResult], None]:
    def announce(result: TrialResult) -> None:
        seconds = result.cost.seconds if result.cost else 0.0
        line = StageLine(
            name=result.name,
            state="reused" if result.reused else "ran",
            reason=_say(result),
            seconds=seconds,
            key=result.training_key,
        )
        comparison.run.watcher.finished(line)

    return announce


def _say(result: TrialResult) -> str:
    if result.state != "finished":
        return f"{result.state}: {result.reason.splitlines()[0] if result.reason else ''}"
    loss = "" if result.validation_loss is None else f", loss {result.validation_loss:.4f}"
    metrics = result.scores.metrics() if result.scores else {}
    shown = next((name for name in FIGURES if FIGURES[name].over and name in metrics), None)
    figure = (
        f"{showing.label_of(shown)} {showing.show_metric(shown, metrics[shown])}" if shown else ""
    )
    return f"{figure}{loss}"
