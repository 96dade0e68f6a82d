"""What a run that re-uses everything costs, and whether the size of its artifacts matters.

    python benchmarks/warm_run.py --gib 10 --pairs 5

One cold run of the shipped recipe, cut to a few rows and steps, fills a store. Then artifacts of it
grow: sparse files beside the quantized and the merged weights, entered into their manifests, so
that a run has to answer for every byte of them as for weights. Each round runs the recipe three
times, one after the other, so that a busy machine slows all alike:

    tiny          the store as the cold run left it
    large         the grown one, its digests remembered, as sealing an artifact leaves them
    large, afresh the grown one with an empty memory of digests: every byte is read through

CPU time is that of the command and of the processes that it waited for.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retune.digests import digest_file
from retune.spine.store import MANIFEST, Manifest

REPOSITORY = Path(__file__).resolve().parents[1]
RECIPE = REPOSITORY / "conf" / "recipes" / "text_to_sql_demo.yaml"
GROWN = ("quantize_model", "merge_adapter")
"""Stages whose artifacts get a further file; each an equal part of the bytes."""
CUT = (
    *("variant=quick", "training.max_steps=2", "training.evaluations=1"),
    *("split.max_test_rows=16", "scoring.max_new_tokens=8", "probes.max_new_tokens=8"),
)


@dataclass
class Place:
    """Where everything that the runs write lies."""

    folder: Path
    overrides: tuple[str, ...]
    command: str = "run"

    @property
    def store(self) -> Path:
        """The recipe's store."""
        return self.folder / "store"

    def run(self, cache: str = "cache", command: str = "") -> tuple[float, float]:
        """Run the recipe, or what is measured of it; return seconds of CPU and of the clock."""
        settings = (f"store.folder={self.store}", *CUT, *self.overrides)
        words = [sys.executable, "-m", "retune.cli", command or self.command, str(RECIPE)]
        return self.execute(
            [*words, *(word for each in settings for word in ("--set", each))], cache
        )

    def execute(self, words: Sequence[str], cache: str = "cache") -> tuple[float, float]:
        """Run any command among these folders; return seconds of CPU and of the clock."""
        environment = {
            **os.environ,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "XDG_CACHE_HOME": str(self.folder / cache),
            "OMP_WAIT_POLICY": "PASSIVE",
            "HF_HUB_OFFLINE": "1",
        }
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        wall = time.perf_counter() - started
        if done.returncode != 0:
            sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


@dataclass
class Way:
    """One kind of run, and what its rounds took."""

    name: str
    manifests: dict[Path, str]
    cache: str = "cache"
    taken: list[tuple[float, float]] = field(default_factory=list)

    def run(self, place: Place) -> None:
        """Run it once more."""
        for path, text in self.manifests.items():
            path.write_text(text, "utf-8")
        self.taken.append(place.run(self.cache.format(len(self.taken))))

    def line(self, size: int) -> str:
        """Return its line of the table: medians, and the range over the rounds."""
        cpu, wall = ([each[part] for each in self.taken] for part in (0, 1))
        return f"| {self.name} | {size / 2**20:,.0f} MiB | " + " | ".join(
            f"{statistics.median(found):.1f} s ({min(found):.1f} to {max(found):.1f})"
            for found in (cpu, wall)
        )


def stored_bytes(store: Path) -> int:
    """Return how many bytes the manifests of a store answer for."""
    return sum(
        (path.parent / name).stat().st_size
        for path in store.glob(f"*/*/{MANIFEST}")
        for name in Manifest.model_validate_json(path.read_bytes()).files
    )


def grow(path: Path, size: int) -> str:
    """Put a sparse file into an artifact; return the manifest that answers for it, too."""
    further = path.parent / "further.safetensors"
    with further.open("wb") as file:
        file.truncate(size)
    manifest = Manifest.model_validate_json(path.read_bytes())
    files = {**manifest.files, further.name: digest_file(further)}
    manifest = manifest.model_copy(update={"files": files})
    return manifest.model_copy(update={"checksum": manifest.computed_checksum()}).model_dump_json(
        indent=2
    )


def measure(place: Place, gib: float, rounds: int) -> None:
    """Fill a store, run the ways in turn, and print the table."""
    if not place.store.is_dir():
        cpu, wall = place.run(command="run")
        print(f"cold run: {cpu:.1f} s of CPU, {wall:.1f} s", flush=True)
    place.run()
    paths = [path for name in GROWN for path in place.store.glob(f"{name}/*/{MANIFEST}")]
    as_sealed = {path: path.read_text("utf-8") for path in paths}
    tiny_bytes = stored_bytes(place.store)
    os.environ["XDG_CACHE_HOME"] = str(place.folder / "cache")
    size = int(gib * 2**30 / len(paths))
    grown, large_bytes = {path: grow(path, size) for path in paths}, tiny_bytes + size * len(paths)
    ways = [
        Way("tiny", as_sealed),
        Way("large", grown),
        Way("large, afresh", grown, "empty-{}"),
    ]
    for number in range(rounds):
        for way in ways:
            way.run(place)
            for path, text in as_sealed.items():
                path.write_text(text, "utf-8")
        print(f"round {number + 1}: {[way.taken[-1] for way in ways]}", flush=True)
    print("| run | artifacts | CPU | wall |\n|---|---|---|---|")
    for way, size in zip(ways, (tiny_bytes, large_bytes, large_bytes), strict=True):
        print(way.line(size), "|")
    for part, what in enumerate(("CPU", "wall")):
        more = [
            large[part] - tiny[part]
            for tiny, large in zip(ways[0].taken, ways[1].taken, strict=True)
        ]
        print(f"large over tiny, {what}: {statistics.median(more):+.2f} s (median of the rounds)")


def main() -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=10.0, help="size of the grown artifacts")
    parser.add_argument("--pairs", type=int, default=5, help="rounds")
    parser.add_argument("--set", action="append", default=[], help="override of the recipe")
    parser.add_argument("--folder", type=Path, help="kept, and its store used again; else removed")
    parser.add_argument("--command", default="run", choices=("run", "plan", "check"))
    options = parser.parse_args()
    settings = (tuple(options.set), options.command)
    if options.folder:
        measure(Place(options.folder.absolute(), *settings), options.gib, options.pairs)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Place(Path(folder), *settings), options.gib, options.pairs)


if __name__ == "__main__":
    main()
