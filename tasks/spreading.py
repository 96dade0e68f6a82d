"""Where trials run: here, one after the other, or at once by a task runner of Dask or Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.task_runners import TaskRunner

from retune.errors import Interrupted, RetuneError
from retune.trials.checking import Runner
from retune.trials.results import TrialResult
from tasks.trial_results import fail_trial
from tasks.trying import TrialOrder

_DEFAULT_WORKERS = 2
TrialTask = Task[[TrialOrder], TrialResult]


def count_at_once(runner: Runner | None, workers: int | None) -> int:
    """Return how many trials run at the same time."""
    if runner is None:
        return 1
    return workers or max(_DEFAULT_WORKERS, len(list_devices()))


def list_devices() -> tuple[str, ...]:
    """Return the accelerators that may be used, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip())
    # Without torch, which a flow does not import: the driver lists what it has.
    found = Path("/proc/driver/nvidia/gpus")
    return tuple(str(place) for place, _ in enumerate(found.glob("*")))


def try_all(
    task: TrialTask,
    orders: Sequence[TrialOrder],
    runner: Runner | None,
    workers: int | None,
    done: Callable[[TrialResult], None],
) -> list[TrialResult]:
    """Run trials; one that fails becomes a line that says why.

    Args:
        task: Runs one trial.
        orders: The trials.
        runner: Where.
        workers: How many at once.
        done: Is told of each trial as it ends, in the order of the trials.

    Returns:
        One line per trial, in the order given.

    Raises:
        Interrupted: A stop was asked for.
    """
    found = []
    for order, state in _states(task, orders, runner, workers):
        result = _outcome(order, state)
        done(result)
        found.append(result)
    return found


def _states(
    task: TrialTask, orders: Sequence[TrialOrder], runner: Runner | None, workers: int | None
) -> Iterator[tuple[TrialOrder, State[Any]]]:
    if runner is None:
        for order in orders:
            yield order, cast(State[Any], task(order, return_state=True))
        return
    at_once = count_at_once(runner, workers)
    threads = max(1, (os.cpu_count() or 1) // at_once)
    share = {"threads": threads, "devices": list_devices()}
    shared = [order.model_copy(update=share) for order in orders]
    if runner == "ray" and list_devices():
        from prefect_ray import remote_options  # type: ignore[import-not-found,unused-ignore]

        with remote_options(num_gpus=1):
            yield from _spread(task, orders, shared, runner, at_once)
        return
    yield from _spread(task, orders, shared, runner, at_once)


def _spread(
    task: TrialTask,
    orders: Sequence[TrialOrder],
    shared: Sequence[TrialOrder],
    runner: Runner,
    at_once: int,
) -> Iterator[tuple[TrialOrder, State[Any]]]:
    with _make_runner(runner, at_once) as spread:
        futures = [spread.submit(task, parameters={"order": order}) for order in shared]
        for order, future in zip(orders, futures, strict=True):
            future.wait()
            yield order, future.state


def _make_runner(runner: Runner, workers: int) -> TaskRunner[Any]:
    if runner == "dask":
        from prefect_dask.task_runners import DaskTaskRunner

        # A trial holds its device alone: one process each, and one trial at a time in it.
        cluster = {
            "n_workers": workers,
            "threads_per_worker": 1,
            "processes": True,
            "dashboard_address": None,
        }
        made: TaskRunner[Any] = DaskTaskRunner(cluster_kwargs=cluster)
        return made
    from prefect_ray.task_runners import RayTaskRunner  # type: ignore[import-not-found,unused-ignore]

    # Ray gives each task its own accelerators, where it is told that the task needs one.
    return cast(TaskRunner[Any], RayTaskRunner(init_kwargs={"num_cpus": workers}))


def _outcome(order: TrialOrder, state: State[Any]) -> TrialResult:
    found = state.result(raise_on_failure=False)
    if isinstance(found, RetuneError) and not isinstance(found, Interrupted):
        return fail_trial(order, found)
    if isinstance(found, BaseException):
        raise found
    return cast(TrialResult, found)
