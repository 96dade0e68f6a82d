"""The alias moves while clients ask: no request fails, and only what is proved is let in."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from benchmarks.serve_load.asking import Place
from benchmarks.serve_load.changing import SteadyLoad
from retune.registry.versions.finding import CHAMPION, resolve_version
from retune.tracking import connect
from tests.retune.registry.test_registering import Bench
from tests.retune.serving.conftest import NAME, Served
from tests.waiting import GUARD_SECONDS, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.service]


class Asking:
    """Asks without a pause, and keeps what came of it."""

    def __init__(self, served: Served) -> None:
        self._served, self._over = served, threading.Event()
        self.answers: list[tuple[int, str]] = []
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._over.is_set():
            found = self._served.post("/generate", prompt="x", max_tokens=24)
            self.answers.append((found.status_code, str(found.json().get("version"))))

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def move(bench: Bench, version: int) -> None:
    connect(bench.uri).set_registered_model_alias("swapped", CHAMPION, str(version))


def spoil(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"] = weights["lm_head.weight"].flip(0).contiguous()
    save_file(weights, f"{path}.new", metadata={"format": "pt"})
    os.replace(f"{path}.new", path)


def test_versions_change_and_a_worker_dies_under_load_and_no_request_is_lost(
    bench: Bench, serve: Callable[..., Served]
) -> None:
    """Version 3 was changed after it was registered: 2 goes on answering, and says so.

    Eight clients ask on. Nobody is refused before the worker is killed; those that it was to answer
    are told, and asked again they are answered. A second model beside it is asked by its name.
    """
    for seed in (1, 2, 3):
        bench.register("swapped", seed, promote=seed == 1)
    spoil(resolve_version(bench.uri, "swapped", 3)[1])
    served = serve(
        *("models:/swapped@champion", f"models:/{NAME}@champion"),
        *("--store", str(bench.root), "--poll", "0.2"),
    )
    served.wait_until_ready()
    place = Place("127.0.0.1", int(served.address.rpartition(":")[2]))
    load = SteadyLoad(place, ("x", "y", "SELECT"), clients=8, max_tokens=24)

    async def change(load: SteadyLoad) -> None:
        await load.answer(60)
        await asyncio.to_thread(move, bench, 2)
        await load.until(lambda: load.versions[-1] == 2)
        await asyncio.to_thread(move, bench, 3)
        await asyncio.to_thread(
            wait_until, lambda: "refused" in served.ready(), what="a refusal", every=0.2
        )
        await load.answer(60)
        assert not load.refused
        # The one that was started last of those that live: of version 2.
        max(served.workers(), key=lambda each: each.create_time()).kill()
        await load.until(lambda: load.refused)
        await load.answer(60)

    # Three loads of a model, each of which may take what a test waits for one.
    asyncio.run(asyncio.wait_for(load.run(change), 3 * GUARD_SECONDS))

    assert load.faults() == []
    assert load.refused["worker_died"] >= 1
    assert (set(load.versions), load.versions[0], load.versions[-1]) == ({1, 2}, 1, 2)
    told = served.ready()
    assert told["refused"]["version"] == 3
    assert "is answered otherwise" in told["refused"]["reason"]
    assert told["further"] == [{"status": "ready", "model": NAME, "version": 1}]
    beside = served.post("/v1/completions", model=NAME, prompt="x", max_tokens=2).json()
    assert beside["model"] == NAME
    counters = served.get("/metrics").text
    assert 'retune_serving_swaps_total{outcome="done"} 1.0' in counters
    assert 'retune_serving_swaps_total{outcome="refused"} 1.0' in counters
    assert "retune_serving_worker_restarts_total 1.0" in counters
    wait_until(lambda: len(served.workers()) == 2, what="the end of the others", every=0.2)


def test_a_challenger_answers_its_share_and_no_request_is_lost_with_its_process(
    bench: Bench, serve: Callable[..., Served]
) -> None:
    """Half of the requests; its process is killed while they come, and all are answered."""
    bench.register("shared", 1)
    bench.register("shared", 2, promote=False)
    served = serve(
        *("models:/shared@champion", "--store", str(bench.root), "--poll", "0.2"),
        *("--canary", "50"),
    )
    served.wait_until_ready()

    def status() -> object:
        return served.ready()["challenger"]["status"]

    wait_until(lambda: status() == "ready", what="a challenger that is ready", every=0.2)
    assert [each["id"] for each in served.get("/v1/models").json()["data"]] == [
        *("shared", "shared@challenger")
    ]
    asking = Asking(served)
    try:
        wait_until(lambda: ("200", "2") in _all(asking), what="an answer of version 2")
        # The one that was started last.
        max(served.workers(), key=lambda each: each.create_time()).kill()
        wait_until(lambda: status() != "ready", what="its end", every=0.05)
        seen = len(asking.answers)
        wait_until(lambda: len(asking.answers) > seen + 3, what="answers behind it")
        wait_until(lambda: status() == "ready", what="its return", every=0.2)
    finally:
        asking.stop()

    assert {status for status, _ in _all(asking)} == {"200"}
    assert {version for _, version in _all(asking)} == {"1", "2"}


def _all(asking: Asking) -> list[tuple[str, str]]:
    return [(str(status), version) for status, version in asking.answers]
