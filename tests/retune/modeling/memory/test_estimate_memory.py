"""Estimates of memory against counts by hand, and what is said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import retune.modeling.memory.estimate_memory as estimating
from retune.errors import ConfigError
from retune.machine import GPU_CONTEXT_BYTES, Device
from retune.modeling.memory.allocations import AllocationLog
from retune.modeling.memory.estimate_memory import LIBRARIES_BYTES, Plan, estimate_memory
from retune.modeling.memory.gpu_kernels import followed_kernels
from retune.modeling.memory.memory_estimate import BatchShape, MemoryEstimate
from retune.modeling.memory.optimizer_memory import bitsandbytes_states
from retune.recipe.sections import ModelConfig, QuantizationConfig, TrainingConfig
from retune.recipe.sections.method import MethodConfig

Snapshot = Callable[[str], Path]


def plan(
    folder: Path, *, method: dict[str, Any], kind: str = "none", rows: int = 4, **training: Any
) -> Plan:
    """A batch of 32 tokens a row, of which 8 carry loss; everything in float32."""
    return Plan(
        folder=folder,
        model=ModelConfig(id="tiny", dtype="float32"),
        quantization=QuantizationConfig.model_validate({"kind": kind, "compute_dtype": "float32"}),
        method=TypeAdapter(MethodConfig).validate_python(method),
        training=TrainingConfig(batch_size=rows, evaluations=0, **training),
        batch=BatchShape(rows=rows, tokens=32, answer_tokens=8 * rows),
        device=Device(name="cpu", bfloat16=False),
    )


def config_alone(folder: Path, target: Path) -> Path:
    """Copy a snapshot's configuration and nothing else."""
    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    return target


def vocabulary(folder: Path) -> int:
    """Return the size of a model's vocabulary."""
    return int(json.loads((folder / "config.json").read_text())["vocab_size"])


def llama_weights(words: int) -> int:
    """Weights of the tiny Llama: 64 wide, 2 blocks, 4 heads of 16 of which 2 for keys and values.

    A block: q, o 64 x 64; k, v 64 x 32; gate, up, down 64 x 128; two norms of 64. Then a last norm,
    and an embedding and a head of 64 for each word.
    """
    block = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    return 2 * block + 64 + 2 * words * 64


def test_weights_are_not_needed(snapshot: Snapshot, tmp_path: Path) -> None:
    """A folder with config.json alone gives the same estimate as the whole snapshot."""
    folder = snapshot("llama")
    alone = config_alone(folder, tmp_path / "alone")
    method = {"kind": "lora", "r": 4}
    assert estimate_memory(plan(alone, method=method)) == estimate_memory(
        plan(folder, method=method)
    )


def test_bytes_of_an_adapter_by_hand(snapshot: Snapshot) -> None:
    """LoRA of rank 4 over float32.

    Per block r * (in + out) over 7 layers: q, o 128; k, v 96; gate, up, down 192: 1,024. Times
    r = 4 and two blocks: 8,192 parameters. AdamW keeps two values of each, and a step of 4 bytes
    for each of 28 matrices. Beside the weights lie the rotary frequencies, 8 of 4 bytes, twice.
    """
    folder = snapshot("llama")
    found = estimate_memory(plan(folder, method={"kind": "lora", "r": 4}))
    weights = llama_weights(vocabulary(folder))
    assert found.trainable_parameters == 8_192
    assert found.total_parameters == weights + 8_192
    assert found.adapter == 8_192 * 4
    assert found.optimizer == 2 * 8_192 * 4 + 28 * 4
    assert found.weights == weights * 4 + 2 * 8 * 4


@pytest.mark.parametrize(("optimizer", "states"), [("adamw_torch", 2), ("sgd", 0)])
def test_bytes_of_full_training_by_hand(snapshot: Snapshot, optimizer: str, states: int) -> None:
    """All weights in float32; AdamW keeps two values of each, plain SGD none.

    In two parts of a step the gradients of the first lie there while the second runs: 4 bytes each.
    """
    folder = snapshot("llama")
    found = estimate_memory(
        plan(folder, method={"kind": "full"}, optimizer=optimizer, gradient_accumulation=2)
    )
    weights = llama_weights(vocabulary(folder))
    assert found.trainable_parameters == found.total_parameters == weights
    assert found.adapter == found.gradients == weights * 4
    assert found.optimizer == pytest.approx(states * weights * 4, abs=4 * 100)


