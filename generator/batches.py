"""Batches of the pretraining stream, made in a second process while the model trains.

A block is a fixed number of batches, drawn from a seed of its own. So the batch of any step can be
made again without drawing those before it, and a resumed training reads exactly what an
uninterrupted one would have.
"""

import os
import random
import threading
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BatchEncoding, PreTrainedTokenizerFast

from generator.stream import Turn, draw_conversation
from generator.tokenizer import load_tokenizer

BATCHES_PER_BLOCK = 32
_LENGTH_STEP = 16

Row = tuple[NDArray[np.uint16], NDArray[np.bool_]]
"""Token ids, and which of them the assistant said."""


@dataclass(frozen=True)
class StreamPlan:
    """What decides the stream: with equal fields, equal batches.

    Attributes:
        tokenizer_folder: A saved tokenizer.
        seed: Seed of all rows.
        steps: Number of batches.
        batch_rows: Conversations a batch.
        taught: Whether the model has been through the curriculum, which is then left out.
    """

    tokenizer_folder: Path
    seed: int
    steps: int
    batch_rows: int
    taught: bool = False


@dataclass(frozen=True)
class Batch:
    """Rows of about one length, padded on the right.

    Causal attention never looks at padding on the right, so there is no attention mask.

    Attributes:
        input_ids: Token ids, ``[rows, length]``.
        is_answer: Which tokens the assistant said, ``[rows, length]``.
        tokens: How many of them are not padding.
    """

    input_ids: torch.Tensor
    is_answer: torch.Tensor
    tokens: int


def iterate_batches(plan: StreamPlan, first_step: int) -> Generator[Batch, None, None]:
    """Yield the batches of the steps from ``first_step`` to the last.

    Args:
        plan: What decides the stream.
        first_step: Number of batches to leave out.

    Yields:
        One batch a step.
    """
    block, skipped = divmod(first_step, BATCHES_PER_BLOCK)
    blocks = -(-plan.steps // BATCHES_PER_BLOCK)
    left = plan.steps - first_step
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=_end_with_parent
    ) as pool:
        upcoming: list[Future[list[list[Row]]]] = []
        for number in range(block, blocks):
            # Two blocks ahead, so that the training never waits.
            while len(upcoming) < 2 and number + len(upcoming) < blocks:
                upcoming.append(pool.submit(make_block, plan, number + len(upcoming)))
            rows_of_batches = upcoming.pop(0).result()
            for rows in rows_of_batches[skipped : skipped + left]:
                left -= 1
                yield _collate(rows)
            skipped = 0


def _end_with_parent() -> None:
    """End this process when the one that started it is killed, which tells nobody."""
    parent = parent_process()
    assert parent is not None  # only called in the pool's process

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def make_block(plan: StreamPlan, number: int) -> list[list[Row]]:
    """Draw and tokenize the rows of one block and sort them into batches of about one length.

    Args:
        plan: What decides the stream.
        number: Which block, from 0.

    Returns:
        ``BATCHES_PER_BLOCK`` batches in random order.
    """
    rng = random.Random(f"pretraining-{plan.seed}-{number}")
    progress = 1.0 if plan.taught else number * BATCHES_PER_BLOCK / plan.steps
    count = BATCHES_PER_BLOCK * plan.batch_rows
    conversations = [draw_conversation(rng, progress) for _ in range(count)]
    rows = sorted(_tokenize(plan.tokenizer_folder, conversations), key=lambda row: len(row[0]))
    batches = [rows[i : i + plan.batch_rows] for i in range(0, count, plan.batch_rows)]
    rng.shuffle(batches)
    return batches


@lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(folder)


def _tokenize(folder: Path, conversations: list[list[Turn]]) -> list[Row]:
    encoded = _tokenizer(folder).apply_chat_template(
        [_messages(turns) for turns in conversations],
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    encoded = cast(BatchEncoding, encoded)
    pairs = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    return [(np.array(ids, np.uint16), np.array(mask, np.bool_)) for ids, mask in pairs]


def _messages(turns: list[Turn]) -> list[dict[str, str]]:
    messages = []
    for turn in turns:
        messages.append({"role": "user", "content": turn.user})
        messages.append({"role": "assistant", "content": turn.assistant})
    return messages


def _collate(rows: list[Row]) -> Batch:
    # Few different lengths: the CPU kernels are prepared, and kept in memory, once for each.
    length = -(-max(len(ids) for ids, _ in rows) // _LENGTH_STEP) * _LENGTH_STEP
    input_ids = np.zeros((len(rows), length), np.int64)
    is_answer = np.zeros((len(rows), length), np.bool_)
    for index, (ids, mask) in enumerate(rows):
        input_ids[index, : len(ids)] = ids
        is_answer[index, : len(ids)] = mask
    tokens = sum(len(ids) for ids, _ in rows)
    return Batch(torch.from_numpy(input_ids), torch.from_numpy(is_answer), tokens)
