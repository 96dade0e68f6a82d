"""Who watches a flow's run: Prefect's log, and with it a terminal where there is one."""

from __future__ import annotations

from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from retune.visible_text import visible
from retune.watching import WATCHER, SilentWatcher, StageLine, Watcher


class LogWatcher:
    """Writes what a run does to Prefect's log, where no terminal watches."""

    def __init__(self) -> None:
        self._log = get_run_logger()

    def started(self, label: str, reason: str) -> None:
        """Log a stage's start."""
        self._log.info("%s runs: %s", visible(label), visible(reason))

    def progress(self, label: str, what: str, done: int, total: int) -> None:
        """Say nothing: Prefect shows progress as an artifact."""

    def finished(self, line: StageLine) -> None:
        """Log a stage's end."""
        label, reason = visible(line.label), visible(line.reason)
        self._log.info("%s %s in %.1f s: %s", label, line.state, line.seconds, reason)

    def note(self, text: str) -> None:
        """Log a note."""
        self._log.info(visible(text))


class BothWatchers:
    """Tells two watchers.

    Args:
        first: Told first.
        second: Told second.
    """

    def __init__(self, first: Watcher, second: Watcher) -> None:
        self._both = (first, second)

    def started(self, label: str, reason: str) -> None:
        """Tell both of a stage's start."""
        for watcher in self._both:
            watcher.started(label, reason)

    def progress(self, label: str, what: str, done: int, total: int) -> None:
        """Tell both how far a stage is."""
        for watcher in self._both:
            watcher.progress(label, what, done, total)

    def finished(self, line: StageLine) -> None:
        """Tell both of a stage's end."""
        for watcher in self._both:
            watcher.finished(line)

    def note(self, text: str) -> None:
        """Tell both something that a person should know."""
        for watcher in self._both:
            watcher.note(text)


def current_watcher() -> Watcher:
    """Return Prefect's log inside a flow, and with it who watches from outside, if anyone."""
    watcher = WATCHER.get()
    if FlowRunContext.get() is None:
        return watcher or SilentWatcher()
    return BothWatchers(LogWatcher(), watcher) if watcher else LogWatcher()
