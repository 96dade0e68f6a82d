"""What an engine computes: one answer, token by token, and how each token is chosen.

Greedy choice and drawing look at one row of logits at a time, and each answer draws from a
generator of its own: what an answer says does not depend on what else is in the batch. A
log-probability is the model's own, before temperature and top_p: ``log softmax(logits)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch

IMPOSSIBLE = -9999.0
"""Log-probability of a token that cannot come, as the OpenAI API tells it."""
GREEDY_BELOW = 1e-5
"""Temperatures that leave the likeliest token alone, until dividing by them is no number."""


class Chosen(NamedTuple):
    """A token that was chosen.

    Attributes:
        token: Its id.
        logprob: Natural logarithm of its probability; None unless asked for.
        top: The likeliest tokens with theirs, likeliest first; as many as were asked for.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(eq=False)
class Job:
    """One answer to write.

    Attributes:
        key: Its name, unique in the process.
        prompt_ids: What is continued.
        max_tokens: Most tokens written.
        take: Given each token as it is chosen; tells whether the answer has ended with it.
        fail: Told why it cannot go on.
        temperature: Below `GREEDY_BELOW` the likeliest token is taken, from there on it is drawn.
        top_p: Drawn among the likeliest tokens that have this probability together.
        seed: Of the generator it draws from; None for one of chance.
        top_logprobs: How many likeliest tokens are told per token; None for no log-probabilities.
        ended: Nothing more is taken.
    """

    key: str
    prompt_ids: Sequence[int]
    max_tokens: int
    take: Callable[[Chosen], bool]
    fail: Callable[[str], None]
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    top_logprobs: int | None = None
    ended: bool = False
    taken: int = 0
    _generator: torch.Generator | None = field(default=None, repr=False)

    def choose(self, logits: torch.Tensor, likeliest: int) -> int:
        """Choose a token and take it.

        Args:
            logits: ``(vocabulary,)``, finite or ``-inf``.
            likeliest: Id of the largest.

        Returns:
            Its id.
        """
        token = likeliest if self.temperature < GREEDY_BELOW else self._draw(logits)
        chosen = Chosen(token)
        if self.top_logprobs is not None:
            logprobs = torch.log_softmax(logits.float(), dim=-1)
            # What cannot be is told as a number: JSON has no infinity.
            logprobs = logprobs.clamp(min=IMPOSSIBLE)
            values, ids = logprobs.topk(self.top_logprobs)
            top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
            chosen = Chosen(token, float(logprobs[token]), top)
        self.accept(chosen)
        return token

    def accept(self, chosen: Chosen) -> None:
        """Take a token that was chosen.

        Args:
            chosen: With what is told of it.
        """
        self.taken += 1
        self.ended = self.take(chosen) or self.taken >= self.max_tokens

    def _draw(self, logits: torch.Tensor) -> int:
        if self._generator is None:
            self._generator = torch.Generator()
            if self.seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(self.seed)
        probabilities = torch.softmax(logits.double().cpu() / self.temperature, dim=-1)
        if self.top_p < 1.0:
            sorted_, ids = probabilities.sort(descending=True, stable=True)
            # Those before which less than top_p is: the first always, and the one that passes it.
            sorted_[sorted_.cumsum(-1) - sorted_ >= self.top_p] = 0.0
            # Drawn in the vocabulary's order: two tokens of equal rank would change places.
            probabilities = torch.zeros_like(probabilities).scatter_(0, ids, sorted_)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


class Counts(NamedTuple):
    """How busy an engine is."""

    running: int
    waiting: int


class Engine(Protocol):
    """Computes answers, many at a time, in threads of its own."""

    def submit(self, job: Job) -> None:
        """Begin to compute an answer as soon as there is room."""
        ...

    def cancel(self, job: Job) -> None:
        """Compute no more of an answer; nothing happens where it has ended."""
        ...

    def counts(self) -> Counts:
        """Say how busy it is."""
        ...

    @property
    def alive(self) -> bool:
        """Whether its threads compute still; those that died have failed every answer."""
        ...

    def close(self) -> None:
        """End its threads."""
        ...


NOT_FINITE = "the model's figures are not finite; its weights hold NaN or infinity"


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
        return job.choose(logits, likeliest)
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
