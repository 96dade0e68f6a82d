"""Pretraining: the loss, the schedule, the batches and resuming."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from generator.base_model import answer_loss, build_base
from generator.batches import BATCHES_PER_BLOCK, Batch, StreamPlan, iterate_batches
from generator.pretraining import PretrainingFigures, learning_rate_at, pretrain_base
from generator.tokenizer import load_tokenizer

STEPS = 6


class Killed(BaseException):
    """Stands for a signal in the middle of the training."""


def _pretrain(folder: Path, tokenizer_folder: Path, *, kill_at: int = 0) -> PretrainingFigures:
    def report(step: int, steps: int, text: str) -> None:
        pass

    scratch = folder / "scratch"
    if kill_at:
        _train_and_die(folder, tokenizer_folder, scratch, kill_at)
    return pretrain_base(
        folder,
        tokenizer_folder=tokenizer_folder,
        scratch=scratch,
        steps=STEPS,
        batch_rows=2,
        peak_learning_rate=1e-3,
        seed=3,
        report=report,
        steps_per_checkpoint=2,
        measured_rows=2,
    )


def _train_and_die(folder: Path, tokenizer_folder: Path, scratch: Path, step: int) -> None:
    # The loss of the last step is reported before its checkpoint is written: dying there loses
    # the steps since the checkpoint before.
    def report(done: int, steps: int, text: str) -> None:
        raise Killed

    with pytest.raises(Killed):
        pretrain_base(
            folder,
            tokenizer_folder=tokenizer_folder,
            scratch=scratch,
            steps=step,
            batch_rows=2,
            peak_learning_rate=1e-3,
            seed=3,
            report=report,
            steps_per_checkpoint=2,
            measured_rows=2,
        )


def test_a_resumed_training_ends_with_the_same_weights(
    tmp_path: Path, tokenizer_folder: Path
) -> None:
    whole = _pretrain(tmp_path / "whole", tokenizer_folder)
    resumed = _pretrain(tmp_path / "resumed", tokenizer_folder, kill_at=STEPS)
    one = load_file(tmp_path / "whole" / "model.safetensors")
    other = load_file(tmp_path / "resumed" / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one.keys() == other.keys()
    assert (whole.tokens, whole.rows) == (resumed.tokens, resumed.rows) == (whole.tokens, 12)


def test_batches_after_a_step_are_those_of_the_whole_stream(tokenizer_folder: Path) -> None:
    # One step after the first block, so that the second block is entered in its middle.
    first = BATCHES_PER_BLOCK + 1
    plan = StreamPlan(tokenizer_folder, seed=5, steps=first + 3, batch_rows=2)
    whole = list(iterate_batches(plan, 0))
    assert len(whole) == plan.steps
    for one, other in zip(whole[first:], iterate_batches(plan, first), strict=True):
        assert torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.is_answer, other.is_answer)


def test_rows_of_a_batch_are_of_about_one_length(tokenizer_folder: Path) -> None:
    plan = StreamPlan(tokenizer_folder, seed=5, steps=BATCHES_PER_BLOCK, batch_rows=16)
    batches = list(islice(iterate_batches(plan, 0), BATCHES_PER_BLOCK))
    padded = sum(batch.input_ids.numel() for batch in batches)
    assert sum(batch.tokens for batch in batches) / padded > 0.85


def test_the_loss_is_that_of_the_library_with_the_prompt_left_out(tokenizer_folder: Path) -> None:
    model = build_base(load_tokenizer(tokenizer_folder), seed=0)
    input_ids = torch.tensor([[2, 40, 50, 3, 60, 70, 1], [2, 41, 3, 61, 1, 0, 0]])
    is_answer = torch.tensor([[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]]).bool()
    expected = model(input_ids=input_ids, labels=input_ids.masked_fill(~is_answer, -100)).loss
    loss = answer_loss(model, Batch(input_ids, is_answer, tokens=12))
    torch.testing.assert_close(loss, expected)


def test_every_matrix_splits_into_whole_quantization_blocks(tokenizer_folder: Path) -> None:
    model = build_base(load_tokenizer(tokenizer_folder), seed=0)
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert all(module.in_features % 64 == 0 for module in linear)
    assert 3_500_000 < sum(weight.numel() for weight in model.parameters()) < 4_200_000


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate_at(step, steps=1000, peak=1.0) for step in range(1000)]
    # A tenth of the steps warms up, then the cosine falls from the peak to 2 % of it.
    assert rates[0] == pytest.approx(0.01)
    assert rates[99] == rates[100] == 1.0
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] == pytest.approx(0.02, abs=1e-3)
