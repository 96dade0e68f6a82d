"""The server's side of the process: whatever ends it, requests are told and it is begun again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from retune.inference.jobs import IMPOSSIBLE, Job
from retune.serving.choosing import choose
from retune.serving.messages import (
    REPORTS,
    Ask,
    Away,
    Busy,
    Cancel,
    Delta,
    EngineSettings,
    Finished,
    Load,
    Measure,
    Measured,
    Ready,
    Unfit,
)
from retune.serving.refusals import Refusal
from retune.serving.worker import work
from retune.serving.worker_process import WorkerProcess
from tests.retune.serving.test_request_log import MODEL

SETTINGS = EngineSettings(batch=2, context=64, default_tokens=8)
READY = Ready(engine="padded", context=64, renderings=0, answers=0)


def run(script: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], WorkerProcess]:
    """Let a script stand in for the worker: `say` writes a line to the server."""
    real = asyncio.create_subprocess_exec

    async def begin(*_: str, pass_fds: tuple[int], **options: Any) -> asyncio.subprocess.Process:
        say = f"import os, sys\ndef say(line): os.write({pass_fds[0]}, line.encode() + b'\\n')\n"
        return await real(sys.executable, "-c", say + script, pass_fds=pass_fds, **options)

    monkeypatch.setattr("asyncio.create_subprocess_exec", begin)
    monkeypatch.setattr("retune.serving.worker_process._FIRST_PAUSE", 0.0)
    return lambda: WorkerProcess(MODEL, SETTINGS, restarted=lambda: None)


async def ask(worker: WorkerProcess, number: str = "1") -> list[Any]:
    return [each async for each in worker.answer(Ask(id=number, prompt="x"))]


async def until(holds: Callable[[], Any]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


def within(seconds: float, test: Callable[[], Awaitable[None]]) -> None:
    """Fail a test that hangs, instead of waiting for ever."""
    asyncio.run(asyncio.wait_for(test(), seconds))  # type: ignore[arg-type]


def test_a_line_that_is_no_report_ends_the_process_and_another_is_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who waits is told at once; the text of the line, which may hold an answer, is not."""
    script = f"""
sys.stdin.readline()
say('''{READY.model_dump_json()}''')
sys.stdin.readline()
say('{{"kind": "secret"')
sys.stdin.read()
"""
    begin = run(script, monkeypatch)

    async def test() -> None:
        worker = begin()
        await worker.settled()
        first = worker.pid
        with pytest.raises(Refusal) as lost:
            await ask(worker)
        assert (lost.value.code, lost.value.retry_after) == ("worker_died", 5)
        await until(lambda: worker.state == "ready" and worker.pid != first)
        with pytest.raises(Refusal) as lost:
            await ask(worker)
        assert "secret" not in worker.reason
        assert worker.in_flight == 0
        await worker.stop()

    within(60, test)


def test_a_process_that_cannot_be_begun_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file handle is left for the first two."""
    left = [OSError(24, "Too many open files")] * 2
    begin = run(f"say('''{READY.model_dump_json()}''')\nsys.stdin.read()", monkeypatch)
    real = os.pipe

    def pipe() -> tuple[int, int]:
        if left:
            raise left.pop()
        return real()

    async def test() -> None:
        monkeypatch.setattr("retune.serving.worker_process.os.pipe", pipe)
        worker = begin()
        assert await worker.settled() == "restarting"
        assert "Too many open files" in worker.reason
        await until(lambda: worker.state == "ready")
        assert left == []
        await worker.stop()

    within(60, test)


def test_an_order_to_a_process_that_has_just_died_is_answered_with_another_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its pipe is closed before its death is known."""
    begin = run(f"say('''{READY.model_dump_json()}''')\nsys.stdin.read()", monkeypatch)

    async def test() -> None:
        worker = begin()
        await worker.settled()

        async def reset(_: object) -> None:
            raise ConnectionResetError

        monkeypatch.setattr(worker, "_send", reset)
        with pytest.raises(Refusal) as lost:
            await ask(worker)
        assert (lost.value.status, lost.value.retry_after) == (503, 5)
        await worker.stop()

    within(60, test)


def test_an_order_that_nobody_waits_for_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The script says that it is busy with 7 once it is told so."""
    delta = Delta(id="1", choice=0, text="a").model_dump_json()
    busy = Busy(running=7, waiting=0).model_dump_json()
    script = f"""
sys.stdin.readline()
say('''{READY.model_dump_json()}''')
sys.stdin.readline()
say('''{delta}''')
if sys.stdin.readline() == '{Cancel(id="1").model_dump_json()}\\n':
    say('''{busy}''')
