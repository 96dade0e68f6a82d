"""What a model takes while it is scored, known without its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from retune.errors import ConfigError
from retune.inference.loaded_models import load_causal_model
from retune.machine import Device
from retune.modeling.memory import model_sizes
from retune.modeling.memory.allocations import AllocationLog
from retune.modeling.memory.model_sizes import Work, measure_model, weigh_modules
from tests.tiny_models import write_snapshot

CPU = Device(name="cpu", bfloat16=False)
READ, WRITE = Work(rows=3, tokens=20, kept=7), Work(rows=2, tokens=12, written=5)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_snapshot(tmp_path_factory.mktemp("models") / "llama", "tied_llama")


def allocate(snapshot: Path, work: Work) -> int:
    """Do the work with real weights and return what torch allocated for it at most."""
    model = load_causal_model(snapshot, dtype=torch.float32, device=torch.device("cpu"))
    log = AllocationLog()
    with torch.no_grad(), log:
        held = log.numbers([*model.parameters(), *model.buffers()])
        since = log.mark()
        do = model_sizes._write if work.written else model_sizes._read
        do(model, work, torch.device("cpu"))
        return log.size(log.peak(since) - held)


def test_work_is_counted_as_torch_allocates_it(snapshot: Path) -> None:
    """Of each kind of work the bytes as with weights; of several works the largest.

    A mask without values cannot be seen to hide nothing: of writing it is there, 0.6 % more.
    """
    works = {"read": [READ], "write": [WRITE], "both": [READ, WRITE]}
    found = measure_model(snapshot, "plain", works, device=CPU)
    real = {"read": allocate(snapshot, READ), "write": allocate(snapshot, WRITE)}
    assert {name: found[name].working for name in real} == pytest.approx(real, rel=0.01)
    assert found["both"].working == max(found[name].working for name in real)


def test_weights_are_those_of_the_files(snapshot: Path) -> None:
    """Tied ends count once; the largest piece is the embedding, 4,096 rows or more of 64."""
    model = load_causal_model(snapshot, dtype=torch.float32, device=torch.device("cpu"))
    found = measure_model(snapshot, "plain", {"read": [READ]}, device=CPU)["read"]
    assert (found.weights, found.largest) == weigh_modules(model)
    assert found.largest == model.get_input_embeddings().weight.nbytes
    half = measure_model(snapshot, "plain", {"read": [READ]}, device=CPU, dtype=torch.bfloat16)
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    assert half["read"].weights == (found.weights - buffers) // 2 + buffers


def test_four_bits_pack_the_linear_layers(snapshot: Path) -> None:
    """Half a byte for each of 36,864 linear weights of two blocks, and their scale factors."""
    plain, packed = (
        measure_model(snapshot, form, {"read": [READ]}, device=CPU)["read"]
        for form in ("plain", "nf4")
    )
    linear = 2 * 36_864
    saved = plain.weights - packed.weights
    # At most 1 % of a weight's four bytes, and 1.1 KB of tables for each of 14 layers, are scales.
    assert linear * 3.5 * 0.98 - 14 * 1100 < saved < linear * 3.5


def test_a_model_that_cannot_be_built_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama", "num_attention_heads": 0}')
    with pytest.raises(ConfigError, match=r"config\.json"):
        measure_model(tmp_path, "plain", {"read": [READ]}, device=CPU)
