"""Stage `score_prompts`: how surprised a model is by what is asked of it now.

Formula. ``loss = sum of NLL in nats / number of tokens`` over all prompts of a side, every token of
a prompt but the first (`retune.inference.text_losses`; a prompt over the context in windows). The
rise is the loss of the requests less that of the known prompts; above 0 the model is more surprised
by what it is asked. Its null is that of `stability`: known prompts drawn twice, whole groups at a
time. A rise that many requests show may still be small, so that the losses prompt by prompt are
compared by a population stability index as well, in tenths of the known prompts; both have to be
above what chance gives.

The known prompts are those of the training rows. Where prompts carry loss, a model is less
surprised by those that it was trained on than by others of their kind, so that validation rows
stand for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retune.digests import digest_folder
from retune.errors import ScoringError
from retune.inference.loaded_models import SLOT
from retune.inference.text_losses import text_losses
from retune.inference.token_losses import RowLoss
from retune.retraining.drift_records import PromptLosses
from retune.retraining.indices import Asked, count_numbers
from retune.retraining.known_rows import KnownRow, draw_rows
from retune.retraining.requests import write_prompts
from retune.retraining.stability import chance_of_rise
from retune.retraining.stages import PromptInputs, PromptSettings
from retune.scoring.outcomes import write_outcomes
from retune.scoring.uncertainty.resampling import Floats, ratio_of_sums, sum_exactly
from retune.spine.stage import Workdir

Losses = Sequence[RowLoss | None]
_DIGITS = 4


def score_prompts(inputs: PromptInputs, settings: PromptSettings, work: Workdir) -> PromptLosses:
    """Measure how surprised a model is by requests, and by prompts that it knows.

    Args:
        inputs: Model, requests and known prompts.
        settings: The recipe's system message, most known prompts, the seed; batch size and
            devices change no figure.
        work: `rows.jsonl` with NLL and tokens per prompt goes to its artifact folder.

    Returns:
        Both losses, and what chance gives.

    Raises:
        ScoringError: The model's loss is not finite, or a side has no token to score.
    """
    loaded = SLOT.get(inputs.model, settings.devices)
    rows = draw_rows(inputs.rows, inputs.view, settings.max_rows, settings.seed)
    prompts = write_prompts(inputs.requests, loaded.tokenizer, inputs.view, settings.system)
    losses = text_losses(
        loaded.model,
        loaded.tokenizer,
        [*(row.text for row in rows), *(each.text for each in prompts)],
        batch_size=settings.batch_size,
        progress=lambda done, total: work.reporter.progress("windows", done, total),
    )
    known, served = losses[: len(rows)], losses[len(rows) :]
    write_outcomes(work.artifact, [*_describe("known", known), *_describe("request", served)])
    report = compare_losses(rows, known, served, inputs.level, settings.seed)
    left_out = inputs.requests.rows - len(prompts)
    return report.model_copy(
        update={
            "digest": digest_folder(work.artifact),
            "folder": work.artifact,
            "unscored": report.unscored + left_out,
        }
    )


def compare_losses(
    rows: Sequence[KnownRow], known: Losses, served: Losses, level: float, seed: int
) -> PromptLosses:
    """Compare the losses of requests with those of known prompts.

    Args:
        rows: The known prompts, for their groups.
        known: Their losses, one per prompt; None where there is no token to score.
        served: The losses of requests.
        level: Chance of being above what chance gives where nothing has changed.
        seed: What the null is drawn from.

    Returns:
        Both losses, and what chance gives; digest and folder are those of no artifact.

    Raises:
        ScoringError: A side has no token to score.
    """
    kept = [(row, loss) for row, loss in zip(rows, known, strict=True) if loss is not None]
    requests = [loss for loss in served if loss is not None]
    if not kept or not requests:
        raise ScoringError(
            f"score_prompts: found {len(kept)} known prompts and {len(requests)} requests of two "
            "tokens or more; expected some of both. Set retrain.triggers.drift.loss to false."
        )
    groups = [row.group for row, _ in kept]
    table, asked = _tabulate([loss for _, loss in kept]), _tabulate(requests)
    by_prompt = count_numbers(
        "prompt_losses",
        "the champion's loss prompt by prompt",
        [Asked(0, (), group=group) for group in groups],
        _by_prompt(table),
        _by_prompt(asked),
    )
    chance = chance_of_rise(table, groups, len(requests), level, seed, ratio_of_sums)
    return PromptLosses(
        digest="",
        folder=Path(),
        requests=len(requests),
        rows=len(kept),
        unscored=len(known) + len(served) - len(kept) - len(requests),
        requests_loss=float(ratio_of_sums(sum_exactly(asked))),
        rows_loss=float(ratio_of_sums(sum_exactly(table))),
        chance=chance,
        index=by_prompt.as_index(level, seed),
    )


def _tabulate(losses: Sequence[RowLoss]) -> Floats:
    return np.array([[loss.nll_sum_nats, loss.tokens] for loss in losses], dtype=np.float64)


def _by_prompt(table: Floats) -> list[float]:
    # Edges are losses themselves: what the other rows of a batch change must not move one over.
    return [round(float(loss), _DIGITS) for loss in ratio_of_sums(table)]


def _describe(kind: str, losses: Losses) -> Iterator[dict[str, Any]]:
    for number, loss in enumerate(losses, 1):
        yield {
            "row_id": f"{kind} {number}",
            "group": None,
            "nll_sum_nats": loss.nll_sum_nats if loss else None,
            "tokens": loss.tokens if loss else None,
        }
