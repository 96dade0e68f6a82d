"""What a server and its worker hold in memory after many requests."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from benchmarks.bench.shipped import ask_row, read_rows
from benchmarks.serve_load.asking import Told, ask_all
from benchmarks.serve_load.servers import ServerProcess

CLIENTS = 32
_MAX_TOKENS = 4
_LOOKS = 20
_PROMPTS = 400
_AIM = 1.02
"""Most that it may hold at the end over what it held after a tenth of the requests."""


def measure_growth(server: ServerProcess, requests: int) -> dict[str, Any]:
    """Ask short answers, and look at the memory twenty times.

    Args:
        server: Of the model `base`.
        requests: How many.

    Returns:
        `looks`: requests so far, and the resident bytes of server and worker.
    """
    bodies = [
        {"model": "base", "messages": _chat(row), "max_tokens": _MAX_TOKENS}
        for row in read_rows("test", _PROMPTS)
    ]
    looks, answered = [], 0
    each = max(1, requests // _LOOKS)
    while answered < requests:
        asked = [bodies[(answered + at) % len(bodies)] for at in range(each)]
        _check(asyncio.run(ask_all(server.place, "/v1/chat/completions", asked, CLIENTS)))
        answered += each
        worker = sum(int(each.memory_info().rss) for each in server.workers())
        looks.append([answered, server.resident_bytes() - worker, worker])
        print(f"{answered} of {requests} requests", file=sys.stderr, flush=True)
    return {"looks": looks, "max_tokens": _MAX_TOKENS, "clients": CLIENTS}


def _chat(row: dict[str, str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": ask_row(row)}]


def _check(told: list[Told]) -> None:
    refused = [each for each in told if each.status != 200]
    if refused:
        sys.exit(f"{len(refused)} requests were refused, the first with {refused[0].body}")


def write_growth(kept: dict[str, Any]) -> str:
    """Write the looks as Markdown, and by how much the memory has grown.

    Args:
        kept: What `measure_growth` returned.
    """
    looks = kept["looks"]
    at = sorted({0, len(looks) // 10, len(looks) // 4, len(looks) // 2, len(looks) - 1})
    lines = ["| requests | server | worker |", "|--:|--:|--:|"]
    for look in at:
        requests, server, worker = looks[look]
        lines.append(f"| {requests:,} | {server / 1e6:,.0f} MB | {worker / 1e6:,.0f} MB |")
    begun, ended = sum(looks[len(looks) // 10][1:]), sum(looks[-1][1:])
    met = "met" if ended <= _AIM * begun else "**missed**"
    grown = f"after a tenth of the requests, {ended / begun:.3f}x of it at the end"
    return "\n".join([*lines, "", f"{begun / 1e6:,.0f} MB {grown}; aim at most {_AIM}x, {met}."])
