"""A process for each side, which waits while the others work.

    python -m benchmarks.bench.processes MODULE:FUNCTION FOLDER OPTIONS

Prepares one side's work, says so, and does it once for each line that it reads, measured from
within, or profiled where the line says so: what it imports and prepares is in no figure. The sides
of a comparison so share nothing but the machine.
"""

from __future__ import annotations

import cProfile
import gc
import io
import json
import os
import pstats
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.bench.comparisons import Side, Taken
from benchmarks.bench.hardware import THREADS

Work = tuple[Callable[[], Any], Callable[[Any], Any]]
"""What is measured, and what is told of its result afterwards, unmeasured, as JSON."""
LOG = "log.txt"
_FUNCTIONS = 18
"""Lines of a profile."""
_REPOSITORY = Path(__file__).resolve().parents[2]


class SideProcess:
    """The process of one side.

    Args:
        side: What it does.
        folder: Of its own; made. What it writes to its terminal goes into a file there.
    """

    def __init__(self, side: Side, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._side, self._log = side, folder / LOG
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.bench.processes"),
                    *(side.does, str(folder), json.dumps(side.options)),
                ],
                cwd=_REPOSITORY,
                env=_environment(folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def wait(self) -> None:
        """Wait until the work is prepared."""
        self._read()

    def run(self) -> Taken:
        """Let it do the work once."""
        return self._ask("")

    def profile(self) -> str:
        """Let it do the work once more, slower; return which functions took the CPU time."""
        return str(self._ask("profile")["profile"])

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _ask(self, line: str) -> Taken:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Taken:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            end = self._log.read_text("utf-8", errors="replace")[-3000:]
            sys.exit(f"{self._side.name} ({self._side.does}) ended:\n{end}")
        return dict(json.loads(line))


def _environment(folder: Path) -> dict[str, str]:
    paths = [str(_REPOSITORY), str(_REPOSITORY / "src")]
    return {
        **os.environ,
        **THREADS,
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }


def measure(work: Work) -> Taken:
    """Do the work once.

    Args:
        work: As a side prepares it.

    Returns:
        CPU seconds of this process and of the children that it waited for, seconds of the clock,
        the highest resident bytes above those before, and what was found.
    """
    from retune.training.resource_meter import watch_memory

    do, tell = work
    gc.collect()
    with watch_memory("cpu") as memory:
        cpu, wall = _cpu_seconds(), time.perf_counter()
        result = do()
        cpu, wall = _cpu_seconds() - cpu, time.perf_counter() - wall
    return {"cpu": cpu, "wall": wall, "peak": memory.peak - memory.before, "found": tell(result)}


def profile(work: Work) -> dict[str, str]:
    """Do the work once, and say which functions took the CPU time themselves.

    Args:
        work: As a side prepares it.

    Returns:
        `profile`: a table of `cProfile`, in CPU seconds. What tensors are computed by stands there
        too; gradients are one line, `run_backward`.
    """
    profiler = cProfile.Profile(time.process_time)
    profiler.runcall(work[0])
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(_FUNCTIONS)
    return {"profile": text.getvalue()}


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Prepare, and work for each line of the input."""
    does, folder, options = sys.argv[1:]
    # What libraries print must not stand among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, function = does.partition(":")
    prepare = getattr(import_module(f"benchmarks.bench.{module}"), function)
    work: Work = prepare(Path(folder), **json.loads(options))
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        do = profile if line.strip() == "profile" else measure
        print(json.dumps(do(work)), file=answers, flush=True)


if __name__ == "__main__":
    main()
