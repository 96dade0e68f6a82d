"""Clients that ask without a pause while the alias moves and the worker is killed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any

from benchmarks.serve_load.asking import Place, ask

_PAUSE = 1.0
"""Seconds until a request that was refused is asked again."""
_LOOK = 0.02


class SteadyLoad:
    """Clients that ask `/generate` without a pause, each request until it is answered.

    Args:
        place: Of the server.
        prompts: Asked in turn.
        clients: How many ask at a time.
        max_tokens: Most tokens of an answer.

    Attributes:
        versions: Of the answers, in the order they came.
        refused: How many tries were refused, by the code of the refusal.
        lost: Tries that ended without a word of the server's.
        texts: By version and prompt, all different answers.
    """

    def __init__(
        self, place: Place, prompts: Sequence[str], clients: int, max_tokens: int = 16
    ) -> None:
        self._place, self._prompts, self._max_tokens = place, prompts, max_tokens
        self._numbers, self._over, self.clients = count(), False, clients
        self.versions: list[int] = []
        self.refused = Counter[str]()
        self.lost: list[str] = []
        self.texts: dict[tuple[int, str], set[str]] = {}

    async def run(self, script: Callable[[SteadyLoad], Awaitable[None]]) -> None:
        """Let the clients ask until a script has ended, and end what they have begun.

        Args:
            script: What is done meanwhile.

        Raises:
            AssertionError: A client ended by itself.
        """
        asking = [asyncio.create_task(self._be_client()) for _ in range(self.clients)]
        try:
            await script(self)
        finally:
            self._over = True
            await asyncio.gather(*asking)

    async def _be_client(self) -> None:
        while not self._over:
            prompt = self._prompts[next(self._numbers) % len(self._prompts)]
            while not await self._ask(prompt):
                await asyncio.sleep(_PAUSE)

    async def _ask(self, prompt: str) -> bool:
        body = {"prompt": prompt, "max_tokens": self._max_tokens}
        try:
            told = await ask(self._place, "/generate", body)
        except OSError as error:
            self.lost.append(f"{type(error).__name__}: {error}")
            return False
        if told.status != 200:
            self.refused[str(told.body["error"]["code"])] += 1
            return False
        version = int(told.body["version"])
        self.versions.append(version)
        self.texts.setdefault((version, prompt), set()).add(str(told.body["text"]))
        return True

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds."""
        while not holds():
            await asyncio.sleep(_LOOK)

    async def answer(self, more: int) -> None:
        """Wait until so many more requests were answered."""
        seen = len(self.versions)
        await self.until(lambda: len(self.versions) >= seen + more)

    def faults(self) -> list[str]:
        """Return what must not be: nothing, where none was lost but those of a killed worker.

        Those are as many as clients asked at a time at most; who asks while it is started again is
        told to come again; and one version answers a prompt in one way, whoever else asks.
        """
        known = {"worker_died", "not_ready"}
        found = [f"{times} were refused: {code}" for code, times in self.refused.items()]
        found = [each for each in found if each.rpartition(": ")[2] not in known]
        if self.refused["worker_died"] > self.clients:
            found.append(f"{self.refused['worker_died']} were lost with the worker")
        found += self.lost
        varied = [key for key, texts in self.texts.items() if len(texts) > 1]
        return found + [f"version {version} answered one prompt twice" for version, _ in varied]


async def change_under_load(
    load: SteadyLoad, move: Callable[[int], None], kill: Callable[[], None], quarter: int
) -> None:
    """Move the alias to version 2, kill the worker, and move it back; the clients ask on.

    Args:
        load: The clients, whose first answers are version 1's.
        move: Lets the alias point to a version.
        kill: Kills the process that holds the model.
        quarter: Requests that are answered before, between and after that.
    """
    await load.answer(quarter)
    await _move(load, move, 2)
    await load.answer(quarter)
    kill()
    await load.until(lambda: load.refused)
    await load.answer(quarter)
    await _move(load, move, 1)
    await load.answer(quarter)


async def _move(load: SteadyLoad, move: Callable[[int], None], version: int) -> None:
    await asyncio.to_thread(move, version)
    await load.until(lambda: load.versions[-1] == version)


def tell_changes(load: SteadyLoad, seconds: float) -> dict[str, Any]:
    """Return what came of the clients' requests, to be kept."""
    return {
        "clients": load.clients,
        "answered": len(load.versions),
        "by_version": dict(sorted(Counter(map(str, load.versions)).items())),
        "refused": dict(load.refused),
        "faults": load.faults(),
        "wall": round(seconds, 1),
    }


def write_changes(kept: dict[str, Any]) -> str:
    """Write what came of the requests as Markdown.

    Args:
        kept: What `tell_changes` returned.
    """
    refused = kept["refused"]
    versions = " + ".join(str(each) for each in kept["by_version"].values())
    rows = {
        "clients": kept["clients"],
        "requests answered (by version 1 and 2)": f"{kept['answered']:,} ({versions})",
        "told that the worker died, and asked again": refused.get("worker_died", 0),
        "tries told that it is not ready yet": refused.get("not_ready", 0),
        "lost, or answered otherwise": len(kept["faults"]),
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| requests under change | |", "|---|--:|", *lines])
