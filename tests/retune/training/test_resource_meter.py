"""What a training took: the figures that it leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from retune.data.tables import read_rows
from retune.model_records import BaseRef
from retune.records import ChatRef
from retune.spine.stage import Workdir
from retune.training import resource_meter
from retune.training.resource_meter import count_tokens, tensor_bytes, watch_memory
from retune.training.resource_record import read_measured
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.supervised import train_adapter
from tests.making import settings_of

MIB = 1024 * 1024


def test_a_training_says_what_it_took(
    chats: ChatRef, base: BaseRef, quantize: object, work: Workdir
) -> None:
    """Two steps of all rows: each row's tokens go through the model twice, padding not counted.

    The base is in float32, the adapter of rank 4 too: 4 bytes per parameter. Rotary frequencies,
    8 of them in float32, stand twice (one copy is the original).
    """
    side = chats.side("train")
    rows = read_rows(side.folder / "rows.parquet")
    inputs = TrainInputs(
        train=side,
        validation=chats.side("validation"),
        base=base,
        model=quantize("none"),  # type: ignore[operator]
    )
    section: TrainSettings = settings_of(
        TrainSettings,
        seed=1,  # type: ignore[arg-type]
        model={"id": "tiny"},
        quantization={"kind": "none"},
        method={"r": 4},
        training={"max_steps": 2, "batch_size": len(rows), "evaluations": 0, "warmup_steps": 0.0},
    )
    adapter = train_adapter(inputs, section, work)
    measured = read_measured(adapter.folder)
    assert measured is not None
    tokens = sum(len(row["prompt_ids"]) + len(row["answer_ids"]) for row in rows)
    assert (measured.steps, measured.tokens, measured.resumed) == (2, 2 * tokens, False)
    assert (measured.device, measured.devices) == ("cpu", 1)
    assert measured.model_bytes == 4 * adapter.total_parameters + 2 * 8 * 4
    assert measured.seconds > 0
    assert measured.peak_memory_bytes >= measured.memory_before_bytes > measured.model_bytes


def test_an_old_training_has_no_figures(tmp_path: Path) -> None:
    """An artifact from before trainings were measured, or a perturbed file: None, and no error."""
    assert read_measured(tmp_path) is None
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "measured.json").write_text("{")
    assert read_measured(tmp_path) is None


def test_the_peak_is_what_was_held_at_once() -> None:
    """64 MiB that are written and freed: the peak knows them, what is held afterwards does not.

    Looked at while they are held, as a training does in each step: no thread has to be in time.
    """
    with watch_memory("cpu") as memory:
        held = np.ones(64 * MIB, dtype=np.uint8)
        memory.sample()
        del held
    assert memory.peak - memory.before == pytest.approx(64 * MIB, rel=0.1)


def test_a_new_peak_of_the_process_is_known_without_looking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Resident 100, highest ever 150, no reset allowed: a highest of 300 afterwards is this one's.

    Had it stayed at 150, the peak would be the 100 that were seen.
    """
    sizes = {"VmRSS": 100, "VmHWM": 150}
    monkeypatch.setattr(resource_meter, "_reset_peak", lambda: False)
    monkeypatch.setattr(resource_meter, "read_status", lambda name: sizes[name])
    with watch_memory("cpu") as memory:
        sizes["VmHWM"] = 300
    assert (memory.before, memory.peak) == (100, 300)
    with watch_memory("cpu") as memory:
        pass
    assert (memory.before, memory.peak) == (100, 100)


def test_an_earlier_peak_is_not_told() -> None:
    """128 MiB before the watch began are no part of what it finds."""
    early = np.ones(128 * MIB, dtype=np.uint8)
    del early
    with watch_memory("cpu") as memory:
        pass
    assert memory.peak - memory.before < 8 * MIB


def test_what_earlier_work_left_behind_is_not_held_before() -> None:
    """128 MiB in pieces that were freed below one that lives: the heap keeps them until asked."""
    pieces = [np.ones(64 * 1024, dtype=np.uint8) for _ in range(2048)]
    last = pieces[-1]
    full = resource_meter.read_status("VmRSS")
    del pieces
    with watch_memory("cpu") as memory:
        pass
    assert full - memory.before > 100 * MIB
    assert last.all()


def test_shared_weights_count_once() -> None:
    """A tied head, 4 x 3 in float32, is one storage: 48 bytes, and a buffer of 2 doubles: 16."""
    model = torch.nn.Module()
    model.embedding = torch.nn.Embedding(4, 3)
    model.head = torch.nn.Linear(3, 4, bias=False)
    model.head.weight = model.embedding.weight
    model.register_buffer("steps", torch.zeros(2, dtype=torch.float64))
    assert tensor_bytes(model) == 48 + 16


@pytest.mark.parametrize(
    ("batch", "tokens"),
    [
        (
            {"input_ids": torch.ones(2, 3), "attention_mask": torch.tensor([[1, 1, 0], [1, 1, 1]])},
            5,
        ),
        ({"input_ids": torch.ones(1, 7)}, 7),
        (
            {
                "chosen_attention_mask": torch.ones(2, 3),
                "rejected_attention_mask": torch.ones(2, 2),
                "chosen_input_ids": torch.ones(2, 3),
            },
            10,
        ),
        (
            {
                "prompt_ids": torch.ones(2, 3),
                "prompt_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]),
                "completion_ids": torch.ones(2, 2),
                "completion_mask": torch.tensor([[1, 0], [1, 1]]),
            },
            8,
        ),
    ],
    ids=["padded", "packed", "pairs", "rewards"],
)
def test_real_tokens_are_counted(batch: dict[str, torch.Tensor], tokens: int) -> None:
    """Masks say what is padding; without one all ids count; pairs have two masks."""
    assert count_tokens(batch) == tokens
