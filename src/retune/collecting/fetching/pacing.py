"""How long to wait: between tries of a page, and between requests to a host."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

Sleep = Callable[[float], Awaitable[None]]

_FIRST_WAIT_SECONDS = 1.0


def backoff_seconds(attempt: int, chance: float) -> float:
    """Return the wait after a failed attempt: doubled each time, between half and all of it.

    Args:
        attempt: The attempt that failed, from 1.
        chance: A number in [0, 1), so that pages that failed together do not return together.

    Returns:
        Seconds.
    """
    return float(_FIRST_WAIT_SECONDS * 2 ** (attempt - 1) * (0.5 + chance / 2))


class HostPace:
    """Spaces the requests to one host.

    Args:
        sleep: Waits; tests count instead.
    """

    def __init__(self, sleep: Sleep = asyncio.sleep) -> None:
        self._sleep = sleep
        self._next = 0.0
        self.delay_seconds = 0.0
        """From the host's robots.txt."""

    async def turn(self) -> None:
        """Wait for the next request's turn, and take it."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._next)
        self._next = start + self.delay_seconds
        if start > now:
            await self._sleep(start - now)

    def hold(self, seconds: float) -> None:
        """Let nobody ask the host before `seconds` have passed."""
        self._next = max(self._next, asyncio.get_running_loop().time() + seconds)


def draw_chance() -> float:
    """Return a number in [0, 1); jitter must differ between runs, so it has no seed."""
    return random.random()
