"""A team's own metric, in a process that is killed when it hangs."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any, Self

from retune.asked_processes import AskedProcess
from retune.errors import ScoringError
from retune.records import Source
from retune.scoring.free_text.own import RowScore
from retune.scoring.free_text.own_folders import KEY
from retune.scoring.free_text.own_worker import main
from retune.scoring.free_text.shipped import Text

LOAD_SECONDS = 600.0
"""That loading a metric, and its first row, may take: many load a model with it."""
ROW_SECONDS = 120.0
"""That one row may take."""
MOST_ENDED = 5
"""Rows on which the process may be late or die; each costs its time, and another start."""
_BOOT = f"import sys; sys.path[:] = {{path!r}}; from {main.__module__} import main; main()"


class MetricProcess:
    """A metric that is asked for one row at a time; a context manager, which ends its process.

    Args:
        figure: Its name among the figures, ``own_metric.NAME`` or ``own_error.NAME``.
        source: Its folder.
        result: Which of the numbers that it returns is meant; None for the one of its own name, or
            the only one.

    Raises:
        ScoringError: It cannot be loaded, or takes too long to.
    """

    def __init__(self, figure: str, source: Source, result: str | None = None) -> None:
        self.figure, self.source, self._result = figure, source, result
        self._process = AskedProcess(
            [sys.executable, "-c", _BOOT.format(path=sys.path), str(os.getpid())],
            name=f"The process of the metric in {source.path}",
            quiet=False,
            start_seconds=LOAD_SECONDS,
        )
        self._ended, self._row_seconds = 0, LOAD_SECONDS
        self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()

    def score(self, text: Text) -> RowScore:
        """Score one row.

        Args:
            text: Answer and references.

        Returns:
            The number; none where the metric raised, returned no finite number, was late or died.

        Raises:
            ScoringError: It was late, or died, on too many rows.
        """
        if not self._process.is_running:
            self._load()
        seconds, self._row_seconds = self._row_seconds, ROW_SECONDS
        request = {"answer": text.answer, "references": list(text.references)}
        reply = self._process.exchange(request, clock_seconds=seconds)
        if reply["status"] == "ok":
            return RowScore(reply["value"], reply["reason"])
        late = reply["status"] == "timeout"
        why = f"took over {seconds:g} s" if late else f"ended its process: {reply['detail']}"
        self._ended += 1
        if self._ended >= MOST_ENDED:
            raise ScoringError(
                f"{KEY}: the metric in {self.source.path} {why}, on the last of {self._ended} "
                "rows on which it hung or died. Correct it (does it wait for a network, or for "
                "input?), or take it out."
            )
        return RowScore(None, why)

    def _load(self) -> None:
        request: dict[str, Any] = {"folder": str(self.source.path), "figure": self.figure}
        reply = self._process.exchange(
            request | {"result": self._result}, clock_seconds=LOAD_SECONDS
        )
        if reply["status"] == "failed":
            self._process.kill()
            raise ScoringError(reply["detail"])
        if reply["status"] != "ok":
            raise ScoringError(
                f"{KEY}: the metric in {self.source.path} could not be loaded within "
                f"{LOAD_SECONDS:g} s ({reply['detail']}). Correct it, or take it out."
            )
