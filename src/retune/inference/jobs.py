"""What an engine computes, here or over HTTP: one answer, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
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
        taken: Tokens so far.
        generator: What it draws from, once it has drawn (`serving.choosing`).
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
    generator: torch.Generator | None = field(default=None, repr=False)

    def accept(self, chosen: Chosen) -> None:
        """Take a token that was chosen.

        Args:
            chosen: With what is told of it.
        """
        self.taken += 1
        self.ended = self.take(chosen) or self.taken >= self.max_tokens


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
