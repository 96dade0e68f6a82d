"""Perplexity and bits per byte: how surprised a model is by texts.

``perplexity = exp(sum of NLL in nats / number of scored tokens)`` over all rows, token-weighted.
``bits per byte = sum of the text's NLL in nats / ln 2 / its UTF-8 bytes``, which models with
different tokenizers can be compared by. Lower is better for both. Never the mean of batch losses,
which depends on the batch size, nor the mean of rows' perplexities.

The scored tokens are chosen in three ways, under three names (`text_losses`):

- answers (`answer_losses`, and `pair_losses` in the stage; `perplexity`, the headline): the
  answer's tokens given the prompt, the end token included; prompt and padding excluded by position.
  The end token writes no bytes, so that bits per byte leave its loss out.
- full sequences (`pair_losses`): every token but the first of prompt and answer.
- texts (`text_losses`): every token but the first of a text, or every token after a prefix token.
  A text over the context is scored in windows (`windows`), never cut.

Agrees with Hugging Face `evaluate`'s perplexity (with `add_start_token`: a prefix token) when its
per-text figures are weighted by tokens, the strided loop of the transformers documentation,
lm-evaluation-harness's rolling windows. That loop weights each window by its scored tokens less
one, ours by its scored tokens: up to 4e-4 apart on a text of 1,946 tokens.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedModel

from retune.data.chats.tokenizers import Tokenizer
from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.errors import ScoringError
from retune.inference.loaded_models import SLOT, LoadedModel
from retune.inference.text_losses import PairLosses, pair_losses, text_losses
from retune.inference.token_losses import LOSS_NOT_FINITE, RowLoss, context_limit, most_broken
from retune.modeling.tokenizer_identity import refuse_other_tokenizer
from retune.score_records import Metric, ScoreReport
from retune.scoring.outcomes import write_outcomes
from retune.scoring.stages import LossSettings, ScoreInputs
from retune.scoring.uncertainty.estimates import estimate_ratio
from retune.scoring.uncertainty.resampling import bits_of_ratio, exp_of_ratio
from retune.spine.stage import Workdir

ROW_TOO_LONG = "row_too_long"
MOST_LOGITS = 2**28
"""Numbers of one batch's logits, 1 GiB in float32; three copies of them are alive at a time."""
CACHED_LOGITS = 2**22
"""The same on a CPU: three copies of more do not stay in its cache, and then take twice as long."""
LEAST_TOKENS = 256
"""Of a CPU's batch, whatever the vocabulary: with fewer, reading the weights is what takes time."""

Row = dict[str, Any]


def score_perplexity(inputs: ScoreInputs, settings: LossSettings, work: Workdir) -> ScoreReport:
    """Score the reference answers, and prompts and answers as a whole.

    Args:
        inputs: Model and rows.
        settings: Bootstrap draws; the batch size changes no figure.
        work: `rows.jsonl` with NLL, tokens and bytes per row goes to its artifact folder.

    Returns:
        The metrics `perplexity` and `bits_per_byte` of the answers, and `full_sequence_perplexity`
        of prompts and answers. A row over the model's context is unscored (`row_too_long`), and
        so is one whose loss is no number (`loss_not_finite`), up to a tenth of all.

    Raises:
        ScoringError: The model's loss is not finite on more than a tenth of the rows, or it has
            another tokenizer.
    """
    loaded = SLOT.get(inputs.model, settings.devices)
    rows = read_rows(inputs.rows.folder / "rows.parquet")
    refuse_other_tokenizer(loaded.tokenizer, rows)
    scores = _score_rows(loaded, rows, settings.batch_size, work)
    write_outcomes(
        work.artifact,
        (_describe_loss(row, score) for row, score in zip(rows, scores, strict=True)),
    )
    scored = [score for score in scores if isinstance(score, PairLosses)]
    answers, wholes = [one.answer for one in scored], [one.whole for one in scored]
    groups = [
        row["group"] for row, one in zip(rows, scores, strict=True) if isinstance(one, PairLosses)
    ]
    resamples = settings.resamples
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics={
            "perplexity": estimate_perplexity(answers, groups=groups, resamples=resamples),
            "bits_per_byte": estimate_bits_per_byte(answers, groups=groups, resamples=resamples),
            "full_sequence_perplexity": estimate_perplexity(
                wholes, groups=groups, resamples=resamples
            ),
        },
        rows=len(rows),
        unscored=dict(Counter(score for score in scores if isinstance(score, str))),
    )


