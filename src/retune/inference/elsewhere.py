"""Answers that an engine elsewhere writes: many asked for at a time, each on its own.

The engine makes its batches itself. An answer that fails is asked for again; one that fails for
good is told with its reason, and the others go on.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from retune.errors import ServiceError
from retune.inference.engine_address import read_engine_key
from retune.inference.jobs import Chosen, Job
from retune.inference.remote_engine import EngineAway, RemoteEngine
from retune.model_records import EngineRef
from retune.spine.stopping import STOP

AT_A_TIME = 64
"""Answers asked for at a time; whoever serves makes batches of what fits its memory."""
TOKEN_SECONDS = 300.0
"""Longest time between two tokens, that of waiting for the first among them."""
_TRIES = 3
_LOOK_SECONDS = 0.2

Progress = Callable[[int, int], None]


@dataclass
class Written:
    """What an engine wrote behind one prompt.

    Attributes:
        ids: New tokens, the end token among them where one came.
        failed: Why there is no answer; empty where there is.
        seconds: Its share of the time that all took, by its tokens.
    """

    ids: list[int] = field(default_factory=list)
    failed: str = ""
    seconds: float = 0.0


def open_engine(engine: EngineRef, end_ids: Sequence[int]) -> RemoteEngine:
    """Connect to the engine that has a model.

    Args:
        engine: Where it is, and what it calls the model.
        end_ids: Ids that end an answer.

    Raises:
        ConfigError: The key that it is to be sent cannot be sent.
        ServiceError: It cannot be reached, refuses the key, or has no such model.
    """
    key = read_engine_key(os.environ)
    try:
        return RemoteEngine(
            engine.address,
            engine.model,
            end_ids,
            batch=AT_A_TIME,
            seconds=TOKEN_SECONDS,
            key=key,
        )
    except EngineAway as error:
        raise engine_error(engine.address, error) from error


def engine_error(address: str, error: EngineAway) -> ServiceError:
    """Return what a person is told of an engine that cannot be asked.

    Args:
        address: Where it is.
        error: What is wrong.
    """
    detail = str(error)
    why = error.reason if detail == error.reason else f"{error.reason}: {detail.rstrip('.')}"
    return ServiceError(
        f"--engine {address}: {why}. Start it with the model (retune serve MODEL --print-vllm "
        "prints how), and run again: finished stages are kept."
    )


def ask_engine(
    engine: RemoteEngine,
    prompts: Sequence[Sequence[int]],
    end_ids: Sequence[int],
    *,
    max_new_tokens: int,
    progress: Progress | None = None,
) -> list[Written]:
    """Let an engine continue prompts greedily.

    Args:
        engine: It is asked for `AT_A_TIME` of them at a time.
        prompts: Token ids per prompt.
        end_ids: Ids that end an answer.
        max_new_tokens: Most tokens written per prompt.
        progress: Told how many have ended, and of how many.

    Returns:
        What came of each, in their order.

    Raises:
        ServiceError: The engine is gone, or holds another model now.
        Interrupted: A stop was asked for.
    """
    started = time.perf_counter()
    asked = _Asked(engine, prompts, frozenset(end_ids), max_new_tokens)
    try:
        for ended in asked.run():
            if progress is not None:
                progress(ended, len(prompts))
    finally:
        asked.cancel()
    _share_time(asked.written, time.perf_counter() - started)
    return asked.written


def _share_time(written: Sequence[Written], seconds: float) -> None:
    # One more each: an answer of no token took a pass too.
    total = sum(len(each.ids) + 1 for each in written)
    for each in written:
        each.seconds = seconds * (len(each.ids) + 1) / total


class _Asked:
    """Answers under way. The engine's thread tells what comes, and this one reads it."""

    def __init__(
        self,
        engine: RemoteEngine,
        prompts: Sequence[Sequence[int]],
        end_ids: frozenset[int],
        max_new_tokens: int,
    ) -> None:
        self.written = [Written() for _ in prompts]
        self._engine, self._prompts = engine, prompts
        self._ends, self._most = end_ids, max_new_tokens
        self._jobs: dict[int, Job] = {}
        self._tries = [0] * len(prompts)
        self._over: queue.SimpleQueue[int] = queue.SimpleQueue()

    def run(self) -> Iterator[int]:
        """Ask for all, and yield how many have ended whenever one has."""
        # The longest first: those that are read longest do not come last, alone.
        for place in sorted(range(len(self._prompts)), key=lambda at: -len(self._prompts[at])):
            self._submit(place)
        ended = 0
        while ended < len(self._prompts):
            STOP.raise_if_requested()
            try:
                place = self._over.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if self.written[place].failed and self._try_again(place):
                continue
            ended += 1
            yield ended

    def cancel(self) -> None:
        """Ask for nothing more."""
        for job in self._jobs.values():
            if not job.ended:
                self._engine.cancel(job)

    def _submit(self, place: int) -> None:
        self._tries[place] += 1
        written = self.written[place] = Written()

        def take(chosen: Chosen) -> bool:
            written.ids.append(chosen.token)
            ended = chosen.token in self._ends
            if ended or len(written.ids) >= self._most:
                self._over.put(place)
            return ended

        def fail(reason: str) -> None:
            written.failed = reason
            self._over.put(place)

        key = f"row-{id(self)}-{place}-{self._tries[place]}"
        self._jobs[place] = Job(key, self._prompts[place], self._most, take, fail)
        self._engine.submit(self._jobs[place])

    def _try_again(self, place: int) -> bool:
        if not self._engine.alive:
            away = EngineAway(self._engine.away or "it has ended")
            raise engine_error(self._engine.address, away)
        if self._tries[place] >= _TRIES:
            return False
        self._submit(place)
        return True
