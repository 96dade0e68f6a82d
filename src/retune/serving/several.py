"""Further models of one server: each is followed, proved and held by itself, and asked by its name.

An engine of this machine holds every model whole, in a process of its own. Adapters over one base
share it where an engine elsewhere holds them: then a process here has but tokenizer and template.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from retune.errors import ConfigError
from retune.serving.deployment import Deployment
from retune.serving.finding import ModelSource
from retune.serving.messages import ServedModel
from retune.serving.notices import Notice
from retune.serving.worker_process import WorkerProcess


class Found(NamedTuple):
    """A model to serve, and where it was looked for."""

    source: ModelSource
    model: ServedModel
    tell: Callable[[Notice], None] | None = None
    """Writes down which of its versions does not answer here, and why; None writes nothing."""


class FurtherModels:
    """The models of a server beside its first one.

    Args:
        found: The models.
        start: Begins to hold one.
    """

    def __init__(self, found: Sequence[Found], start: Callable[[Found], Deployment]) -> None:
        self._held = [(each.source, start(each)) for each in found]

    def __iter__(self) -> Iterator[WorkerProcess]:
        """Yield what answers of each now."""
        return iter([deployment.current for _, deployment in self._held])

    @property
    def names(self) -> list[str]:
        """What clients call them."""
        return [deployment.model.name for _, deployment in self._held]

    def find(self, asked: str | None) -> WorkerProcess | None:
        """Return what answers for a name; None where it is none of theirs.

        Args:
            asked: As a request has it: a name, or an address of the registry.
        """
        for source, deployment in self._held:
            if asked in (deployment.model.name, deployment.model.address, source.text):
                return deployment.current
        return None

    def tell(self) -> list[dict[str, Any]]:
        """Return the state of each for `/readyz`."""
        told = []
        for _, deployment in self._held:
            current = deployment.current
            each: dict[str, Any] = {
                "status": current.state,
                "model": current.model.name,
                "version": current.model.version,
            }
            if current.reason:
                each["reason"] = current.reason
            if deployment.refused is not None:
                version, reason = deployment.refused
                each["refused"] = {"version": version, "reason": reason}
            told.append(each)
        return told

    async def stop(self) -> None:
        """End their processes."""
        await asyncio.gather(*(deployment.stop() for _, deployment in self._held))


def refuse_equal_names(found: Sequence[Found]) -> None:
    """Refuse models that clients could not tell apart.

    Args:
        found: All of a server.

    Raises:
        ConfigError: Two have one name.
    """
    counts = Counter(each.model.name for each in found)
    twice = next((name for name, times in counts.items() if times > 1), None)
    if twice is not None:
        texts = ", ".join(each.source.text for each in found if each.model.name == twice)
        raise ConfigError(
            f"{texts}: all of them are called {twice!r}, and a request could mean any. Serve each "
            "by a server of its own, with --name."
        )
