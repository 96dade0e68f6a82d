"""What `retune serve` answers under load, on the shipped base and on loopback.

    python -m benchmarks.serve_load speed               # beside `transformers serve`, in rounds
    python -m benchmarks.serve_load memory --requests 20000
    python -m benchmarks.serve_load changes --requests 2000
    python -m benchmarks.serve_load table               # what was measured before

`speed` lets 1, 8 and 32 clients ask every server the same, one server after the other, and compares
only servers that answer alike: greedily, with the same most tokens, the same texts. What
`transformers serve` passes over (`stop`, `n`, log-probabilities) is not asked for. CPU time is that
of a server with its worker, without the clients. `memory` looks at what both hold. `changes` moves
the alias twice and kills the worker once while clients ask on, and fails where a request is lost.
Figures are kept by hardware in ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.bench.comparisons import Disagreement
from benchmarks.bench.results import FOLDER, keep_under
from benchmarks.bench.shipped import BASE, ask_row, read_rows
from benchmarks.serve_load.changing import (
    SteadyLoad,
    change_under_load,
    tell_changes,
    write_changes,
)
from benchmarks.serve_load.growing import measure_growth, write_growth
from benchmarks.serve_load.rounds import measure_rounds, start_sides, write_table
from benchmarks.serve_load.servers import start_retune

SECTION = "serving"
_WRITE = {"speed": write_table, "memory": write_growth, "changes": write_changes}
_PROMPTS = 64


def measure_speed(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Compare the servers."""
    with ExitStack() as stack:
        sides = start_sides(stack, folder, whole_memory=options.whole_memory)
        found = measure_rounds(sides, options.answers, options.rounds)
    return {"sides": [side.name for side in sides], "answers": options.answers, **found}


def measure_memory(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Look at the memory over many requests."""
    server = start_retune(folder, str(BASE), "--name", "base")
    try:
        return measure_growth(server, options.requests)
    finally:
        server.close()


def measure_changes(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Move the alias twice and kill the worker once under load."""
    # It registers models, by libraries that the other two do without.
    from benchmarks.serve_load.versions import NAME, TwoVersions

    store = folder / "store"
    store.mkdir()
    versions = TwoVersions(store)
    server = start_retune(
        *(folder, f"models:/{NAME}@champion"), *("--store", str(store), "--poll", "1")
    )
    prompts = [ask_row(row) for row in read_rows("test", _PROMPTS)]
    load = SteadyLoad(server.place, prompts, options.clients)
    begun = time.perf_counter()

    def kill() -> None:
        server.workers()[-1].kill()

    async def change(load: SteadyLoad) -> None:
        quarter = options.requests // 4
        await change_under_load(load, versions.move, kill, quarter)

    try:
        asyncio.run(load.run(change))
        return tell_changes(load, time.perf_counter() - begun)
    finally:
        server.close()


_MEASURE = {"speed": measure_speed, "memory": measure_memory, "changes": measure_changes}


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for, keep it, and print the table.

    Args:
        arguments: Of the command line; None: those of this process.

    Returns:
        0; 1 where servers answer otherwise, or a request was lost.
    """
    options = _parse(arguments)
    if options.what == "table":
        for path in sorted(options.results.glob("*.json")):
            print(_tables(json.loads(path.read_text("utf-8"))))
        return 0
    with tempfile.TemporaryDirectory(prefix="retune-load-") as folder:
        try:
            told = _MEASURE[options.what](Path(folder), options)
        except Disagreement as error:
            print(error, file=sys.stderr)
            return 1
    keep_under(options.results, SECTION, options.what, told)
    print(_WRITE[options.what](told), flush=True)
    for fault in told.get("faults", ()):
        print(fault, file=sys.stderr)
    return 1 if told.get("faults") else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serve_load",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=[*_MEASURE, "table"])
    parser.add_argument("--answers", type=int, default=64, help="of a number of clients, in speed")
    parser.add_argument("--rounds", type=int, default=3, help="of speed (default: 3)")
    parser.add_argument("--requests", type=int, default=2000, help="of memory and changes")
    parser.add_argument("--clients", type=int, default=32, help="that ask in changes")
    parser.add_argument(
        "--whole-memory",
        action="store_true",
        help="let transformers serve, once more, take the cache that it takes by itself",
    )
    parser.add_argument("--results", type=Path, default=FOLDER, help="where figures are kept")
    options = parser.parse_args(arguments)
    for name in ("answers", "rounds", "requests", "clients"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; expected at least 1")
    return options


def _tables(kept: dict[str, Any]) -> str:
    hardware, found = kept["hardware"], kept.get(SECTION, {})
    lines = [f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB."]
    for what, write in _WRITE.items():
        if what in found:
            told = found[what]
            lines += ["", f"`{what}`, {told['day']}, load {told['load']}:", "", write(told)]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
