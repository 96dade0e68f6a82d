"""Answers a second of several servers, in interleaved rounds, and how long clients wait."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.bench.comparisons import Disagreement, over_rounds, same_answers
from benchmarks.bench.shipped import BASE, ask_row, read_rows
from benchmarks.serve_load.asking import Told, ask_all, percentile
from benchmarks.serve_load.servers import ServerProcess, start_retune

Row = dict[str, str]
MAX_TOKENS = 96
"""The demo's `scoring.max_new_tokens`."""
CLIENTS = (1, 8, 32)
_CHAT = "/v1/chat/completions"
_PAGES = 80
"""Of 256 tokens: room for 16 answers of the shipped base's context, as ours has."""


class Side(NamedTuple):
    """A server that takes part."""

    name: str
    model: str
    """What its clients call the model."""
    server: ServerProcess


def start_sides(stack: ExitStack, folder: Path, *, whole_memory: bool) -> list[Side]:
    """Start the servers that are compared, ours last.

    transformers' own is given float32, in which retune computes on a CPU: else a near tie would be
    decided otherwise. By itself its cache takes most of the memory that is free, and each token
    longer; so it is given one that is enough for the requests of this comparison.

    Args:
        stack: Ends them.
        folder: For their logs.
        whole_memory: Let a further one of transformers take the cache that it takes by itself.
    """
    words = ["-m", "transformers.cli.transformers", "serve", str(BASE)]
    words += ["--continuous-batching", "--dtype", "float32"]
    wanted = {"transformers, small cache": [*words, "--cb-num-blocks", str(_PAGES)]}
    wanted |= {"transformers": words} if whole_memory else {}
    sides: list[Side] = []
    for name, command in wanted.items():
        server = ServerProcess(command, folder / f"{len(sides)}.log")
        stack.callback(server.close)
        server.wait("/health")
        sides.append(Side(name, str(BASE), server))
    ours = start_retune(folder, str(BASE), "--name", "base")
    stack.callback(ours.close)
    return [*sides, Side("retune", "base", ours)]


def measure_rounds(
    sides: Sequence[Side], answers: int, rounds: int, clients: Sequence[int] = CLIENTS
) -> dict[str, Any]:
    """Let every side answer the same, one after the other, round by round.

    Args:
        sides: The servers.
        answers: How many each writes for a number of clients, whole and once more as streams.
        rounds: How often.
        clients: How many ask at a time.

    Returns:
        `rounds`: by round, of each number of clients the figures of each side; `agreement`.

    Raises:
        Disagreement: A server answers otherwise than the first, or not with 200.
    """
    # Each question is asked once: a server may keep what it has read of a prompt.
    rows = iter(read_rows("train", 2 * answers * len(clients) * rounds + 4))
    warming = list(islice(rows, 4))
    for side in sides:
        _answer(side, warming, 4, stream=True)
    taken, agreement = [], ""
    for number in range(rounds):
        by_clients = {}
        for count in clients:
            whole, streamed = list(islice(rows, answers)), list(islice(rows, answers))
            figures = [_measure(side, whole, streamed, count) for side in sides]
            agreement = same_answers([each.pop("texts") for each in figures])
            for each in figures:
                # All count alike: one of them counts the end of an answer too.
                each["tokens"] = figures[-1]["tokens"]
            by_clients[str(count)] = figures
            print(f"round {number + 1} of {rounds}, {count} clients", file=sys.stderr, flush=True)
        taken.append(by_clients)
    return {"agreement": agreement, "rounds": taken}


def _measure(side: Side, whole: list[Row], streamed: list[Row], clients: int) -> dict[str, Any]:
    cpu, wall = side.server.cpu_seconds(), time.perf_counter()
    told = _answer(side, whole, clients, stream=False)
    cpu, wall = side.server.cpu_seconds() - cpu, time.perf_counter() - wall
    events = _answer(side, streamed, clients, stream=True)
    first = [each.first for each in events]
    return {
        "cpu": round(cpu, 3),
        "wall": round(wall, 3),
        "first_p50": round(percentile(first, 50), 4),
        "first_p99": round(percentile(first, 99), 4),
        "tokens": sum(each.body["usage"]["completion_tokens"] for each in told),
        "resident": side.server.resident_bytes(),
        "texts": [each.text for each in (*told, *events)],
    }


def _answer(side: Side, rows: list[Row], clients: int, *, stream: bool) -> list[Told]:
    bodies = [
        {
            "model": side.model,
            "messages": [{"role": "user", "content": ask_row(row)}],
            "max_tokens": MAX_TOKENS,
            "stream": stream,
        }
        for row in rows
    ]
    told = asyncio.run(ask_all(side.server.place, _CHAT, bodies, clients))
    refused = [each for each in told if each.status != 200]
    if refused:
        raise Disagreement(f"{side.name} refused {len(refused)}: {refused[0].body}")
    return told


def write_table(kept: dict[str, Any]) -> str:
    """Write the rounds as Markdown: medians over the rounds, ratios taken round by round.

    Args:
        kept: What `measure_rounds` returned, with `sides` and `answers`.
    """
    lines = [
        "| clients | server | answers/s | tokens/s | as fast as the first (range) "
        "| CPU ms an answer | its CPU over ours | first text p50 / p99 | memory |",
        "|--:|---|--:|--:|---|--:|---|--:|--:|",
    ]
    for clients in kept["rounds"][0]:
        for at, name in enumerate(kept["sides"]):
            lines.append(f"| {clients} | {name} | {_row(kept, clients, at)} |")
    return "\n".join(lines)


def _row(kept: dict[str, Any], clients: str, at: int) -> str:
    rounds = [each[clients] for each in kept["rounds"]]

    def middle(name: str) -> float:
        return statistics.median(float(sides[at][name]) for sides in rounds)

    faster = over_rounds([sides[0]["wall"] / sides[at]["wall"] for sides in rounds])
    dearer = over_rounds([sides[at]["cpu"] / sides[-1]["cpu"] for sides in rounds])
    return " | ".join(
        [
            f"{kept['answers'] / middle('wall'):.1f}",
            f"{middle('tokens') / middle('wall'):.0f}",
            f"{faster.median:.2f}x ({faster.least:.2f}x to {faster.most:.2f}x)",
            f"{1000 * middle('cpu') / kept['answers']:.0f}",
            f"{dearer.median:.2f}x ({dearer.least:.2f}x to {dearer.most:.2f}x)",
            f"{middle('first_p50'):.2f} s / {middle('first_p99'):.2f} s",
            f"{middle('resident') / 1e6:,.0f} MB",
        ]
    )