sys.stdin.read()
"""
    begin = run(script, monkeypatch)

    async def test() -> None:
        worker = begin()
        await worker.settled()
        answer = worker.answer(Ask(id="1", prompt="x"))
        assert (await anext(answer)).kind == "delta"
        await answer.aclose()
        await until(lambda: worker.busy.running == 7)
        assert worker.in_flight == 0
        await worker.stop()

    within(60, test)


def test_a_closed_process_answers_what_it_has_and_takes_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is measured before; the script answers once what was begun is all that it is asked."""
    held = Measured(held=3, free=4).model_dump_json()
    end = Finished(
        **{"id": "1", "choice": 0, "text": "a", "reason": "stop", "prompt_tokens": 1},
        **{"tokens": 1, "first_token_seconds": None},
    ).model_dump_json()
    script = f"""
sys.stdin.readline()
say('''{READY.model_dump_json()}''')
if sys.stdin.readline() == '{Measure().model_dump_json()}\\n':
    say('''{held}''')
sys.stdin.readline()
say('''{Delta(id="1", choice=0, text="").model_dump_json()}''')
sys.stdin.readline()
say('''{end}''')
sys.stdin.read()
"""
    begin = run(script, monkeypatch)

    async def test() -> None:
        worker = begin()
        assert await worker.measure() is None
        await worker.settled()
        assert await worker.measure() == Measured(held=3, free=4)
        answer = worker.answer(Ask(id="1", prompt="x"))
        assert (await anext(answer)).kind == "delta"
        worker.close("version 2 is loaded in its place")
        with pytest.raises(Refusal, match="version 2 is loaded in its place") as refused:
            await ask(worker, "2")
        assert (refused.value.status, refused.value.retry_after) == (503, 5)
        worker._write(Cancel(id="none"))
        assert (await anext(answer)).kind == "finished"
        await worker.stop()

    within(60, test)


def test_a_model_that_cannot_be_loaded_for_any_reason_says_which(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a reason it would be begun again for ever; Ctrl-C is left to the server."""

    def fail(*_: object) -> None:
        raise KeyError("no such part")

    ignored: list[object] = []
    monkeypatch.setattr("retune.serving.worker.die_with", lambda parent: None)
    monkeypatch.setattr("retune.serving.worker.signal.signal", lambda *each: ignored.append(each))
    monkeypatch.setattr("retune.serving.worker.Answerer", fail)
    orders, told, kept = tmp_path / "orders", tmp_path / "told", os.dup(0)
    orders.write_text(Load(model=MODEL, settings=SETTINGS).model_dump_json() + "\n")
    with open(orders, "rb") as file:
        os.dup2(file.fileno(), 0)
        try:
            work(os.open(told, os.O_WRONLY | os.O_CREAT), 1)
        finally:
            os.dup2(kept, 0)
            os.close(kept)

    report = REPORTS.validate_json(told.read_text())
    assert isinstance(report, Unfit)
    assert report.reason == "KeyError: 'no such part'"
    assert ignored == [(signal.SIGINT, signal.SIG_IGN)]


def test_a_token_that_cannot_come_has_a_log_probability_that_json_can_tell() -> None:
    """Of logits 0 and -inf the second has probability 0; infinity would be read as null."""
    told: list[Any] = []
    job = Job("1", [1], 1, lambda chosen: bool(told.append(chosen)), print, top_logprobs=2)

    choose(job, torch.tensor([0.0, -torch.inf]), 0)

    assert told[0].top == ((0, 0.0), (1, IMPOSSIBLE))
    report = Busy(running=1, waiting=0)
    assert REPORTS.validate_json(report.model_dump_json()) == report
    finished = Finished(
        id="1",
        choice=0,
        text="",
        reason="stop",
        prompt_tokens=1,
        tokens=1,
        first_token_seconds=None,
        logprobs=({"token": "a", "logprob": 0.0, "top": (("b", told[0].top[1][1]),)},),  # type: ignore[arg-type]
    )
    assert REPORTS.validate_json(finished.model_dump_json()) == finished


def test_an_engine_that_is_away_is_the_reason_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At first while its process waits; later by its process, which ends with what it was asked."""
    away, gone = (Away(reason=reason).model_dump_json() for reason in ("not there", "gone"))
    script = f"""
sys.stdin.readline()
say('''{away}''')
sys.stdin.readline()
say('''{READY.model_dump_json()}''')
sys.stdin.readline()
say('''{gone}''')
sys.exit(70)
"""
    begin = run(script, monkeypatch)

    async def test() -> None:
        worker = begin()
        assert (await worker.settled(), worker.reason) == ("restarting", "not there")
        with pytest.raises(Refusal, match="not there") as refused:
            await ask(worker)
        assert (refused.value.status, refused.value.code) == (503, "not_ready")

        worker._write(Busy(running=0, waiting=0))
        await until(lambda: worker.state == "ready")
        assert (worker.reason, worker.away) == ("", "")
        with pytest.raises(Refusal, match="gone") as refused:
            await ask(worker)
        assert (refused.value.status, refused.value.code) == (503, "engine_away")
        assert refused.value.retry_after is not None
        await worker.stop()

    within(60, test)
