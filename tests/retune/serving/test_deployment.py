"""Following the alias, over processes that are stood in for: let in, refused, tried again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ArtifactError, ServiceError
from retune.serving.deployment import Deployment
from retune.serving.memory_room import Swap, find_lack
from retune.serving.messages import EngineSettings, Measured, ServedModel
from retune.serving.metrics import Metrics
from retune.serving.notices import Notice, Notices
from tests.retune.serving.test_request_log import MODEL

SETTINGS = EngineSettings(batch=2, context=64, default_tokens=8)


class Alias:
    """An alias that points to a version, or cannot be looked at."""

    follows = True

    def __init__(self) -> None:
        self.version, self.fault, self.looked = 1, None, 0
        self.missing: Exception | None = None

    def target(self) -> int:
        self.looked += 1
        if self.fault is not None:
            raise self.fault
        return self.version

    def find(self) -> ServedModel:
        if self.missing is not None:
            raise self.missing
        return MODEL.model_copy(update={"version": self.version})


class Process:
    """A process whose model comes to a state, and answers `in_flight` requests."""

    away = ""

    def __init__(self, model: ServedModel, state: str) -> None:
        self.model, self._state, self.reason = model, state, state
        self.in_flight, self.stopped = 0, False
        self.closed, self.measured = "", Measured(held=0, free=0)

    def close(self, reason: str) -> None:
        self.closed = reason

    async def measure(self) -> Measured:
        return self.measured

    async def settled(self) -> str:
        return self._state

    async def stop(self) -> None:
        self.stopped = True


class Bench:
    """A deployment of version 1 of an alias, and the states that the next versions come to."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, poll: float = 3600.0, swap: Swap = "auto"
    ) -> None:
        self.alias, self.states = Alias(), {1: "ready"}
        self.started: list[Process] = []
        self.beside: list[int] = []
        self.metrics = Metrics()

        def start(_: Deployment, model: ServedModel) -> Process:
            # How many others are held by then.
            self.beside.append(sum(not each.stopped for each in self.started))
            self.started.append(Process(model, self.states[model.version or 0]))
            return self.started[-1]

        monkeypatch.setattr(Deployment, "_start", start)
        first = MODEL.model_copy(update={"version": 1})
        source: Any = self.alias
        self.told: list[Notice] = []
        self.deployment = Deployment(
            source, first, SETTINGS, self.metrics, self.told.append, swap, poll, drain_seconds=0.0
        )

    def refusals(self) -> float:
        found = self.metrics.registry.get_sample_value(
            "retune_serving_swaps_total", {"outcome": "refused"}
        )
        return found or 0.0


def test_a_version_that_fails_its_proof_is_refused_until_the_alias_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        bench = Bench(monkeypatch)
        bench.states[2] = "unfit"
        bench.alias.version = 2
        for _ in range(3):
            await bench.deployment.look()
        assert (bench.deployment.refused, len(bench.started)) == ((2, "unfit"), 2)
        assert bench.deployment.model.version == 1
        assert bench.told == [Notice("refused", 2, "unfit")]

        bench.alias.version = 1
        await bench.deployment.look()
        assert bench.deployment.refused is None
        bench.alias.version = 2
        await bench.deployment.look()
        assert bench.told == [Notice("refused", 2, "unfit")] * 2
        bench.alias.version = 1
        await bench.deployment.look()
        bench.alias.version, bench.states[2] = 2, "ready"
        await bench.deployment.look()
        assert bench.deployment.model.version == 2
        await bench.deployment.stop()

    asyncio.run(test())


def test_a_version_that_the_engine_does_not_have_is_refused_with_that_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is looked for again: whoever runs the engine may start it with the version."""

    async def test() -> None:
        bench = Bench(monkeypatch)
        bench.alias.version, bench.states[2] = 2, "restarting"
        monkeypatch.setattr(Process, "away", "no model of the name m-2")
        await bench.deployment.look()
        reason = "no model of the name m-2; tried again in 30 s"
        assert bench.deployment.refused == (2, reason)
        await bench.deployment.stop()

    asyncio.run(test())


def test_a_version_whose_process_dies_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the next look, but once the pause of 30 s is over; who is not here is told once."""
    now = [1000.0]
    monkeypatch.setattr("retune.serving.deployment.time.monotonic", lambda: now[0])

    async def test() -> None:
        bench = Bench(monkeypatch)
        bench.alias.version, bench.states[2] = 2, "restarting"
        await bench.deployment.look()
        await bench.deployment.look()
        assert len(bench.started) == 2
        assert bench.deployment.refused is not None
        assert "died before it was ready" in bench.deployment.refused[1]

        now[0] += 31
        await bench.deployment.look()
        assert "tried again in 60 s" in bench.deployment.refused[1]
        assert bench.told == [Notice("refused", 2, "its process died before it was ready")]
        now[0] += 61
        bench.states[2] = "ready"
        await bench.deployment.look()
        assert (bench.deployment.model.version, bench.deployment.refused) == (2, None)
        await bench.deployment.stop()

    asyncio.run(test())


def test_a_version_whose_files_are_gone_is_refused_once_and_let_in_when_they_are_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        bench = Bench(monkeypatch)
        bench.alias.version, bench.states[2] = 2, "ready"
        bench.alias.missing = ArtifactError("its files are gone")
        for _ in range(3):
            await bench.deployment.look()
        assert bench.deployment.refused == (2, "its files are gone")
        assert bench.refusals() == 1.0

        bench.alias.missing = None
        await bench.deployment.look()
        assert (bench.deployment.model.version, bench.deployment.refused) == (2, None)
        await bench.deployment.stop()

    asyncio.run(test())


