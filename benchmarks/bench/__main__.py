"""Compare retune with the plain ways to do the same, in interleaved rounds.

    make bench
    python -m benchmarks.bench                        # everything
    python -m benchmarks.bench generation 'merge*'    # some of it
    python -m benchmarks.bench --pairs 3 training
    python -m benchmarks.bench --table                # of what was measured before
    python -m benchmarks.bench --profile generation   # what the last side's time goes into

Each side has a process of its own, which prepares its work and then waits: a round has every side
work once, one after the other (A B A B ...), with the same number of threads, none of which spins.
So a busy machine slows all sides alike, and ratios are taken round by round. CPU time is user and
system time of the process and of what it started. Where the machine has other work, CPU ratios are
what counts. Figures are kept by hardware in ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.bench.catalogue import COMPARISONS
from benchmarks.bench.comparisons import Comparison, Disagreement, Round
from benchmarks.bench.processes import SideProcess
from benchmarks.bench.results import FOLDER, keep, write_table


def choose(names: list[str], among: tuple[Comparison, ...] = COMPARISONS) -> list[Comparison]:
    """Return the comparisons that names or patterns stand for, in the catalogue's order.

    Args:
        names: Such as ``merge`` or ``growth-*``; none: all.
        among: All that there are.

    Returns:
        Those that any of them matches.

    Raises:
        ValueError: One matches none.
    """
    unknown = [name for name in names if not any(fnmatch(each.name, name) for each in among)]
    if unknown:
        known = ", ".join(each.name for each in among)
        raise ValueError(f"no comparison is called {', '.join(unknown)}; there are: {known}")
    return [each for each in among if not names or any(fnmatch(each.name, name) for name in names)]


def measure(comparison: Comparison, pairs: int, folder: Path) -> Iterator[tuple[list[Round], str]]:
    """Run the sides of a comparison in turn.

    Args:
        comparison: What is compared.
        pairs: Rounds.
        folder: For what the sides write.

    Yields:
        After each round: the figures of each side in all rounds so far, and how far the sides
        agreed in the last one.

    Raises:
        Disagreement: The sides do not do the same.
    """
    rounds: list[Round] = []
    with ExitStack() as stack:
        processes = []
        for number, side in enumerate(comparison.sides):
            process = SideProcess(side, folder / f"{comparison.name}-{number}")
            stack.callback(process.close)
            process.wait()
            processes.append(process)
        for number in range(pairs):
            rounds.append([process.run() for process in processes])
            agreement = comparison.agree([side["found"] for side in rounds[-1]])
            cpu = " / ".join(f"{side['cpu']:.2f}" for side in rounds[-1])
            print(
                f"{comparison.name}: round {number + 1} of {pairs}, CPU seconds {cpu}",
                file=sys.stderr,
                flush=True,
            )
            yield rounds, agreement


def profile(comparison: Comparison, folder: Path) -> str:
    """Return which functions the last side's CPU time goes into."""
    process = SideProcess(comparison.sides[-1], folder / "profile")
    try:
        process.wait()
        return process.profile()
    finally:
        process.close()


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for, keep it, and print the table.

    Args:
        arguments: Of the command line; None: those of this process.

    Returns:
        0; 1 where two sides did not do the same: that round is not kept.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="comparisons, or patterns of them")
    parser.add_argument("--pairs", type=int, default=3, help="rounds of each (default: 3)")
    parser.add_argument("--table", action="store_true", help="only print what is kept")
    parser.add_argument("--results", type=Path, default=FOLDER, help="where figures are kept")
    parser.add_argument("--profile", action="store_true", help="only profile the last side")
    options = parser.parse_args(arguments)
    try:
        chosen = choose(options.names)
    except ValueError as error:
        parser.error(str(error))
    if options.pairs < 1:
        parser.error(f"--pairs is {options.pairs}; expected at least 1")
    if options.table:
        for path in sorted(options.results.glob("*.json")):
            print(write_table(json.loads(path.read_text("utf-8")), chosen))
        return 0
    failed = 0
    for comparison in chosen:
        with tempfile.TemporaryDirectory(prefix="retune-bench-") as folder:
            if options.profile:
                print(f"{comparison.name}, {comparison.sides[-1].name}:")
                print(profile(comparison, Path(folder)), flush=True)
                continue
            try:
                # After each round: what a stop cuts short is kept as far as it came.
                for rounds, agreement in measure(comparison, options.pairs, Path(folder)):
                    path = keep(options.results, comparison, rounds, agreement)
            except Disagreement as error:
                print(f"{comparison.name}: {error}", file=sys.stderr)
                failed = 1
                continue
        print(write_table(json.loads(path.read_text("utf-8")), [comparison]), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
