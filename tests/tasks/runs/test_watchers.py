"""Who watches a run."""

from __future__ import annotations

import logging

import pytest
from prefect import flow

from retune.watching import WATCHER, SilentWatcher, StageLine
from tasks.runs.watchers import BothWatchers, current_watcher
from tests.tasks.conftest import Told

LINE = StageLine(name="tiny", state="waited", reason="r", seconds=1.5, key="k")


def test_two_watchers_hear_the_same() -> None:
    """In the order that things happen."""
    one, other = Told(), Told()
    both = BothWatchers(one, other)
    both.started("tiny", "first run")
    both.progress("tiny", "rows", 1, 2)
    both.finished(LINE)
    both.note("n")
    for each in (one, other):
        assert each.begun == [("tiny", "first run")] and each.moved == [("tiny", "rows", 1, 2)]
        assert each.lines == [LINE] and each.notes == ["n"]


def test_outside_of_a_flow_only_the_one_from_outside_watches(told: Told) -> None:
    """Without one, nobody does."""
    assert current_watcher() is told
    token = WATCHER.set(None)
    assert isinstance(current_watcher(), SilentWatcher)
    WATCHER.reset(token)


@pytest.mark.usefixtures("server")
def test_in_a_flow_the_log_says_what_the_terminal_shows(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """A line with its state, seconds and reason."""

    @flow(persist_result=False)
    def watched() -> None:
        current_watcher().finished(LINE)

    with caplog.at_level(logging.INFO):
        watched()
    assert told.lines == [LINE]
    assert "tiny waited in 1.5 s: r" in caplog.text
