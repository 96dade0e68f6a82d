"""Task runners of Prefect over a cluster: one that is there, or workers of this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from prefect.futures import PrefectWrappedFuture
from prefect.task_runners import TaskRunner

from retune.clusters import joined_to_ray
from retune.errors import ServiceError
from retune.trials.checking import Spreading
from retune.trials.sharing import count_at_once

Future = PrefectWrappedFuture[Any, Any]

_TRIES_MORE = 3
"""How often a trial whose worker was lost is begun on another one, where it goes on."""


@dataclass(frozen=True)
class Cluster:
    """Where trials are sent to.

    Attributes:
        runner: Sends them.
        at_once: How many run at the same time.
        unfinished: Waits until one of several has ended, and returns those that have not.
        divides: Whether it gives each trial its cores and accelerators by itself.
    """

    runner: TaskRunner[Any]
    at_once: int
    unfinished: Callable[[Sequence[Future]], Sequence[Future]]
    divides: bool = False


@contextmanager
def open_cluster(spreading: Spreading) -> Iterator[Cluster | None]:
    """Open a cluster for the length of a comparison: workers are started and found once.

    Args:
        spreading: Which, from `choose_spreading`.

    Yields:
        The cluster; None where trials run here, one after the other.

    Raises:
        ServiceError: It does not take this process in.
    """
    at_once = count_at_once(spreading.runner, spreading.workers)
    if spreading.runner is None:
        yield None
        return
    opened = open_ray if spreading.runner == "ray" else open_dask
    with opened(spreading.address, at_once) as cluster:
        yield cluster


@contextmanager
def open_dask(address: str | None, at_once: int) -> Iterator[Cluster]:
    """Open a runner over Dask.

    Args:
        address: Of a scheduler; None for workers of this machine, for the length of the block.
        at_once: How many trials run at the same time.

    Yields:
        The cluster.

    Raises:
        ServiceError: The scheduler does not take this process in.
    """
    import distributed
    from prefect_dask.task_runners import DaskTaskRunner

    def unfinished(futures: Sequence[Future]) -> Sequence[Future]:
        sent = [each.wrapped_future for each in futures]
        # Prefect makes its client nobody's default.
        with sent[0].client.as_current():
            left = distributed.wait(sent, return_when="FIRST_COMPLETED").not_done
        return [each for each in futures if each.wrapped_future in left]

    # A trial holds its device alone: one process each, and one trial at a time in it.
    workers = {
        "n_workers": at_once,
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
    }
    made = DaskTaskRunner(address=address) if address else DaskTaskRunner(cluster_kwargs=workers)
    with ExitStack() as stack:
        try:
            runner: TaskRunner[Any] = stack.enter_context(made)
        except (OSError, RuntimeError, ValueError) as error:
            raise ServiceError(
                f"runner.address: Dask at {address or 'this machine'} does not take this run in "
                f"({error}). Expected a scheduler of the same releases of Dask and Python."
            ) from error
        yield Cluster(runner, at_once, unfinished)


@contextmanager
def open_ray(address: str | None, at_once: int) -> Iterator[Cluster]:
    """Open a runner over Ray.

    Args:
        address: Of a cluster; None for workers of this machine, for the length of the block.
        at_once: How many trials run at the same time.

    Yields:
        The cluster.

    Raises:
        ServiceError: The cluster does not take this process in.
    """

    def unfinished(futures: Sequence[Future]) -> Sequence[Future]:
        _, left = ray.wait([each.wrapped_future for each in futures], num_returns=1)
        return [each for each in futures if each.wrapped_future in left]

    with joined_to_ray(address, cores=max(os.cpu_count() or 1, at_once)):
        import ray
        from prefect_ray.context import remote_options
        from prefect_ray.task_runners import RayTaskRunner

        share = share_of(ray.nodes(), at_once)
        with RayTaskRunner() as runner, remote_options(**share, max_retries=_TRIES_MORE):
            yield Cluster(runner, at_once, unfinished, divides=True)


def share_of(nodes: Sequence[Mapping[str, Any]], at_once: int) -> dict[str, int]:
    """Return what Ray keeps for one trial: cores, and an accelerator where nodes have any.

    Args:
        nodes: As ``ray.nodes()`` describes them.
        at_once: How many trials run at the same time.

    Returns:
        Options of a task: no more cores than the largest node has.
    """
    alive = [each["Resources"] for each in nodes if each["Alive"]]
    cores = [int(each.get("CPU", 0)) for each in alive]
    share = {"num_cpus": max(1, min(sum(cores) // at_once, max(cores, default=1)))}
    return share | ({"num_gpus": 1} if any(each.get("GPU") for each in alive) else {})
