"""One model on several devices: each computes some of the batches, as one device would.

Whole batches are shared, made as for one device and in its order, so that which rows are computed
together does not depend on how many devices there are. The process that asks computes its share;
each other device has a process of its own, started at the first work that more than one batch
makes. All of them compute with as many threads: on a CPU another number is another rounding.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.queues import SimpleQueue
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import torch

from retune.errors import StageDied
from retune.inference.batching import run_in_halves
from retune.model_records import ScoredModel
from retune.spine.children import count_own_cores, die_with, share_cores
from retune.spine.stopping import STOP

Item = TypeVar("Item")
Result = TypeVar("Result")
Compute = Callable[[Any, Sequence[Item]], list[Result]]
"""Computes a batch with a model: a function of a module, or a `partial` of one."""


class Computed(NamedTuple):
    """What a batch gave, and how long its device took."""

    results: list[Any]
    seconds: float


class Replicas:
    """The processes that hold a model beside the one that asks.

    Args:
        scored: What each of them loads.
        count: Devices in all, that of the asking process among them.
        load: Loads it there: a function of a module.
    """

    def __init__(
        self, scored: ScoredModel, count: int, load: Callable[[ScoredModel], torch.nn.Module]
    ) -> None:
        self._scored, self.count, self._load = scored, count, load
        self._pool: ProcessPoolExecutor | None = None

    def submit(self, compute: Compute[Any, Any], batch: Sequence[Any]) -> Future[Computed]:
        """Let one of them compute a batch; the first call starts them."""
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            numbers: SimpleQueue[int] = context.SimpleQueue()
            for number in range(1, self.count):
                numbers.put(number)
            self._pool = ProcessPoolExecutor(
                self.count - 1,
                mp_context=context,
                initializer=_start,
                initargs=(self._load, self._scored, numbers, self.count, os.getpid()),
            )
        return self._pool.submit(_compute_here, compute, batch)

    def close(self) -> None:
        """End the processes; what they have not begun is given up."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


_REPLICAS: WeakKeyDictionary[torch.nn.Module, Replicas] = WeakKeyDictionary()
_LOAD: list[Callable[[], torch.nn.Module]] = []
"""Loads the model of a process that computes for another one."""
_MODEL: list[torch.nn.Module] = []
"""That model, once it is loaded."""


def share_batches(model: torch.nn.Module, replicas: Replicas) -> None:
    """Let all that is computed with a model be shared by its replicas."""
    _REPLICAS[model] = replicas


def count_replicas(model: torch.nn.Module) -> int:
    """Return on how many devices a model computes batches, that of this process among them."""
    replicas = _REPLICAS.get(model)
    return replicas.count if replicas is not None else 1


def compute_batches(
    model: torch.nn.Module, batches: Sequence[Sequence[Item]], compute: Compute[Item, Any]
) -> Generator[Computed, None, None]:
    """Compute batches on all devices that have the model.

    Args:
        model: In evaluation mode.
        batches: In their order.
        compute: Returns one result per item.

    Yields:
        What each batch gave, in their order.

    Raises:
        StageDied: A process of another device died.
        Interrupted: A stop was asked for.
        RetuneError: A process of another device cannot load the model.
    """
    replicas = _REPLICAS.get(model)
    if replicas is None or replicas.count == 1 or len(batches) == 1:
        for batch in batches:
            STOP.raise_if_requested()
            yield _timed(partial(compute, model), batch)
        return
    with _own_cores(replicas.count):
        yield from _share(model, replicas, batches, compute)


def _share(
    model: torch.nn.Module,
    replicas: Replicas,
    batches: Sequence[Sequence[Item]],
    compute: Compute[Item, Any],
) -> Iterator[Computed]:
    elsewhere: dict[int, Future[Computed]] = {}
    try:
        # Its own share is the first of every so many.
        for place, batch in enumerate(batches):
            if place % replicas.count:
                elsewhere[place] = replicas.submit(compute, batch)
        for place, batch in enumerate(batches):
            STOP.raise_if_requested()
            if place not in elsewhere:
                yield _timed(partial(compute, model), batch)
            else:
                yield elsewhere[place].result()
                del elsewhere[place]
    except BrokenProcessPool as error:
        replicas.close()
        raise StageDied(
            f"a process that scores on one of {replicas.count} devices died, by hand or for "
            "want of memory. Run again, or lower scoring.runtime.devices."
        ) from error
    finally:
        # Where this ends early, the next work and the end of this process would wait for the rest.
        for future in elsewhere.values():
            future.cancel()


@contextmanager
def _own_cores(processes: int) -> Iterator[None]:
    """Compute with this process's part of the cores, as each of the others does."""
    before = torch.get_num_threads()
    torch.set_num_threads(count_own_cores(processes))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _timed(compute: Callable[[Sequence[Any]], list[Any]], batch: Sequence[Any]) -> Computed:
    started = time.perf_counter()
    results = run_in_halves(batch, compute)
    return Computed(results, time.perf_counter() - started)


def _start(
    load: Callable[[ScoredModel], torch.nn.Module],
    scored: ScoredModel,
    numbers: SimpleQueue[int],
    count: int,
    parent: int,
) -> None:
    die_with(parent)
    # Ctrl-C reaches all processes of a terminal; the one that asks ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    share_cores(count)
    _see_only(numbers.get(), count)
    torch.set_num_threads(count_own_cores(count))
    _LOAD.append(partial(load, scored))


def _see_only(number: int, count: int) -> None:
    """Let this process see one GPU of those that the asking one sees, if any."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # Set to nothing it hides all GPUs; only where it is not set are all of them seen.
    names = visible.split(",") if visible is not None else [str(each) for each in range(count)]
    names = [name.strip() for name in names if name.strip()]
    os.environ["CUDA_VISIBLE_DEVICES"] = names[number] if number < len(names) else ""


def _compute_here(compute: Compute[Any, Any], batch: Sequence[Any]) -> Computed:
    # Loaded here and not when the process starts: an error there is lost, here the asker raises it.
    if not _MODEL:
        _MODEL.append(_LOAD[0]())
    return _timed(partial(compute, _MODEL[0]), batch)