BOTH = Measured(held=10**9, free=1_050_000_000)
"""Just enough for another one of the same size, and a twentieth more."""


@pytest.mark.parametrize(
    ("swap", "free", "beside"),
    [
        ("auto", BOTH.free, 1),
        ("auto", BOTH.free - 1, 0),
        ("beside", 0, 1),
        ("drain", 10**12, 0),
    ],
)
def test_the_old_version_ends_first_where_the_memory_does_not_hold_both(
    monkeypatch: pytest.MonkeyPatch, swap: Swap, free: int, beside: int
) -> None:
    """By figures of the process that answers, unless it is said by the option."""

    async def test() -> None:
        bench = Bench(monkeypatch, swap=swap)
        old = bench.started[0]
        old.measured = Measured(held=BOTH.held, free=free)
        bench.alias.version, bench.states[2] = 2, "ready"
        await bench.deployment.look()
        assert bench.beside == [0, beside]
        assert (bench.deployment.model.version, bench.deployment.refused) == (2, None)
        assert bool(old.closed) != bool(beside)
        await bench.deployment.stop()

    asyncio.run(test())


@pytest.mark.parametrize("state", ["unfit", "restarting"])
def test_where_the_new_version_fails_alone_the_old_one_is_loaded_again(
    monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Nobody answers meanwhile: so the new one is not tried again until the alias moves."""
    monkeypatch.setattr(
        "retune.serving.deployment.time.monotonic", iter(range(0, 10**9, 9999)).__next__
    )

    async def test() -> None:
        bench = Bench(monkeypatch, swap="drain")
        bench.alias.version, bench.states[2] = 2, state
        for _ in range(3):
            await bench.deployment.look()
        assert [each.model.version for each in bench.started] == [1, 2, 1]
        assert [each.stopped for each in bench.started] == [True, True, False]
        assert bench.deployment.model.version == 1
        assert bench.deployment.refused is not None
        assert bench.deployment.refused[1].endswith("loaded alone, and is not tried again")
        assert len(bench.told) == 1 and bench.refusals() == 1.0
        await bench.deployment.stop()

    asyncio.run(test())


def test_what_the_old_version_was_asked_is_answered_before_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """New requests are refused with the reason, and the next version waits for the last answer."""

    async def test() -> None:
        bench = Bench(monkeypatch, swap="drain")
        bench.deployment._drain_seconds = 3600.0
        [old] = bench.started
        old.in_flight = 1
        bench.alias.version, bench.states[2] = 2, "ready"
        looking = asyncio.create_task(bench.deployment.look())
        while not old.closed:
            await asyncio.sleep(0.001)
        assert not old.stopped and len(bench.started) == 1
        old.in_flight = 0
        await looking
        assert old.stopped and bench.deployment.model.version == 2
        await bench.deployment.stop()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_larger_version_needs_as_much_more(tmp_path: Path) -> None:
    """Weights of 300 bytes in place of 200: half more, and a twentieth of all."""

    def version(name: str, size: int) -> ServedModel:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"x" * size)
        scored = MODEL.scored.model_copy(update={"weights": tmp_path / name})
        return MODEL.model_copy(update={"scored": scored})

    small, large = version("small", 200), version("large", 300)
    measured = Measured(held=2 * 10**9, free=3_000_000_000)
    assert find_lack(measured, small, large) == (
        "it needs about 3.1 GB beside the other, and 3.0 GB are free"
    )
    assert find_lack(measured, large, small) == ""


def test_a_server_that_begins_with_an_unfit_version_tells_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        monkeypatch.setattr(Process, "settled", lambda self: asyncio.sleep(0, "unfit"))
        bench = Bench(monkeypatch)
        await bench.deployment._first
        assert bench.told == [Notice("refused", 1, "ready")]
        await bench.deployment.stop()

    asyncio.run(test())


def test_notices_are_passed_on_in_turn_and_one_that_fails_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The registry is away for the second of three."""
    told: list[Notice] = []

    def tell(notice: Notice) -> None:
        if notice.version == 2:
            raise ServiceError("MLflow does not answer")
        told.append(notice)

    async def test() -> None:
        notices = Notices(tell)
        for version in (1, 2, 3):
            notices.tell(Notice("let_go", version, "why"))
        await notices.close(60)

    asyncio.run(test())
    assert [each.version for each in told] == [1, 3]
    [line] = caplog.messages
    assert "version 2 is let go could not be told: ServiceError: MLflow does not answer" in line


@pytest.mark.parametrize("fault", [OSError(28, "No space left"), ServiceError("away"), KeyError()])
def test_whatever_goes_wrong_the_alias_is_followed_on_and_it_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    async def test() -> None:
        bench = Bench(monkeypatch, poll=0.0)
        bench.alias.fault = fault
        while bench.alias.looked < 3:
            await asyncio.sleep(0.001)
        bench.alias.version, bench.states[2], bench.alias.fault = 2, "ready", None
        while bench.deployment.model.version != 2:
            await asyncio.sleep(0.001)
        await bench.deployment.stop()

    asyncio.run(asyncio.wait_for(test(), 60))
    told = [each for each in caplog.messages if "cannot be followed" in each]
    assert len(told) == 1


def test_a_process_that_was_replaced_ends_in_time_though_a_client_does_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        bench = Bench(monkeypatch)
        old = bench.started[0]
        old.in_flight = 1
        bench.alias.version, bench.states[2] = 2, "ready"
        await bench.deployment.look()
        while not old.stopped:
            await asyncio.sleep(0.001)
        await bench.deployment.stop()

    asyncio.run(asyncio.wait_for(test(), 60))
