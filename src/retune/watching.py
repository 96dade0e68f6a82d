"""Who watches a run: a terminal, a log, or nobody. The one who starts a flow says which."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Literal, Protocol

from retune.records import Record


class StageLine(Record):
    """One stage of one run, as shown to people."""

    name: str
    role: str | None = None
    """Which model was scored, for scoring stages."""
    state: Literal["ran", "reused", "waited"]
    """`waited` where another run computed it while this one waited for it."""
    reason: str
    seconds: float
    """Wall time in this run."""
    key: str

    @property
    def label(self) -> str:
        """Name and role in one."""
        return f"{self.name} ({self.role})" if self.role else self.name


class Watcher(Protocol):
    """Is told what a run does."""

    def started(self, label: str, reason: str) -> None:
        """A stage starts to run."""

    def progress(self, label: str, what: str, done: int, total: int) -> None:
        """A stage has done `done` of `total` units of `what`."""

    def finished(self, line: StageLine) -> None:
        """A stage is there, computed or reused."""

    def note(self, text: str) -> None:
        """Something that a person should know."""


class SilentWatcher:
    """Watches and says nothing."""

    def started(self, label: str, reason: str) -> None:
        """Say nothing."""

    def progress(self, label: str, what: str, done: int, total: int) -> None:
        """Say nothing."""

    def finished(self, line: StageLine) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


WATCHER: ContextVar[Watcher | None] = ContextVar("retune_watcher", default=None)
"""The watcher of flows started from this context; None lets the flow write to its own log."""
