"""Plain padded batches, for models that cannot page: learned positions, parts on the disk, RNNs.

A batch runs until its last answer has ended; what comes meanwhile waits for the next one. Rows
that have ended go on being computed, so that a batch is as long as its longest prompt with its
longest answer: those that would leave the context together are answered one after another.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria

from retune.inference.batching import pad_sequences
from retune.inference.generation import plain_greedy
from retune.inference.jobs import Counts, Job
from retune.inference.loaded_models import LoadedModel
from retune.serving.choosing import choose_tokens, only


class PaddedEngine:
    """Writes answers by `generate`, `batch` at a time; see `jobs.Engine`.

    Args:
        loaded: The model.
        batch: Most answers at a time.
        context: Most tokens of a prompt with its answer.
    """

    def __init__(self, loaded: LoadedModel, batch: int, context: int) -> None:
        self._loaded, self._batch, self._context = loaded, batch, context
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="padded-engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Let an answer wait for the next batch."""
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()

    def cancel(self, job: Job) -> None:
        """End an answer: its row is idle from the next token on."""
        job.ended = True

    def counts(self) -> Counts:
        """Say how busy it is."""
        running = sum(not job.ended for job in self._running)
        return Counts(running, len(self._waiting))

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread once its batch has ended."""
        with self._changed:
            self._closed = True
            for job in (*self._running, *self._waiting):
                job.ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                found = [job for job in self._waiting if not job.ended]
                self._running, later = fill_batch(found, self._batch, self._context)
                self._waiting = deque(later)
            if self._running:
                self._write(self._running)
            self._running = []

    def _write(self, jobs: list[Job]) -> None:
        pad = int(self._loaded.tokenizer.pad_token_id)
        model = self._loaded.model
        ids, mask = pad_sequences([job.prompt_ids for job in jobs], pad, "left")
        try:
            with torch.inference_mode(), plain_greedy(model):
                model.generate(
                    input_ids=ids.to(model.device),
                    attention_mask=mask.to(model.device),
                    max_new_tokens=max(job.max_tokens for job in jobs),
                    do_sample=False,
                    num_beams=1,
                    pad_token_id=pad,
                    logits_processor=LogitsProcessorList([_Chooser(jobs, pad)]),
                    stopping_criteria=[_Ended(jobs)],
                )
        except Exception as error:  # noqa: BLE001 - who waits is told, and the next batch goes on
            for job in jobs:
                if not job.ended:
                    job.ended = True
                    job.fail(f"{type(error).__name__}: {error!s:.200}")


def fill_batch(waiting: Sequence[Job], batch: int, context: int) -> tuple[list[Job], list[Job]]:
    """Part answers into a batch and those that wait on.

    Args:
        waiting: In the order they came; the first is always in the batch.
        batch: Most answers at a time.
        context: Most tokens of the longest prompt with the longest answer.

    Returns:
        The batch, and the others in their order.
    """
    taken: list[Job] = []
    later: list[Job] = []
    prompt = answer = 0
    for job in waiting:
        longest = max(prompt, len(job.prompt_ids)), max(answer, job.max_tokens)
        if taken and (len(taken) == batch or sum(longest) > context):
            later.append(job)
        else:
            taken.append(job)
            prompt, answer = longest
    return taken, later


class _Chooser(LogitsProcessor):
    def __init__(self, jobs: list[Job], idle: int) -> None:
        self._jobs, self._idle = jobs, idle

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> Any:
        return only(choose_tokens(scores, self._jobs, self._idle), scores)


class _Ended(StoppingCriteria):
    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **_: Any) -> Any:
        return torch.tensor([job.ended for job in self._jobs], device=input_ids.device)
