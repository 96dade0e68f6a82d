"""Batches shared by two processes: every row gets what one process gives it, bit for bit.

That is with as many threads; another number of them is another rounding.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from retune.data.tables import read_rows
from retune.errors import ConfigError, StageDied
from retune.inference.generation import write_answers
from retune.inference.loaded_models import ModelSlot
from retune.inference.replicas import Replicas, _see_only, compute_batches, share_batches
from retune.inference.token_losses import score_tokens
from retune.machine import count_scoring_devices
from retune.model_records import BaseRef, ScoredModel
from retune.records import ChatRef
from retune.spine.children import count_cores
from tests.retune.inference.replica_work import load_if_there, note, say_who


@pytest.fixture(scope="module")
def slot() -> Iterator[ModelSlot]:
    """A slot of its own, whose processes end with this file."""
    found = ModelSlot()
    yield found
    found.clear()


@pytest.fixture(scope="module")
def scored(base: BaseRef) -> ScoredModel:
    """The tiny Llama as a scorer is given it."""
    return ScoredModel(digest=base.digest, weights=base.folder, tokenizer=base.folder)


@pytest.mark.slow
def test_two_processes_give_the_answers_and_losses_of_one(
    slot: ModelSlot, scored: ScoredModel, chats: ChatRef
) -> None:
    """Seven rows in batches of two: four batches, the second and fourth computed elsewhere."""
    # What other files of this process have started lives on.
    before = set(psutil.Process().children())
    rows = read_rows(chats.side("test").folder / "rows.parquet")[:7]
    prompts = [row["prompt_ids"] for row in rows]
    pairs = [(row["prompt_ids"], row["answer_ids"]) for row in rows]

    def compute(devices: int) -> tuple[list[object], list[list[float]]]:
        loaded = slot.get(scored, devices)
        answers = write_answers(loaded, prompts, max_new_tokens=20, batch_size=2)
        losses = score_tokens(loaded.model, pairs, batch_size=2, pad_id=0)
        return [*answers], losses

    alone = compute(1)
    shared = compute(2)
    assert shared == alone
    # Beside it stands the process with which Python looks after shared memory.
    children = set(psutil.Process().children()) - before
    (other,) = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    os.kill(other.pid, signal.SIGKILL)
    with pytest.raises(StageDied, match="one of 2 devices died"):
        compute(2)
    # The next work starts another one.
    assert compute(2) == alone


@pytest.mark.slow
def test_a_replica_that_fails_dies_or_is_not_needed_leaves_the_next_work_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is the asker's, the death of an idle one is told, and what is left is given up."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    folder = tmp_path / "model"
    model = torch.nn.Identity()
    scored = ScoredModel(digest="d", weights=folder, tokenizer=folder)
    replicas = Replicas(scored, 2, load_if_there)
    share_batches(model, replicas)

    def compute() -> list[tuple[int, int]]:
        found = compute_batches(model, [["a"], ["b"]], say_who)
        return [who for computed in found for who in computed.results]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ConfigError, match="model: is not there"):
            compute()
        folder.mkdir()
        (asker, threads), (other, others) = compute()
        assert asker == os.getpid() != other
        # Both have their part of the cores, and the asker all of its threads again afterwards.
        cores = count_cores()
        assert threads == others == max(1, cores // 2)
        assert torch.get_num_threads() == 2

        paths, go = [tmp_path / str(number) for number in range(20)], tmp_path / "go"
        batches = [[(path, go if at % 2 else None)] for at, path in enumerate(paths)]
        with closing(compute_batches(model, batches, note)) as noted:
            next(noted)
        go.touch()
        compute()
        # The asker's own, the one that was being computed, and two that wait at its door.
        assert sum(path.exists() for path in paths) <= 4

        os.kill(other, signal.SIGKILL)
        while replicas._pool is not None and not replicas._pool._broken:
            time.sleep(0.05)
        with pytest.raises(StageDied, match="one of 2 devices died"):
            compute()
    finally:
        torch.set_num_threads(before)
        replicas.close()


@pytest.mark.parametrize(
    ("visible", "seen"),
    [(None, "1"), ("", ""), ("3,5", "5"), ("GPU-a, GPU-b", "GPU-b"), ("3", "")],
)
def test_a_replica_sees_one_gpu_of_those_of_the_asker(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, seen: str
) -> None:
    """The second one of two: by its number where all are seen, and none where all are hidden."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    _see_only(1, 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_devices_are_what_the_machine_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """All GPUs for auto, and one process without any; more than there are is refused."""

    def count(devices: Any, gpus: int) -> int:
        monkeypatch.setattr("retune.machine.list_gpu_memories", lambda: (2**34,) * gpus)
        return count_scoring_devices(devices)

    assert [count("auto", gpus) for gpus in (0, 1, 4)] == [1, 1, 4]
    assert count(2, 0) == 2
    with pytest.raises(ConfigError, match=r"scoring\.runtime\.devices: is 3.*may see 2 GPUs"):
        count(3, 2)
