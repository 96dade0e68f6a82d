"""How the tokens of answers are chosen from a model's figures.

Greedy choice and drawing look at one row of logits at a time, and each answer draws from a
generator of its own: what an answer says does not depend on what else is in the batch. A
log-probability is the model's own, before temperature and top_p: ``log softmax(logits)``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from retune.inference.jobs import GREEDY_BELOW, IMPOSSIBLE, Chosen, Job

NOT_FINITE = "the model's figures are not finite; its weights hold NaN or infinity"


def choose(job: Job, logits: torch.Tensor, likeliest: int) -> int:
    """Choose an answer's next token and let it take that.

    Args:
        job: The answer.
        logits: ``(vocabulary,)``, finite or ``-inf``.
        likeliest: Id of the largest.

    Returns:
        Its id.
    """
    token = likeliest if job.temperature < GREEDY_BELOW else _draw(job, logits)
    chosen = Chosen(token)
    if job.top_logprobs is not None:
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        # What cannot be is told as a number: JSON has no infinity.
        logprobs = logprobs.clamp(min=IMPOSSIBLE)
        values, ids = logprobs.topk(job.top_logprobs)
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
        chosen = Chosen(token, float(logprobs[token]), top)
    job.accept(chosen)
    return token


def _draw(job: Job, logits: torch.Tensor) -> int:
    if job.generator is None:
        job.generator = torch.Generator()
        if job.seed is None:
            job.generator.seed()
        else:
            job.generator.manual_seed(job.seed)
    probabilities = torch.softmax(logits.double().cpu() / job.temperature, dim=-1)
    if job.top_p < 1.0:
        sorted_, ids = probabilities.sort(descending=True, stable=True)
        # Those before which less than top_p is: the first always, and the one that passes it.
        sorted_[sorted_.cumsum(-1) - sorted_ >= job.top_p] = 0.0
        # Drawn in the vocabulary's order: two tokens of equal rank would change places.
        probabilities = torch.zeros_like(probabilities).scatter_(0, ids, sorted_)
    return int(torch.multinomial(probabilities, 1, generator=job.generator))


def choose_tokens(logits: torch.Tensor, jobs: Sequence[Job | None], idle: int) -> list[int]:
    """Choose the next token of each answer of a batch.

    Args:
        logits: ``(answers, vocabulary)``.
        jobs: The answers, in the order of the rows; None for one that nobody waits for.
        idle: Token for a row whose answer has ended.

    Returns:
        One token id per row.
    """
    likeliest = logits.argmax(dim=-1).tolist()
    broken = (torch.isnan(logits).any(-1) | (logits == torch.inf).any(-1)).tolist()
    found = []
    for row, job in enumerate(jobs):
        if job is None or job.ended:
            found.append(idle)
        elif broken[row]:
            job.ended = True
            job.fail(NOT_FINITE)
            found.append(idle)
        else:
            found.append(_choose(job, logits[row], likeliest[row], idle))
    return found


def _choose(job: Job, logits: torch.Tensor, likeliest: int, idle: int) -> int:
    try:
        return choose(job, logits, likeliest)
    except Exception as error:  # noqa: BLE001 - one answer fails, and the batch goes on
        job.ended = True
        job.fail(f"{type(error).__name__}: {error!s:.200}")
        return idle


def only(tokens: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """Return scores by which a library that looks for the largest takes these tokens.

    Args:
        tokens: One id per row.
        like: ``(rows, vocabulary)``.
    """
    scores = torch.full_like(like, -torch.inf)
    scores[range(len(tokens)), list(tokens)] = 0.0
    return scores
