"""Where trials run: here, one after the other, or at once by a task runner of Dask or Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.task_runners import TaskRunner

from retune.errors import Interrupted, RetuneError
from retune.trials.checking import Runner
from retune.trials.results import TrialResult
from retune.trials.sharing import count_at_once, list_devices, share_out
from retune.trials.trials import TrialRequest
from tasks.trials.results import fail_trial

TrialTask = Task[[TrialRequest], TrialResult]


@dataclass(frozen=True)
class TrialOptions:
    """How trials are run.

    Attributes:
        stop_hopeless: Whether a trial that falls behind is stopped.
        runner: Task runner that trials are spread by; None runs them here, one by one.
        workers: How many at once.
    """

    stop_hopeless: bool = False
    runner: Runner | None = None
    workers: int | None = None

    @property
    def at_once(self) -> int:
        """How many trials run at the same time."""
        return count_at_once(self.runner, self.workers)


def spread_trials(
    task: TrialTask,
    requests: Sequence[TrialRequest],
    options: TrialOptions,
    done: Callable[[TrialResult], None],
) -> list[TrialResult]:
    """Run trials; one that fails becomes a line that says why.

    Args:
        task: Runs one trial.
        requests: The trials.
        options: Where, and how many at once.
        done: Is told of each trial as it ends, in the order of the trials.

    Returns:
        One line per trial, in the order given.

    Raises:
        Interrupted: A stop was asked for.
    """
    found = []
    states = (
        _run_here(task, requests) if options.runner is None else _spread(task, requests, options)
    )
    for request, state in zip(requests, states, strict=True):
        result = _outcome(request, state)
        done(result)
        found.append(result)
    return found


def _run_here(task: TrialTask, requests: Sequence[TrialRequest]) -> Iterator[State[Any]]:
    for request in requests:
        yield cast(State[Any], task(request, return_state=True))


def _spread(
    task: TrialTask, requests: Sequence[TrialRequest], options: TrialOptions
) -> Iterator[State[Any]]:
    shared = share_out(requests, options.at_once)
    with _ray_devices(options), _make_runner(options) as runner:
        futures = [runner.submit(task, parameters={"request": each}) for each in shared]
        for future in futures:
            future.wait()
            yield future.state


def _ray_devices(options: TrialOptions) -> Any:
    if options.runner != "ray" or not list_devices():
        return nullcontext()
    from prefect_ray import remote_options  # type: ignore[import-not-found,unused-ignore]

    # Ray gives each task its own accelerators, where it is told that the task needs one.
    return remote_options(num_gpus=1)


def _make_runner(options: TrialOptions) -> TaskRunner[Any]:
    if options.runner == "dask":
        from prefect_dask.task_runners import DaskTaskRunner

        # A trial holds its device alone: one process each, and one trial at a time in it.
        cluster = {
            "n_workers": options.at_once,
            "threads_per_worker": 1,
            "processes": True,
            "dashboard_address": None,
        }
        made: TaskRunner[Any] = DaskTaskRunner(cluster_kwargs=cluster)
        return made
    from prefect_ray.task_runners import RayTaskRunner  # type: ignore[import-not-found,unused-ignore]

    return cast(TaskRunner[Any], RayTaskRunner(init_kwargs={"num_cpus": options.at_once}))


def _outcome(request: TrialRequest, state: State[Any]) -> TrialResult:
    found = state.result(raise_on_failure=False)
    if isinstance(found, RetuneError) and not isinstance(found, Interrupted):
        return fail_trial(request, found)
    if isinstance(found, BaseException):
        raise found
    return cast(TrialResult, found)
