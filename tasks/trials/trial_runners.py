"""Where trials run: here, one after the other, or at once by a task runner of Dask or Ray."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from prefect import Task
from prefect.client.schemas.objects import State
from prefect.states import Failed

from retune.errors import Interrupted, RetuneError, StageDied
from retune.trials.checking import Spreading
from retune.trials.results import TrialResult
from retune.trials.sharing import count_at_once, share_out
from retune.trials.trials import TrialRequest
from tasks.trials.clusters import Cluster, Future
from tasks.trials.results import fail_trial

TrialTask = Task[[TrialRequest], TrialResult]


@dataclass(frozen=True)
class TrialOptions:
    """How trials are run.

    Attributes:
        stop_hopeless: Whether a trial that falls behind is stopped.
        spreading: How they are spread.
    """

    stop_hopeless: bool = False
    spreading: Spreading = field(default_factory=Spreading)

    @property
    def at_once(self) -> int:
        """How many trials run at the same time."""
        return count_at_once(self.spreading.runner, self.spreading.workers)


def spread_trials(
    task: TrialTask,
    requests: Sequence[TrialRequest],
    cluster: Cluster | None,
    done: Callable[[TrialResult], None],
) -> list[TrialResult]:
    """Run trials; one that fails becomes a line that says why.

    Args:
        task: Runs one trial.
        requests: The trials.
        cluster: Where, and how many at once; None for here, one by one.
        done: Is told of each trial as it ends, in the order of the trials.

    Returns:
        One line per trial, in the order given.

    Raises:
        Interrupted: A stop was asked for.
    """
    found = []
    states = _run_here(task, requests) if cluster is None else _spread(task, requests, cluster)
    for request, state in zip(requests, states, strict=True):
        result = _outcome(request, state)
        done(result)
        found.append(result)
    return found


def _run_here(task: TrialTask, requests: Sequence[TrialRequest]) -> Iterator[State[Any]]:
    for request in requests:
        yield cast(State[Any], task(request, return_state=True))


def _spread(
    task: TrialTask, requests: Sequence[TrialRequest], cluster: Cluster
) -> Iterator[State[Any]]:
    waiting = deque(requests if cluster.divides else share_out(requests, cluster.at_once))
    unshown = deque[Future]()
    running: Sequence[Future] = ()
    while waiting or unshown:
        # A cluster may have room for more than were asked for.
        while waiting and len(running) < cluster.at_once:
            asked = {"request": waiting.popleft()}
            unshown.append(cluster.runner.submit(task, parameters=asked))
            running = [*running, unshown[-1]]
        running = cluster.unfinished(running) if running else running
        while unshown and unshown[0] not in running:
            yield _ended(unshown.popleft())


def _ended(future: Future) -> State[Any]:
    """Return how a trial ended; one whose workers were lost again and again has failed."""
    future.wait()
    state = future.state
    if state.is_final() and not state.is_crashed():
        return state
    return Failed(
        data=StageDied(
            f"the cluster lost what ran it ({state.message or 'and says no more'}). Finished "
            "stages and checkpoints are kept: run again to go on."
        )
    )


def _outcome(request: TrialRequest, state: State[Any]) -> TrialResult:
    found = state.result(raise_on_failure=False)
    if isinstance(found, RetuneError) and not isinstance(found, Interrupted):
        return fail_trial(request, found)
    if isinstance(found, BaseException):
        raise found
    return cast(TrialResult, found)