def test_bytes_of_4_bit_weights_by_hand(snapshot: Snapshot) -> None:
    """The 14 layers take half a byte a weight, and a scale of 4 bytes for 64 weights.

    Embedding, head and norms keep 4 bytes. The table of 16 values stands beside each layer.
    """
    folder = snapshot("llama")
    given = plan(folder, method={"kind": "qlora", "r": 4}, kind="nf4")
    given = replace(given, quantization=given.quantization.model_copy(update={"double": False}))
    found = estimate_memory(given)
    quantized = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    others = llama_weights(vocabulary(folder)) - quantized
    scales = quantized // 64 * 4 + 14 * 16 * 4
    assert found.weights == quantized // 2 + scales + others * 4 + 2 * 8 * 4
    assert found.total_parameters == llama_weights(vocabulary(folder)) + 8_192


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "gpt2"])
def test_every_family_is_followed(snapshot: Snapshot, family: str) -> None:
    """Twice the rows keep about twice the activations; recomputing keeps less than half."""
    folder, method = snapshot(family), {"kind": "lora", "r": 4}
    one = estimate_memory(plan(folder, method=method, rows=8))
    two = estimate_memory(plan(folder, method=method, rows=16))
    less = estimate_memory(plan(folder, method=method, rows=16, gradient_checkpointing=True))
    assert two.activations == pytest.approx(2 * one.activations, rel=0.1)
    assert less.activations < two.activations / 2
    assert less.above_runtime < two.above_runtime


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        {"kind": "bottleneck", "size": 16},
        {"kind": "prefix"},
        {"kind": "p_tuning"},
        {"kind": "prompt"},
    ],
    ids=lambda method: str(method["kind"]),
)
def test_every_method_is_followed(snapshot: Snapshot, method: dict[str, Any]) -> None:
    """Methods of other forms train something, and far less than the model."""
    found = estimate_memory(plan(snapshot("llama"), method=method))
    assert 0 < found.trainable_parameters < found.total_parameters / 2
    assert found.adapter == 4 * found.trainable_parameters


def test_activations_of_a_small_network_by_hand() -> None:
    """Two linear layers with a tanh between, 10 rows, 4 -> 6 -> 2, float32.

    Alive when the loss is there: input 10 x 4, the first result 10 x 6 is freed (tanh keeps its own
    output, 10 x 6), the second result 10 x 2 is freed after the sum, which keeps only its shape;
    the sum itself, 1. Beside them the weights: 4 x 6 + 6 + 6 x 2 + 2 = 44.
    """
    mode = FakeTensorMode()
    with mode, AllocationLog() as log:
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        since = log.mark()
        loss = model(torch.zeros(10, 4)).sum()
        held = log.size(log.alive())
    assert loss.requires_grad
    assert held == 4 * (44 + 10 * 4 + 10 * 6 + 1)
    # The highest moment is in the second layer or before: its result or the first one lives too.
    assert log.size(log.peak(since)) == 4 * (44 + 10 * 4 + 2 * 10 * 6)


def test_small_states_stay_in_32_bits() -> None:
    """8-bit AdamW: of 8,192 weights two states of a byte, and a scale of 4 bytes for 256 of them.

    Of 100 weights two states of 4 bytes.
    """
    states = bitsandbytes_states("adamw_bnb_8bit", [torch.zeros(8192), torch.zeros(100)])
    assert sum(s.nbytes for s in states) == 2 * (8192 + 8192 // 256 * 4) + 2 * 100 * 4


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    """An unknown kind of model: one message with the folder, and no traceback."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "abacus"}))
    with pytest.raises(ConfigError, match="no causal language model can be built"):
        estimate_memory(plan(tmp_path, method={"kind": "lora"}))


def test_the_peak_is_the_sum_of_its_parts(snapshot: Snapshot) -> None:
    """On a CPU libraries are added to what tensors take; on a GPU what CUDA itself takes of it."""
    given = plan(snapshot("llama"), method={"kind": "lora"})
    found = estimate_memory(given)
    assert isinstance(found, MemoryEstimate)
    assert found.total == sum(found.parts().values()) == LIBRARIES_BYTES + found.above_runtime
    gpu = Device(name="cuda", bfloat16=True, present=False)
    assert estimate_memory(replace(given, device=gpu)).runtime == GPU_CONTEXT_BYTES


def test_half_precision_takes_half(snapshot: Snapshot) -> None:
    """Weights that `auto` loads in bfloat16 on a GPU take two bytes, on a CPU four."""
    given = replace(plan(snapshot("llama"), method={"kind": "lora"}), model=ModelConfig(id="tiny"))
    gpu = Device(name="cuda", bfloat16=True, present=False)
    cpu, half = estimate_memory(given), estimate_memory(replace(given, device=gpu))
    # Rotary frequencies, 8 of 4 bytes, twice, stay in float32.
    assert 2 * (half.weights - 64) == cpu.weights - 64


def test_a_tile_of_the_loss_takes_nothing_more_on_a_gpu(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is a kernel there, and writes into tensors that were made before.

    Followed as on a CPU, exponentials of a tile and the like lie beside them for a moment.
    """
    given = plan(snapshot("llama"), method={"kind": "lora", "r": 4})
    batch = BatchShape(rows=4, tokens=32, answer_tokens=124)
    given = replace(given, batch=batch, device=Device(name="cuda", bfloat16=True, present=False))

    kernel = estimate_memory(given)
    monkeypatch.setattr(estimating, "followed_kernels", lambda _: followed_kernels("cpu"))
    tile = estimate_memory(given)

    # A tile in float32 at least: as many rows as answer tokens, as wide as the vocabulary.
    assert tile.total - kernel.total >= 4 * 124 * vocabulary(given.folder)
    # The buffer of a tile, which is as wide as the widest one, whatever the vocabulary is.
    assert kernel.logits >= 4 * 124 * 32_768


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["none", "nf4"])
def test_a_gpu_that_is_there_is_never_reached(snapshot: Snapshot, kind: str) -> None:
    """A kernel over tensors without values would fault it, and the process could not go on."""
    found = plan(snapshot("llama"), method={"kind": "lora", "r": 4}, kind=kind)
    found = replace(found, device=Device(name="cuda", bfloat16=True, present=True))

    estimate_memory(found)

    torch.cuda.synchronize()
    assert torch.ones(2, device="cuda").sum().item() == 2
