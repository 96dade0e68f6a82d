"""How fast rows are prepared and checked, and how much memory that takes.

    python benchmarks/prepare_rows.py --rows 10000 100000

Writes made-up Portuguese instructions, then runs `retune check` on them as a user does, as whole
processes: from files, and streamed from a hub dataset's layout. The first run
prepares everything, the second finds it prepared. Peak memory is the process's own (ru_maxrss).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
_TEXT = (
    "pedido cliente prazo entrega nota fiscal relatório cidade equipe contrato região produto "
    "serviço valor reunião projeto dados servidor modelo treino semana horário consulta tabela "
    "linha coluna busca agenda escola leitura medida fábrica praia estrada ponte janela jardim"
)
WORDS = _TEXT.split()
ROWS_AT_ONCE = 10_000


def make_rows(count: int, seed: int = 7) -> Iterator[dict[str, str]]:
    """Yield rows of about 40 words, so made that near duplicates are rare."""
    draw = random.Random(seed)
    for number in range(count):
        words = [draw.choice(WORDS) for _ in range(40)]
        yield {
            "instruction": f"Explique o caso {number}: {' '.join(words[:20])}.",
            "output": f"No caso {number}, {' '.join(words[20:])}.",
        }


def write_project(folder: Path, rows: int, *, streamed: bool) -> Path:
    """Write rows and recipe, and return the recipe's file."""
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    if streamed:
        source: object = [{"hub": str(folder / "dataset"), "streaming": True}]
        _write_parquet(folder / "dataset" / "train.parquet", rows)
    else:
        source = "rows.jsonl"
        with open(folder / "rows.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in make_rows(rows))
    recipe = folder / "recipe.yaml"
    settings = {
        "name": "prepare",
        "data": {"train": source},
        "model": {"id": str(REPOSITORY / "assets" / "base_tiny")},
        "registry": {"model_name": "prepare"},
    }
    recipe.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return recipe


def _write_parquet(path: Path, rows: int) -> None:
    path.parent.mkdir()
    schema = pa.schema([("instruction", pa.string()), ("output", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        piece: list[dict[str, str]] = []
        for row in make_rows(rows):
            piece.append(row)
            if len(piece) == ROWS_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(piece, schema=schema))
                piece = []
        writer.write_table(pa.Table.from_pylist(piece, schema=schema))


def measure(recipe: Path) -> tuple[float, float]:
    """Run `retune check` once and return seconds and peak memory in MiB."""
    log = recipe.parent / "log.txt"
    started = time.monotonic()
    with open(log, "wb") as output:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "retune.cli", "check", str(recipe), "--show", "0"],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), fd) for fd in (1, 2)],
        )
        _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(log.read_text("utf-8"))
    return time.monotonic() - started, usage.ru_maxrss / 1024


def main() -> None:
    """Print one line per size and kind of source."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    sizes = parser.parse_args().rows
    print(f"{'rows':>8}  {'source':<8} {'prepare':>9} {'rows/s':>8} {'peak':>9} {'again':>8}")
    for rows in sizes:
        for streamed in (False, True):
            folder = Path(tempfile.mkdtemp(prefix="retune-benchmark-"))
            try:
                recipe = write_project(folder / "project", rows, streamed=streamed)
                seconds, peak = measure(recipe)
                again, _ = measure(recipe)
            finally:
                shutil.rmtree(folder)
            print(
                f"{rows:>8,}  {'streamed' if streamed else 'file':<8} {seconds:>7.1f} s "
                f"{rows / seconds:>8,.0f} {peak:>5,.0f} MiB {again:>6.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
