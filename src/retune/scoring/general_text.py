"""Scoring a model on texts that are not its task's: what fine-tuning made it forget shows here.

`general_text_bits_per_byte` = sum of the texts' NLL in nats / ln 2 / their UTF-8 bytes, and
`general_text_perplexity` = exp(sum of NLL / sum of tokens), as `retune.scoring.perplexity` defines
them; lower is better. Two texts of 6 and 4 nats, 5 tokens and 20 bytes in all: 10 / ln 2 / 20 =
0.72 bits per byte, perplexity exp(10 / 5) = 7.4. Only bits per byte compare models of different
tokenizers. Intervals: percentile bootstrap over texts. The change between two models is paired by
`retune.gate.pairing`, over the same texts: above zero the model has forgotten.

A plain text follows on the tokenizer's begin token where it has one; without one its first token is
not scored. A text over the context is scored in windows. A text with a prompt is scored as the
answer to it, without an end token: when to stop is no knowledge, and it writes no bytes. Excluded,
and counted: texts without a token to score (`text_too_short`), and answers that do not fit into the
context behind their prompt (`text_too_long`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from retune.data.chats.rendering import render_prompt
from retune.digests import digest_folder
from retune.inference.loaded_models import SLOT, LoadedModel
from retune.inference.text_losses import answer_losses, text_losses
from retune.inference.token_losses import RowLoss, context_limit
from retune.modeling.reference import Reference, read_references
from retune.score_records import ScoreReport
from retune.scoring.outcomes import write_outcomes
from retune.scoring.perplexity import estimate_bits_per_byte, estimate_perplexity
from retune.scoring.stages import LossSettings, TextInputs
from retune.spine.stage import Workdir

TEXT_TOO_LONG = "text_too_long"
TEXT_TOO_SHORT = "text_too_short"

Outcome = RowLoss | str
"""A text's loss, or why it has none."""


def score_general_text(inputs: TextInputs, settings: LossSettings, work: Workdir) -> ScoreReport:
    """Score how surprised a model is by general texts.

    Args:
        inputs: Model and texts.
        settings: Bootstrap draws; the batch size changes no figure.
        work: `rows.jsonl` with NLL, tokens and bytes per text goes to its artifact folder.

    Returns:
        The metrics `general_text_bits_per_byte` and `general_text_perplexity`.

    Raises:
        DataError: The file has no texts, or a line is not one.
        ScoringError: The model's loss is not finite.
    """
    references = read_references(inputs.text.path)
    loaded = SLOT.get(inputs.model, settings.devices)
    outcomes = _score_references(loaded, references, settings.batch_size, work)
    write_outcomes(work.artifact, (_describe(at, one) for at, one in enumerate(outcomes, 1)))
    scored = [one for one in outcomes if isinstance(one, RowLoss)]

    resamples = settings.resamples
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics={
            "general_text_bits_per_byte": estimate_bits_per_byte(scored, resamples=resamples),
            "general_text_perplexity": estimate_perplexity(scored, resamples=resamples),
        },
        rows=len(references),
        unscored=dict(Counter(one for one in outcomes if isinstance(one, str))),
    )


def _score_references(
    loaded: LoadedModel, references: Sequence[Reference], batch_size: int, work: Workdir
) -> list[Outcome]:
    plain = [one for one in references if one.prompt is None]
    losses = text_losses(
        loaded.model,
        loaded.tokenizer,
        [one.text for one in plain],
        batch_size=batch_size,
        prefix_id=loaded.tokenizer.bos_token_id,
        progress=lambda done, total: work.reporter.progress("windows", done, total),
    )
    texts = iter(losses)
    answers = iter(
        _score_answers(loaded, [one for one in references if one.prompt is not None], batch_size)
    )
    return [
        (next(texts) or TEXT_TOO_SHORT) if one.prompt is None else next(answers)
        for one in references
    ]


def _score_answers(
    loaded: LoadedModel, references: Sequence[Reference], batch_size: int
) -> list[Outcome]:
    if not references:
        return []
    tokenizer, limit = loaded.tokenizer, context_limit(loaded.model)
    prompts = [
        render_prompt(tokenizer, [{"role": "user", "content": str(one.prompt)}])
        for one in references
    ]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer([one.text for one in references], add_special_tokens=False)["input_ids"]
    outcomes: list[Outcome] = [TEXT_TOO_LONG if answer else TEXT_TOO_SHORT for answer in answer_ids]
    lengths = [sum(map(len, pair)) for pair in zip(prompt_ids, answer_ids, strict=True)]
    places = [
        at
        for at, length in enumerate(lengths)
        if answer_ids[at] and (limit is None or length <= limit)
    ]
    found = answer_losses(
        loaded.model,
        [(prompt_ids[at], answer_ids[at]) for at in places],
        batch_size=batch_size,
        pad_id=int(tokenizer.pad_token_id),
        answer_bytes=[len(references[at].text.encode("utf-8")) for at in places],
    )
    for at, loss in zip(places, found, strict=True):
        outcomes[at] = loss
    return outcomes


def _describe(number: int, outcome: Outcome) -> dict[str, Any]:
    loss = outcome if isinstance(outcome, RowLoss) else None
    return {
        "row_id": str(number),
        "group": None,
        "nll_sum_nats": loss.nll_sum_nats if loss else None,
        "tokens": loss.tokens if loss else None,
        "bytes": loss.bytes if loss else None,
        "reason": None if loss else outcome,
    }
