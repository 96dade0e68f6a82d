"""How much the holder of a key may ask for in a minute: requests, and tokens.

Each limit is a bucket that holds a minute's allowance and fills evenly: a key that was idle may
ask for a minute's worth at once. Tokens are set aside when a request comes in, as many as it may
take, and what it did not take is given back. One that may take more than a minute's allowance
waits for a full bucket, and what it takes beyond is owed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from retune.serving.messages import Ask
from retune.serving.refusals import Refusal, rate_limited

_MINUTE = 60.0
_CHARACTERS_PER_TOKEN = 4
"""Of a prompt that nobody has tokenized yet; the true number is settled with the answer."""

Counted = Literal["requests", "tokens"]


@dataclass(frozen=True)
class Rate:
    """What one key may ask for.

    Attributes:
        requests: A minute; None for as many as there is room for.
        tokens: A minute, of prompts and answers together; None likewise.
    """

    requests: int | None = None
    tokens: int | None = None

    def over(self, other: Rate) -> Rate:
        """Return this rate, with the limits of another where it has none."""
        return Rate(
            other.requests if self.requests is None else self.requests,
            other.tokens if self.tokens is None else self.tokens,
        )


class Bucket:
    """One limit of one key.

    Args:
        a_minute: The allowance, positive.
        clock: Seconds that only grow.
    """

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.a_minute, self._clock = a_minute, clock
        self._level, self._at = float(a_minute), clock()

    @property
    def level(self) -> float:
        """What may be taken now; negative where more was taken than there was."""
        now = self._clock()
        filled = self._level + (now - self._at) * self.a_minute / _MINUTE
        self._level, self._at = min(float(self.a_minute), filled), now
        return self._level

    def take(self, amount: float) -> float:
        """Take an amount where it is there; a full bucket is enough for any.

        Returns:
            0, or the seconds until it will be there, and then nothing is taken.
        """
        level = self.level
        missing = min(amount, float(self.a_minute)) - level
        if missing > 0:
            return missing * _MINUTE / self.a_minute
        self._level = level - amount
        return 0.0

    def give_back(self, amount: float) -> None:
        """Give back what was set aside and not taken; a negative amount is taken on top."""
        self._level = min(float(self.a_minute), self.level + amount)


class SetAside:
    """Tokens that a request may take, until it is known how many it took.

    Args:
        bucket: Where they are from; None where nothing bounds them.
        tokens: How many.
    """

    def __init__(self, bucket: Bucket | None, tokens: int) -> None:
        self._bucket, self._tokens = bucket, tokens

    def settle(self, used: int) -> None:
        """Give back what was not used, or take what was used beyond; once."""
        if self._bucket is not None:
            self._bucket.give_back(self._tokens - used)
            self._bucket = None


class KeyRates:
    """The rates of all keys.

    Args:
        rates: By the name of a key's holder; who is not there is not bounded.
        clock: Seconds that only grow.
    """

    def __init__(
        self, rates: Mapping[str, Rate], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._requests = {
            name: Bucket(rate.requests, clock)
            for name, rate in rates.items()
            if rate.requests is not None
        }
        self._tokens = {
            name: Bucket(rate.tokens, clock)
            for name, rate in rates.items()
            if rate.tokens is not None
        }

    def take_request(self, holder: str | None) -> Refusal | None:
        """Count a request.

        Args:
            holder: Whose key was sent; None for nobody's.

        Returns:
            What it is told where there were as many as may be; it is then not counted.
        """
        return self._take(self._requests, holder, 1, "requests")

    def set_tokens_aside(self, holder: str | None, tokens: int) -> SetAside:
        """Set aside what a request may take.

        Args:
            holder: Whose key was sent; None for nobody's.
            tokens: How many, of prompt and answers.

        Raises:
            Refusal: There are not so many yet.
        """
        refusal = self._take(self._tokens, holder, tokens, "tokens")
        if refusal is not None:
            raise refusal
        return SetAside(self._tokens.get(holder or ""), tokens)

    def headers(self, holder: str | None) -> list[tuple[bytes, bytes]]:
        """Return what is left to a key, in the headers that clients of the OpenAI API know."""
        told = []
        for what, buckets in (("requests", self._requests), ("tokens", self._tokens)):
            bucket = buckets.get(holder or "")
            if bucket is not None:
                left = max(0, math.floor(bucket.level))
                told.append((f"x-ratelimit-limit-{what}", str(bucket.a_minute)))
                told.append((f"x-ratelimit-remaining-{what}", str(left)))
        return [(name.encode(), value.encode()) for name, value in told]

    @staticmethod
    def _take(
        buckets: Mapping[str, Bucket], holder: str | None, amount: int, what: Counted
    ) -> Refusal | None:
        bucket = buckets.get(holder or "")
        seconds = 0.0 if bucket is None else bucket.take(amount)
        if bucket is None or not seconds:
            return None
        return rate_limited(what, bucket.a_minute, math.ceil(seconds))


def most_tokens(ask: Ask, default_tokens: int) -> int:
    """Return how many tokens a request may take: the most that it may write, and its prompt.

    Args:
        ask: The request.
        default_tokens: Of an answer whose request names no limit.
    """
    if ask.prompt_ids is not None:
        prompt = len(ask.prompt_ids)
    else:
        texts = [ask.prompt or "", *(turn["content"] for turn in ask.messages or ())]
        prompt = sum(map(len, texts)) // _CHARACTERS_PER_TOKEN + 1
    return prompt if ask.classify else prompt + ask.n * (ask.max_tokens or default_tokens)
