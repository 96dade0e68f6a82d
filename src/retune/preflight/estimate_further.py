"""Stage `estimate_further`: the memory of preferences and rewards, before a weight is loaded.

Both go on from what was trained before with the same loss as that training takes, of the answers'
tokens alone, so that a step of theirs is counted as one of it, of another batch:

- Preferences take both answers of each pair at once. Their reference is asked before the first
  step, and lives no longer.
- Rewards take a prompt with an answer of the most tokens that one may have. All answers of a step
  are written at once before, which takes a cache of keys and values instead; the higher of both
  counts. With `grpo.beta` a frozen copy of what is trained stays beside it.
"""

from __future__ import annotations

import math

from retune.data.chats.pairs import PAIRS_FILE
from retune.data.tables import iterate_rows
from retune.digests import digest_json
from retune.errors import RetuneError
from retune.modeling.devices import pick_dtype
from retune.modeling.memory.estimate_memory import estimate_memory
from retune.modeling.memory.memory_estimate import BatchShape, FurtherEstimates, MemoryEstimate
from retune.modeling.memory.model_sizes import Work, measure_model
from retune.modeling.prequantized import NF4
from retune.preflight.estimate_training import plan_training
from retune.preflight.lengths import largest_batch
from retune.preflight.stages import FurtherInputs, FurtherSettings
from retune.recipe.sections import TrainingConfig
from retune.records import PairsRef, SideRef
from retune.spine.stage import Workdir

_ANSWERING = "answering"


def estimate_further(
    inputs: FurtherInputs, settings: FurtherSettings, work: Workdir
) -> FurtherEstimates:
    """Estimate what the trainings need that go on from a first one.

    Args:
        inputs: The base, the pairs, the rows and the kind of device.
        settings: What is trained, and how.
        work: Unused; the result is its record.

    Returns:
        Memory by part of each training; none where its step cannot be followed without weights.
    """
    try:
        return _record(
            FurtherEstimates(
                digest="",
                preferences=_preferences(inputs, settings),
                rewards=_rewards(inputs, settings),
            )
        )
    except RetuneError as error:
        return _record(FurtherEstimates(digest="", fault=error.message))


def _record(found: FurtherEstimates) -> FurtherEstimates:
    return found.model_copy(update={"digest": digest_json(found.model_dump(mode="json"))})


def _preferences(inputs: FurtherInputs, settings: FurtherSettings) -> MemoryEstimate | None:
    if inputs.pairs is None or settings.pairs_at_once is None:
        return None
    training = _training(settings, settings.pairs_at_once)
    if not inputs.pairs.validation:
        training = training.model_copy(update={"evaluations": 0})
    tokens, answers = pair_lengths(inputs.pairs)
    # Chosen and rejected answers are rows of one batch.
    batch = largest_batch(tokens, answers, rows=2 * training.rows_per_pass)
    return estimate_memory(plan_training(inputs.base, inputs.device, settings, training, batch))


def _rewards(inputs: FurtherInputs, settings: FurtherSettings) -> MemoryEstimate | None:
    if settings.prompts_per_step is None or settings.answers is None:
        return None
    assert settings.max_new_tokens is not None and settings.beta is not None
    written = settings.prompts_per_step * settings.answers
    training = _training(settings, written).model_copy(update={"evaluations": 0})
    prompt = _longest_prompt(inputs.train)
    rows = training.rows_per_pass
    batch = BatchShape(
        rows=rows,
        tokens=prompt + settings.max_new_tokens,
        answer_tokens=rows * settings.max_new_tokens,
    )
    found = estimate_memory(plan_training(inputs.base, inputs.device, settings, training, batch))
    if settings.beta:
        found = found.model_copy(update={"weights": found.weights + found.adapter})
    answering = Work(rows=written, tokens=prompt, written=settings.max_new_tokens)
    sizes = measure_model(
        inputs.base.folder,
        "nf4" if settings.quantization == NF4 else "plain",
        {_ANSWERING: [answering]},
        device=inputs.device,
        dtype=pick_dtype(settings.dtype, inputs.device.name, bfloat16=inputs.device.bfloat16),
    )[_ANSWERING]
    if sizes.working <= found.gradients + found.activations + found.logits + found.working:
        return found
    # Gradients are forgotten, and nothing is kept for a backward pass, while answers are written.
    others = {"gradients": 0, "activations": 0, "logits": 0, "working": sizes.working}
    return found.model_copy(update=others)


def pair_lengths(pairs: PairsRef) -> tuple[list[int], list[int]]:
    """Return the tokens of each answer with its prompt, and those of the answer alone.

    Args:
        pairs: Prepared pairs.

    Returns:
        Two entries per pair that is trained on.
    """
    tokens, answers = [], []
    columns = ["validation", "prompt_ids", "chosen_ids", "rejected_ids"]
    for row in iterate_rows(pairs.folder / PAIRS_FILE, columns):
        for name in ("chosen_ids", "rejected_ids"):
            if not row["validation"]:
                answers.append(len(row[name]))
                tokens.append(len(row["prompt_ids"]) + len(row[name]))
    return tokens, answers


def _longest_prompt(train: SideRef) -> int:
    rows = iterate_rows(train.folder / "rows.parquet", ["prompt_ids"])
    return max((len(row["prompt_ids"]) for row in rows), default=1)


def _training(settings: FurtherSettings, batch_size: int) -> TrainingConfig:
    # What `retune.training.continuing.settings_after_sft` makes of a recipe, as far as memory
    # depends on it.
    return TrainingConfig().model_copy(
        update={
            "batch_size": batch_size,
            "gradient_accumulation": math.gcd(batch_size, settings.gradient_accumulation),
            "gradient_checkpointing": settings.gradient_checkpointing,
            "optimizer": settings.optimizer,
            "evaluations": settings.evaluations,
        }
    )