def _score_rows(
    loaded: LoadedModel, rows: Sequence[Row], batch_size: int, work: Workdir
) -> list[PairLosses | str]:
    """Score answers and whole rows in one pass; where that cannot be, say why."""
    limit = context_limit(loaded.model)
    lengths = [len(row["prompt_ids"]) + len(row["answer_ids"]) for row in rows]
    places = [at for at, length in enumerate(lengths) if limit is None or length <= limit]
    longest = max((lengths[at] for at in places), default=1)
    found = pair_losses(
        loaded.model,
        [(rows[at]["prompt_ids"], rows[at]["answer_ids"]) for at in places],
        batch_size=fit_batch(
            batch_size,
            longest=longest,
            # Every position needs the vocabulary here.
            vocabulary=int(loaded.model.config.get_text_config().vocab_size),
            on_cpu=loaded.model.device.type == "cpu",
        ),
        pad_id=int(loaded.tokenizer.pad_token_id),
        answer_bytes=[_count_bytes(loaded, rows[at]["answer_ids"]) for at in places],
        end_ids=loaded.end_ids,
        progress=lambda done, total: work.reporter.progress("rows", done, total),
        may_break=most_broken(len(places)),
    )
    scores: list[PairLosses | str] = [ROW_TOO_LONG] * len(rows)
    for at, losses in zip(places, found, strict=True):
        scores[at] = losses if math.isfinite(losses.whole.nll_sum_nats) else LOSS_NOT_FINITE
    return scores


def fit_batch(batch_size: int, *, longest: int, vocabulary: int, on_cpu: bool) -> int:
    """Return how many rows are read at once where every position is scored.

    On a CPU too large a batch is no exception that could be halved: the kernel kills the process.

    Args:
        batch_size: What the recipe allows.
        longest: Tokens of the longest row.
        vocabulary: Numbers that each position has.
        on_cpu: Whether the model is computed there.

    Returns:
        At least one row, at most what is allowed; changes no figure.
    """
    fitting = MOST_LOGITS // (longest * vocabulary)
    if on_cpu:
        quick = max(CACHED_LOGITS // (longest * vocabulary), LEAST_TOKENS // longest)
        fitting = min(fitting, quick)
    return max(1, min(batch_size, fitting))


def _count_bytes(loaded: LoadedModel, answer_ids: Sequence[int]) -> int:
    # What the tokens write: a template may trim an answer, or write thoughts before it.
    ids = list(answer_ids)[: -1 if answer_ids[-1] in loaded.end_ids else None]
    text = loaded.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return len(str(text).encode("utf-8"))


def _describe_loss(row: Row, found: PairLosses | str) -> dict[str, Any]:
    score = found if isinstance(found, PairLosses) else None
    return {
        "row_id": row["row_id"],
        "group": row["group"],
        "nll_sum_nats": score.answer.nll_sum_nats if score else None,
        "tokens": score.answer.tokens if score else None,
        "text_nll_nats": score.answer.text_nll_nats if score else None,
        "answer_bytes": score.answer.bytes if score else None,
        "full_nll_sum_nats": score.whole.nll_sum_nats if score else None,
        "full_tokens": score.whole.tokens if score else None,
        "reason": found if isinstance(found, str) else None,
    }


def estimate_perplexity(
    losses: Sequence[RowLoss], *, groups: Sequence[str | None] | None = None, resamples: int
) -> Metric:
    """Return the token-weighted perplexity of scored rows with its interval.

    Args:
        losses: One per row.
        groups: Which rows were drawn together; None for rows by themselves.
        resamples: Bootstrap draws.

    Returns:
        The figure; unknown where there is no token to average over.
    """
    return estimate_ratio(
        [loss.nll_sum_nats for loss in losses],
        [loss.tokens for loss in losses],
        statistic=exp_of_ratio,
        groups=groups,
        resamples=resamples,
    )


def estimate_bits_per_byte(
    losses: Sequence[RowLoss], *, groups: Sequence[str | None] | None = None, resamples: int
) -> Metric:
    """Return the byte-weighted bits per byte of scored rows with its interval.

    Arguments and result as those of `estimate_perplexity`; every row's bytes are known.
    """
    return estimate_ratio(
        [loss.text_nll_nats for loss in losses],
        [loss.bytes or 0 for loss in losses],
        statistic=bits_of_ratio,
        groups=groups,
        resamples=resamples,
    )


def perplexity(losses: Sequence[RowLoss]) -> float:
    """Return the token-weighted perplexity of scored rows.

    Raises:
        ScoringError: There is no token to average over.
    """
    tokens = sum(loss.tokens for loss in losses)
    if not tokens:
        raise ScoringError("perplexity of no tokens is undefined.")
    return math.exp(math.fsum(loss.nll_sum_nats for loss in losses) / tokens)


def text_perplexity(
    model: PreTrainedModel, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 16
) -> float:
    """Return the perplexity of whole texts, every token but the first of each.

    Args:
        model: In evaluation mode.
        tokenizer: The model's own.
        texts: Texts; those of fewer than two tokens cannot be scored and are left out.
        batch_size: Windows per forward pass.

    Returns:
        The token-weighted perplexity.

    Raises:
        ScoringError: No text has two tokens.
    """
    losses = text_losses(model, tokenizer, texts, batch_size=batch_size)
    return perplexity([loss for loss in losses if loss is not None])
