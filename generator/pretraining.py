"""Pretrain the tiny base from scratch on two CPU cores, resumably and reproducibly."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from math import cos, pi
from pathlib import Path

import torch

from generator.base_model import build_base, load_base
from generator.base_trainer import BaseTrainer, Progress
from generator.batches import StreamPlan, iterate_batches
from generator.datasets import draw_english_turns
from generator.exact_match import measure_exact_match
from generator.tokenizer import load_tokenizer

Report = Callable[[int, int, str], None]
"""Called with the step, the number of steps, and what there is to say."""

_WARMUP_STEPS = 150
_FINAL_SHARE = 0.02
_STEPS_PER_REPORT = 20
_STEPS_PER_MEASURE = 600
_ROWS_WHILE_TRAINING = 64
_MAX_NEW_TOKENS = 96


@dataclass(frozen=True)
class PretrainingFigures:
    """What a pretraining did.

    Attributes:
        parameters: Number of weights.
        steps: Optimizer steps.
        rows: Conversations read.
        tokens: Tokens read, without padding.
        seconds: Wall time of the steps, over all resumed parts.
        final_loss_nats: Mean loss of the answer tokens over the last reported steps.
        english_exact_match: Share of held-out English rows answered with the very query.
        english_rows: Number of those rows.
    """

    parameters: int
    steps: int
    rows: int
    tokens: int
    seconds: float
    final_loss_nats: float
    english_exact_match: float
    english_rows: int


def pretrain_base(
    folder: Path,
    *,
    tokenizer_folder: Path,
    scratch: Path,
    steps: int,
    batch_rows: int,
    peak_learning_rate: float,
    seed: int,
    report: Report,
    start: Path | None = None,
    steps_per_checkpoint: int = 200,
    measured_rows: int = 200,
) -> PretrainingFigures:
    """Train the base on the stream and save it with its tokenizer in bf16 safetensors.

    The number of steps decides the result, never the time. Killed and called again with the same
    values, it goes on from the last checkpoint and ends with the same weights.

    Args:
        folder: Where the model goes; made if absent.
        tokenizer_folder: A saved tokenizer with a chat template.
        scratch: Where the checkpoint lives; safe to delete afterwards.
        steps: Number of optimizer steps.
        batch_rows: Conversations a step.
        peak_learning_rate: Learning rate after the warm-up, of a cosine that ends near zero.
        seed: Seed of the weights and of the stream.
        report: Called now and then with the progress.
        start: A base that has been through the curriculum, to train on; None starts from scratch.
        steps_per_checkpoint: Steps that a crash can lose.
        measured_rows: Held-out English rows to answer at the end, 200 at most.

    Returns:
        What was done and how well the base answers held-out English rows.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    plan = StreamPlan(tokenizer_folder, seed, steps, batch_rows, taught=start is not None)
    trainer = BaseTrainer(load_base(start) if start else build_base(tokenizer, seed=seed))
    checkpoint = scratch / f"checkpoint-{_identity(plan, peak_learning_rate, start)}.pt"
    progress = trainer.resume(checkpoint)
    held_out = draw_english_turns(seed=seed)[:measured_rows]

    def measure(rows: int) -> float:
        return measure_exact_match(
            trainer.model, tokenizer, held_out[:rows], max_new_tokens=_MAX_NEW_TOKENS
        )

    for step in _train(trainer, plan, peak_learning_rate, progress, report):
        if step % steps_per_checkpoint == 0 or step == steps:
            trainer.save(progress, checkpoint)
        if step % _STEPS_PER_MEASURE == 0 and step < steps:
            match = measure(_ROWS_WHILE_TRAINING)
            report(step, steps, f"English exact match {match:.1%}")
    trainer.model.save_pretrained(folder)
    # A fresh one: a batch that was padded leaves its padding in the file of the one that made it.
    load_tokenizer(tokenizer_folder).save_pretrained(folder)
    return PretrainingFigures(
        parameters=sum(weight.numel() for weight in trainer.masters),
        steps=steps,
        rows=steps * batch_rows,
        tokens=progress.tokens,
        seconds=progress.seconds,
        final_loss_nats=progress.loss,
        english_exact_match=measure(len(held_out)),
        english_rows=len(held_out),
    )


def add_figures(first: PretrainingFigures, second: PretrainingFigures) -> PretrainingFigures:
    """Return the figures of two cycles as of one; what was measured is the second's."""
    return replace(
        second,
        steps=first.steps + second.steps,
        rows=first.rows + second.rows,
        tokens=first.tokens + second.tokens,
        seconds=first.seconds + second.seconds,
    )


def learning_rate_at(step: int, *, steps: int, peak: float) -> float:
    """Return the learning rate: linear warm-up, then a cosine down to a small share of the peak.

    Args:
        step: Number of steps done.
        steps: Number of steps in all.
        peak: Largest learning rate.

    Returns:
        The learning rate of the next step.
    """
    warmup = min(_WARMUP_STEPS, max(1, steps // 10))
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (_FINAL_SHARE + (1 - _FINAL_SHARE) * (1 + cos(pi * share)) / 2)


def _train(
    trainer: BaseTrainer, plan: StreamPlan, peak: float, progress: Progress, report: Report
) -> Iterator[int]:
    """Yield the number of steps done after each; time spent by the caller does not count."""
    losses: list[torch.Tensor] = []
    with closing(iterate_batches(plan, progress.step)) as batches:
        begin = time.monotonic()
        for batch in batches:
            rate = learning_rate_at(progress.step, steps=plan.steps, peak=peak)
            losses.append(trainer.learn(batch, rate))
            progress.step += 1
            progress.tokens += batch.tokens
            progress.seconds += time.monotonic() - begin
            if progress.step % _STEPS_PER_REPORT == 0 or progress.step == plan.steps:
                progress.loss = float(torch.stack(losses).mean())
                losses.clear()
                speed = progress.tokens / progress.seconds
                text = f"loss {progress.loss:.4f}, {speed:,.0f} tokens/s"
                report(progress.step, plan.steps, text)
            yield progress.step
            begin = time.monotonic()


def _identity(plan: StreamPlan, peak_learning_rate: float, start: Path | None) -> str:
    # A checkpoint of another plan must not be continued: its stream and schedule differ.
    text = (plan.tokenizer_folder / "tokenizer.json").read_bytes()
    if start is not None:
        text += (start / "model.safetensors").read_bytes()
    parts = [plan.seed, plan.steps, plan.batch_rows, peak_learning_rate]
    return hashlib.sha256(json.dumps(parts).encode() + text).hexdigest()[:16]
