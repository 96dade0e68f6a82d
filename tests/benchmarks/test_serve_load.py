"""The load on a server: what clients are told, what counts as lost, and what the tables say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.serve_load.asking import Place, ask_all, percentile
from benchmarks.serve_load.changing import SteadyLoad, write_changes
from benchmarks.serve_load.growing import write_growth
from benchmarks.serve_load.rounds import write_table
from tests.retune.serving.stand_in import Writer, listening, make_server
from tests.retune.serving.test_request_log import MODEL

CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}


def place_of(address: str) -> Place:
    return Place("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))


def test_clients_read_whole_answers_and_streams() -> None:
    """In the order of the requests, whoever asks them; an answer of two parts comes as it did."""
    with listening(make_server(Writer(" a long answer "))) as address:
        bodies = [CHAT | {"stream": stream} for stream in (False, True, False)]
        told = asyncio.run(ask_all(place_of(address), "/v1/chat/completions", bodies, 2))
    assert [each.status for each in told] == [200] * 3
    assert [each.text for each in told] == ["a long answer"] * 3
    assert [bool(each.events) for each in told] == [False, True, False]
    assert 0 < told[1].first <= told[1].seconds


@pytest.mark.parametrize(("percent", "found"), [(50, 2), (75, 3), (76, 4), (99, 4), (100, 4)])
def test_a_percentile_is_a_figure_that_there_was(percent: float, found: int) -> None:
    """Of 4, 2, 3 and 1: half do not exceed 2."""
    assert percentile([4, 2, 3, 1], percent) == found


def load_on(worker: Writer) -> SteadyLoad:
    """Let two clients ask until four are answered, or eight tries were refused."""
    with listening(make_server(worker)) as address:
        load = SteadyLoad(place_of(address), ("p", "q"), clients=2)

        async def script(load: SteadyLoad) -> None:
            await load.until(lambda: len(load.versions) >= 4 or load.refused.total() >= 8)
            worker.state = "ready"

        asyncio.run(load.run(script))
    return load


def test_requests_are_asked_until_they_are_answered() -> None:
    """Those that come before it is ready are told so, which is no loss."""
    load = load_on(Writer("a", model=MODEL.model_copy(update={"version": 3}), state="loading"))
    assert load.refused["not_ready"] >= 8
    assert len(load.versions) >= 2 and set(load.versions) == {3}
    assert load.faults() == []


def test_what_must_not_be_is_told() -> None:
    """More than clients lost with a worker, another refusal, a broken answer, two for a prompt."""
    load = SteadyLoad(Place("127.0.0.1", 1), ("p",), clients=2)
    load.refused.update({"worker_died": 3, "engine_error": 1, "not_ready": 9})
    load.lost.append("ConnectionError: the server broke its answer off")
    load.texts[1, "p"] = {"a", "b"}
    assert load.faults() == [
        "1 were refused: engine_error",
        "3 were lost with the worker",
        "ConnectionError: the server broke its answer off",
        "version 1 answered one prompt twice",
    ]


def figures(wall: float, cpu: float) -> dict[str, Any]:
    return {
        **{"wall": wall, "cpu": cpu, "tokens": 40, "resident": 5e8},
        **{"first_p50": 0.1, "first_p99": 0.5},
    }


def test_the_table_has_ratios_taken_round_by_round() -> None:
    """10 answers in 4 s and 2 s, then in 6 s and 2 s: 2 and 3 times as fast; CPU 2 and 4 times."""
    rounds = [
        {"8": [figures(4, 2), figures(2, 1)]},
        {"8": [figures(6, 4), figures(2, 1)]},
    ]
    table = write_table({"sides": ["theirs", "ours"], "answers": 10, "rounds": rounds})
    assert (
        "| 8 | ours | 5.0 | 20 | 2.50x (2.00x to 3.00x) | 100 | 1.00x (1.00x to 1.00x) "
        "| 0.10 s / 0.50 s | 500 MB |"
    ) in table
    assert "| 8 | theirs | 2.0 | 8 | 1.00x (1.00x to 1.00x) | 300 | 3.00x" in table


@pytest.mark.parametrize(("last", "said"), [(406, "1.015x of it at the end"), (410, "**missed**")])
def test_memory_is_compared_with_that_after_a_tenth(last: int, said: str) -> None:
    """Of ten looks the second: 400 MB, of which 2 % more are allowed."""
    looks = [[at, 100e6, 300e6] for at in range(9)] + [[9, 100e6, (last - 100) * 1e6]]
    assert said in write_growth({"looks": looks})


def test_the_table_of_changes_says_how_many_were_told_and_lost() -> None:
    """Of 1,200 answers none was lost."""
    kept = {
        **{"clients": 8, "answered": 1200, "by_version": {"1": 700, "2": 500}, "faults": []},
        "refused": {"worker_died": 8, "not_ready": 40},
    }
    table = write_changes(kept)
    assert "| requests answered (by version 1 and 2) | 1,200 (700 + 500) |" in table
    assert "| told that the worker died, and asked again | 8 |" in table
    assert "| lost, or answered otherwise | 0 |" in table
