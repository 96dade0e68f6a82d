"""Thousands of files as no program should write them: rows and reasons come out, nothing else."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retune.data.reading.files import RawRow, read_files

FILES = 9_000
LIMIT = 400
ENDINGS = ("jsonl", "ndjson", "json", "csv", "tsv", "jsonl.gz", "json.gz", "csv.gz", "tsv.gz")
ENCODINGS = (None, None, None, "utf-8", "cp1252", "utf-16", "utf-16-le", "gb18030", "utf-7")
SCRAPS = (
    b"\0", b"\xff", b"\xfe", b"\xef\xbb\xbf", b'"', b"'", b"\\", b"\\u", b"\\ud800", b"[", b"]",
    b"{", b"}", b",", b";", b"\t", b"|", b"\r", b"\n", b"\r\n", b":", b"NaN", b"1e999",
    b"9" * 5000, b"[" * 2000, b'{"a":' * 500, b"x" * 900, b"\xc3", b"\xed\xa0\x80", b"\x1f\x8b",
    b"sep=;", b"-Infinity", b"null", b"true", b"\x1a", b"\xe2\x80\xa8", b'{"a": 1, "a": 2}',
    b"PAR1", b"#", b"//", b"",
)  # fmt: skip
"""What is put in, cut out for, or written over a part of a good file."""


def a_row(chance: random.Random) -> dict[str, Any]:
    texts = ("x", "São", 'say "so"', "a,b;c|d\te", "line\nbreak", "", "日本", "\ud800", "=1+1")
    values: tuple[Callable[[], Any], ...] = (
        lambda: chance.choice(texts),
        lambda: chance.choice((0, -1, 10**400, 1.5, None, True)),
        lambda: [{"role": "user", "content": chance.choice(texts)}],
        lambda: {"b": [chance.choice(texts)]},
    )
    return {name: chance.choice(values)() for name in chance.sample("abcde", 3)}


def a_text(chance: random.Random, ending: str) -> bytes:
    """Write rows in one of the shapes of an ending, or of another one."""
    rows = [a_row(chance) for _ in range(chance.randint(0, 5))]
    if chance.random() < 0.1:
        ending = chance.choice(ENDINGS)
    if ending.startswith(("csv", "tsv")):
        sign = "\t" if ending.startswith("tsv") else chance.choice(",;|\t")
        lines = [sign.join(str(value) for value in row.values()) for row in rows]
        return "\n".join(["q" + sign + "a" + sign + "b", *lines]).encode("utf-8", "surrogatepass")
    shape = chance.choice(("lines", "array", "pretty", "values", "object"))
    indent = chance.choice((None, 0, 2))
    if shape == "lines":
        text = "\n".join(map(json.dumps, rows))
    elif shape == "values":
        text = "\n".join(json.dumps(row, indent=2) for row in rows)
    else:
        text = json.dumps({"data": rows} if shape == "object" else rows, indent=indent)
    return text.encode("utf-8", "surrogatepass")


def spoiled(chance: random.Random, content: bytes) -> bytes:
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        place = chance.randint(0, len(content))
        width = chance.choice((0, 0, 1, 3, 40))
        content = content[:place] + chance.choice(SCRAPS) + content[place + width :]
    if chance.random() < 0.15:
        text = content.decode("utf-8", "replace")
        content = text.encode(chance.choice(("utf-16", "utf-16-be", "cp1252", "utf-32")), "replace")
    return content


def check(found: list[RawRow], about: object) -> None:
    """See that each row is a value or a reason that can be written down."""
    before = 0
    for row in found:
        assert (row.value is None) == bool(row.reason), about
        assert row.value is None or isinstance(row.value, dict), about
        assert row.line >= before, about
        assert row.reason.isprintable() or "\n" in row.reason, about
        row.reason.encode("utf-8")
        before = row.line


def test_nothing_but_rows_and_reasons_comes_out(tmp_path: Path) -> None:
    """9,000 contents, of a seed; rows are numbered upwards, and no exception passes."""
    chance = random.Random(20260101)
    good = 0
    for number in range(FILES):
        ending = chance.choice(ENDINGS)
        content = spoiled(chance, a_text(chance, ending))
        if ending.endswith("gz"):
            packed = gzip.compress(content, 1, mtime=0)
            content = spoiled(chance, packed) if chance.random() < 0.3 else packed
        path = tmp_path / f"a.{ending}"
        path.write_bytes(content)
        encoding = chance.choice(ENCODINGS)
        found = list(read_files([path], LIMIT, encoding))
        check(found, (number, ending, encoding, content))
        good += any(row.value is not None for row in found)
    # A reader that gives up everything would pass all the above.
    assert good > FILES // 4


def test_damaged_parquet_gives_rows_and_reasons(tmp_path: Path) -> None:
    """200 files with bytes changed anywhere but in their last ones, which pyarrow checks alone."""
    chance = random.Random(7)
    buffer = io.BytesIO()
    table = pa.table({"a": [str(n) * 9 for n in range(300)], "b": [[{"c": n}] for n in range(300)]})
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    whole = buffer.getvalue()
    path = tmp_path / "a.parquet"
    for number in range(200):
        content = bytearray(whole)
        at = chance.randrange(4, len(whole) - 8)
        content[at : at + 4] = chance.randbytes(4)
        path.write_bytes(content[: chance.choice((None, None, at))])
        check(list(read_files([path], LIMIT)), number)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "csv", "tsv"])
def test_no_row_behind_a_broken_line_is_lost(tmp_path: Path, ending: str) -> None:
    """400 files of ten lines, one of them spoiled without a line's end: nine rows stay.

    In tables no scrap is a quote, which may open a text over lines, and the header stays.
    """
    chance = random.Random(99)
    table = ending in ("csv", "tsv")
    scraps = [each for each in SCRAPS if not {*b"\r\n"} & {*each} and not (table and b'"' in each)]
    sign = b"\t" if ending == "tsv" else b","
    path = tmp_path / f"a.{ending}"
    for number in range(400):
        rows = [b'{"a": "%d"}' % n for n in range(10)]
        if table:
            rows = [sign.join((b"%d" % n, b"x")) for n in range(10)]
        broken = chance.randrange(10)
        scrap = chance.choice(scraps)
        place = chance.randrange(len(rows[broken]))
        rows[broken] = rows[broken][:place] + scrap + rows[broken][place + 1 :]
        content = b"\n".join([sign.join((b"n", b"a")), *rows] if table else rows)
        path.write_bytes(gzip.compress(content, 1, mtime=0) if ending.endswith("gz") else content)
        found = [row.value for row in read_files([path], 100_000) if row.value is not None]
        key = "n" if table else "a"
        kept = {row.get(key) for row in found}
        missing = {str(n) for n in range(10) if n != broken} - kept
        assert not missing, (number, scrap, content, missing)
