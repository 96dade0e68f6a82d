"""What each stage on rows takes, compared in memory and compared on disk.

    python benchmarks/scale_rows.py --rows 10000 100000
    python benchmarks/scale_rows.py --rows 1000000 10000000 --stages equal_hashes
    python benchmarks/scale_rows.py --rows 30000000 --stages equal_hashes --ways disk
    python benchmarks/scale_rows.py --rows 100000 500000 --stages near_index

Writes made-up Portuguese instructions, of which one in ten repeats an earlier one (letter by
letter, in capitals, or but for a word), and runs each stage in a process of its own. Peak memory is
that process's (ru_maxrss, mapped files included); the first line is a process that imports the
stages' libraries and does nothing. CPU time is that of all threads, a row's share of what is above
that. Disk is the most that lay in the scratch folder at a look. Both ways must give the same
artifacts, or it stops.

Two parts of the stages are measured alone, without the texts that take most of the time: the
search for equal hashes, and the index of near copies over signatures, of which one in ten is an
earlier one but for some places.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from retune.data.chats.encoding import format_chat
from retune.data.chats.preparing import prepare_sides
from retune.data.columns.contract import Columns
from retune.data.columns.opening import open_columns
from retune.data.parts.leaks import remove_leaks
from retune.data.parts.splitting import split_rows
from retune.data.quality.cleaning import clean_rows
from retune.data.quality.near import PERMUTATIONS
from retune.data.quality.near_indexes import open_near_index
from retune.data.rows import load_rows
from retune.data.sources import locate_rows
from retune.data.stages import (
    ChatInputs,
    ChatSettings,
    CleanInputs,
    CleanSettings,
    EncodeInputs,
    EncodeSettings,
    LeaksInputs,
    LeaksSettings,
    SplitInputs,
    SplitSettings,
)
from retune.data.tables import ROWS_AT_ONCE
from retune.model_records import BaseRef
from retune.recipe.sections.data import DataConfig
from retune.records import CleanRef, DatasetRef, EncodedRef, SplitRef
from retune.spine.stage import Workdir

_TEXT = (
    "pedido cliente prazo entrega nota fiscal relatório cidade equipe contrato região produto "
    "serviço valor reunião projeto dados servidor modelo treino semana horário consulta tabela "
    "linha coluna busca agenda escola leitura medida fábrica praia estrada ponte janela jardim"
)
WORDS = _TEXT.split()
STAGES = ("load_rows", "clean_rows", "split_rows", "remove_leaks", "format_chat", "prepare_sides")
PARTS = ("equal_hashes", "near_index")
COMPARING = ("clean_rows", "split_rows", "remove_leaks", *PARTS)
"""Stages that hold something of every row, and so have two ways."""
REPOSITORY = Path(__file__).resolve().parents[1]
_REMEMBERED = 1000
_LOOK_SECONDS = 0.2


class Taken(NamedTuple):
    """What a process took."""

    peak_mib: float
    cpu_seconds: float
    disk_mib: float


def make_rows(count: int, seed: int = 7) -> Iterator[dict[str, str]]:
    """Yield rows of about 40 words, one in ten of them a copy of one of those before it."""
    draw = random.Random(seed)
    earlier: list[list[str]] = []
    for number in range(count):
        words = [f"Explique o caso {number}:", *(draw.choice(WORDS) for _ in range(20))]
        if earlier and number % 10 == 0:
            words = list(draw.choice(earlier))
            if number % 30 == 10:
                words = [word.upper() for word in words]
            elif number % 30 == 20:
                words[-1] = "diferente"
        elif len(earlier) < _REMEMBERED:
            earlier.append(words)
        else:
            earlier[number % _REMEMBERED] = words
        said = " ".join(draw.choice(WORDS) for _ in range(20))
        yield {"instruction": " ".join(words), "output": f"No caso {number}, {said}."}


def run_stage(name: str, folder: Path, most: int) -> None:
    """Run one stage in this process, and leave its record beside its folders."""
    work = Workdir(folder / name / "artifact", folder / name / "scratch")
    shutil.rmtree(folder / name, ignore_errors=True)
    work.artifact.mkdir(parents=True)
    work.scratch.mkdir()
    record = _compute(name, folder, {"rows_in_memory": most, "drop_leaked": True}, work)
    (folder / f"{name}.json").write_text(record.model_dump_json(), encoding="utf-8")


def run_part(name: str, folder: Path, rows: int, most: int) -> None:
    """Run one part of the stages in this process, and leave a digest of what it found."""
    place = folder / name / "scratch"
    place.mkdir(parents=True, exist_ok=True)
    with open_columns(rows, most, place / "columns") as columns:
        find = _find_equal if name == "equal_hashes" else _find_near
        digest = find(rows, columns)
    (folder / f"{name}.json").write_text(json.dumps({"digest": digest}), encoding="utf-8")


def _find_equal(rows: int, columns: Columns) -> str:
    values = columns.zeros(rows, np.uint64)
    for block in columns.blocks(rows):
        draw = np.random.default_rng(block.start)
        values[block] = draw.integers(0, 10 * rows, block.stop - block.start)
    found = columns.first_places(values, columns.zeros(rows, np.int8))
    digest = hashlib.sha256()
    for block in columns.blocks(rows):
        digest.update(found[block].tobytes())
    return digest.hexdigest()


def _find_near(rows: int, columns: Columns) -> str:
    index, digest = open_near_index(0.8, columns, lambda done, total: None), hashlib.sha256()
    for place, bands in index.walk(_draw_signatures(rows)):
        found = index.query(bands)
        index.add(place, bands)
        if found:
            digest.update(f"{place}:{found}".encode())
        if place % ROWS_AT_ONCE == 0:
            columns.release()
    return digest.hexdigest()


def _draw_signatures(
    rows: int,
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]]:
    for start in range(0, rows, ROWS_AT_ONCE):
        draw, count = np.random.default_rng(start), min(ROWS_AT_ONCE, rows - start)
        drawn = draw.integers(0, 2**32, (count, PERMUTATIONS), np.uint32)
        copied = np.arange(9, count, 10)
        kept = draw.random((len(copied), PERMUTATIONS)) < 0.9
        drawn[copied] = np.where(kept, drawn[copied - 9], drawn[copied])
        yield np.arange(start, start + count), drawn


def _compute(name: str, folder: Path, quality: dict[str, Any], work: Workdir) -> Any:
    sys.path.insert(0, str(REPOSITORY))
    from tests.making import load_inputs, settings_of

    def read(kind: Any, stage: str) -> Any:
        return kind.model_validate_json((folder / f"{stage}.json").read_bytes())

    if name == "load_rows":
        data = DataConfig.model_validate_json(json.dumps({"train": str(folder / "rows.jsonl")}))
        found = locate_rows(data.train[0], data, lambda path: path, "data.train.0")
        return load_rows(load_inputs(found), work)
    rows = read(DatasetRef, "load_rows")
    if name == "clean_rows":
        inputs = CleanInputs(
            rows=(rows,), weights=(None,), held_out=(False,), names=(("rows.jsonl",),)
        )
        return clean_rows(inputs, settings_of(CleanSettings, quality=quality), work)
    base = BaseRef(
        digest="b",
        folder=REPOSITORY / "assets" / "base_tiny",
        model_id="tiny",
        revision=None,
        tokenizer_digest="t",
    )
    if name == "format_chat":
        encoded = EncodeInputs(rows=rows, databases=None, base=base, template=None)
        return format_chat(encoded, settings_of(EncodeSettings, prompt={}), work)
    clean = read(CleanRef, "clean_rows")
    if name == "split_rows":
        settings = settings_of(SplitSettings, quality=quality, split={})
        return split_rows(SplitInputs(rows=clean), settings, work)
    if name == "remove_leaks":
        split = read(SplitRef, "split_rows")
        leaks = LeaksInputs(split=split, clean=clean, rows=(rows,), databases=None)
        return remove_leaks(leaks, settings_of(LeaksSettings, quality=quality), work)
    chats = ChatInputs(
        split=read(SplitRef, "remove_leaks"),
        rows=(rows,),
        chats=(read(EncodedRef, "format_chat"),),
        databases=None,
        base=base,
    )
    return prepare_sides(chats, settings_of(ChatSettings, prompt={}), work)


def measure(name: str, folder: Path, most: int, rows: int = 0) -> Taken:
    """Run one stage, or none, in a process of its own."""
    asked = ["--stage", name, "--folder", str(folder), "--rows-in-memory", str(most)]
    asked += ["--rows", str(rows)]
    log = folder / "log.txt"
    with open(log, "wb") as output:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, __file__, *asked],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), fd) for fd in (1, 2)],
        )
    ended = threading.Event()
    disk = [0.0]
    watching = threading.Thread(target=_watch, args=(pid, folder / name / "scratch", ended, disk))
    watching.start()
    _, status, usage = os.wait4(pid, 0)
    ended.set()
    watching.join()
    if status:
        raise SystemExit(log.read_text("utf-8"))
    return Taken(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime, disk[0])


def _watch(pid: int, scratch: Path, ended: threading.Event, most: list[float]) -> None:
    """Add up the files of the scratch folder and those mapped from it, which have no name."""
    while not ended.wait(_LOOK_SECONDS):
        try:
            maps = Path(f"/proc/{pid}/maps").read_text("utf-8").splitlines()
            files = [path for path in scratch.rglob("*") if path.is_file()]
            taken = sum(path.stat().st_size for path in files)
        except OSError:  # The process ended, or a file went, between two looks.
            continue
        for line in maps:
            if str(scratch) in line and line.endswith("(deleted)"):
                begin, end = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
                taken += end - begin
        most[0] = max(most[0], taken / 2**20)


def main() -> None:
    """Print one line per stage, number of rows and way."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--stages", nargs="+", choices=(*STAGES, *PARTS), default=STAGES)
    parser.add_argument("--ways", nargs="+", choices=("memory", "disk"), default=("memory", "disk"))
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rows-in-memory", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stage:
        if asked.stage in PARTS:
            run_part(asked.stage, asked.folder, asked.rows[0], asked.rows_in_memory)
        elif asked.stage != "none":
            run_stage(asked.stage, asked.folder, asked.rows_in_memory)
        return
    print(
        f"{'rows':>9}  {'stage':<14} {'way':<7} {'peak MiB':>9} {'CPU ms/row':>11} {'disk MiB':>9}"
    )
    for rows in asked.rows:
        folder = Path(tempfile.mkdtemp(prefix="retune-benchmark-"))
        try:
            _measure_all(folder, rows, asked.stages, asked.ways)
        finally:
            shutil.rmtree(folder)


def _measure_all(folder: Path, rows: int, stages: list[str], ways: list[str]) -> None:
    if "load_rows" in stages:
        with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in make_rows(rows))
    nothing = measure("none", folder, 0)
    print(f"{rows:>9,}  {'(imports)':<14} {'':<7} {nothing.peak_mib:>9,.0f}", flush=True)
    for name in stages:
        digests = set()
        for way in ways if name in COMPARING else [""]:
            taken = measure(name, folder, rows if way == "memory" else 0, rows)
            each = 1000 * max(0.0, taken.cpu_seconds - nothing.cpu_seconds) / rows
            print(
                f"{rows:>9,}  {name:<14} {way:<7} {taken.peak_mib:>9,.0f} {each:>11.3f} "
                f"{taken.disk_mib:>9,.0f}",
                flush=True,
            )
            digests.add(json.loads((folder / f"{name}.json").read_bytes())["digest"])
        if len(digests) > 1:
            raise SystemExit(f"{name}: the two ways gave other rows.")


if __name__ == "__main__":
    main()
