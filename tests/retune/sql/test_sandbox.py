"""Deadlines of the worker count its own processor time; the clock only ends what hangs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from retune.sql import sandbox
from retune.sql.records import SqlLimits
from retune.sql.sandbox import SqlSandbox

DEADLINE_SECONDS = 0.2
PAUSE_SECONDS = 1.0
"""More than the deadline and its grace together."""


@pytest.fixture
def box() -> Iterator[SqlSandbox]:
    """A worker with an open database."""
    with SqlSandbox(SqlLimits(deadline_s=DEADLINE_SECONDS, grace_s=0.1)) as box:
        assert box.ask("open", deadline_s=60, context="CREATE TABLE t (a)")["status"] == "ok"
        yield box


def pause(box: SqlSandbox) -> int:
    """Have the worker wait, as the kernel does while other processes have the processor."""
    assert box._process is not None
    os.kill(box._process.pid, signal.SIGSTOP)
    return box._process.pid


def test_a_query_is_not_late_because_the_machine_is_busy(
    box: SqlSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers long after its deadline on the clock, and took next to no time of its own."""
    monkeypatch.setattr(sandbox, "_BUSY_MACHINE", 10_000)
    worker = pause(box)
    threading.Timer(PAUSE_SECONDS, os.kill, (worker, signal.SIGCONT)).start()
    assert box.ask("gold", deadline_s=DEADLINE_SECONDS, sql="SELECT 1")["status"] == "ok"
    assert box.starts == 1


def test_a_worker_that_hangs_without_taking_time_is_ended(
    box: SqlSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock; the next query has a new worker."""
    monkeypatch.setattr(sandbox, "_BUSY_MACHINE", 2)
    pause(box)
    assert box.ask("gold", deadline_s=DEADLINE_SECONDS, sql="SELECT 1")["status"] == "timeout"
    assert not box.is_running
    monkeypatch.setattr(sandbox, "_BUSY_MACHINE", 10_000)
    assert box.ask("open", deadline_s=60, context="CREATE TABLE t (a)")["status"] == "ok"
    assert box.starts == 2
