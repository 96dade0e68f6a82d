"""A comparison of trials: opened, and run over its trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from retune.digests import digest_json
from retune.scoring.figures import figure_of
from retune.trials.checking import check_inputs, check_runner
from retune.trials.choosing import CHOSEN_ON
from retune.trials.lines import as_stage_line
from retune.trials.pruning import ledger_folder
from retune.trials.results import TrialResult, value_of
from retune.trials.space import Axis
from retune.trials.study import Search, TrialStudy
from retune.trials.trials import LoadedTrial, Trial, TrialRequest
from tasks.runs.opening import prepare_run
from tasks.runs.run import RecipeRun, TrackedRun, open_run
from tasks.trials.clusters import Cluster, open_cluster
from tasks.trials.trial_runners import TrialOptions, TrialTask, spread_trials

Kind = Literal["comparison", "sweep"]


@dataclass(frozen=True)
class OpenComparison:
    """A comparison under way.

    Attributes:
        run: With the recipe of the first trial; rows are prepared in it.
        kind: Of methods, or a sweep.
        digest: Of what is compared; its folders are named by it.
        options: How trials are run.
        recipe: The recipe's file.
        cluster: Where they run; None for here, one by one.
    """

    run: RecipeRun
    kind: Kind
    digest: str
    options: TrialOptions
    recipe: Path
    cluster: Cluster | None = None

    @property
    def ledger(self) -> Path:
        """Where finished and stopped trials are remembered."""
        return ledger_folder(self.run.store.root, self.digest)

    def run_trials(self, task: TrialTask, trials: Sequence[Trial]) -> list[TrialResult]:
        """Run trials, and show the line of each as it ends.

        Args:
            task: Runs one trial.
            trials: Which.

        Returns:
            One line per trial.
        """
        requests = [
            TrialRequest(
                recipe=self.recipe,
                trial=trial,
                comparison=self.digest,
                parent_run=self.run.parent_run,
                stop_hopeless=self.options.stop_hopeless,
            )
            for trial in trials
        ]

        def show(result: TrialResult) -> None:
            self.run.watcher.finished(as_stage_line(result))

        return spread_trials(task, requests, self.cluster, show)


@contextmanager
def open_comparison(
    recipe: Path, trials: Sequence[LoadedTrial], kind: Kind, identity: Any, options: TrialOptions
) -> Iterator[OpenComparison]:
    """Open a comparison, after a look at everything that its trials need.

    Args:
        recipe: The recipe's file.
        trials: All trials, or some that show whether a search can start.
        kind: Of methods, or a sweep.
        identity: What else tells it from other comparisons.
        options: How trials are run.

    Yields:
        The comparison.

    Raises:
        RetuneError: Something is wrong or missing; nothing was started.
    """
    check_runner(options.spreading)
    check_inputs(trials)
    # A search that was told figures of other rows is another one.
    digest = digest_json([kind, identity, options.stop_hopeless, CHOSEN_ON])[:12]
    # Opened before anything is made or paid.
    with open_cluster(options.spreading) as cluster:
        prepared = prepare_run(trials[0].loaded)
        tracked = TrackedRun(
            name=f"{prepared.name}: {kind}",
            tags={"retune.recipe": recipe.name},
            params={"kind": kind, "digest": digest},
        )
        with open_run(prepared, tracked) as run:
            yield OpenComparison(run, kind, digest, options, recipe, cluster)


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
    found = list[TrialResult]()
    while points := study.next_points(overrides, comparison.options.at_once):
        done = comparison.run_trials(task, [trial for _, trial in points])
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
        higher_is_better=not figure_of(metric).lower_is_better,
        seed=comparison.run.recipe.seed,
    )
