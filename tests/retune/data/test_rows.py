"""Loading rows: what is kept, and every complaint with its file and line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from retune.data.rows import load_rows
from retune.data.tables import read_rows
from retune.errors import DataError
from retune.records import DatasetRef, Source
from retune.requests import LoadInputs, LoadSection
from retune.stage import Workdir
from tests.making import make_workdir, section_of

Write = Callable[..., Source]
PLAIN = {"group": None, "row_id": None}


def row(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "db_id": "d1",
        "question": "Quantos?",
        "query": "SELECT 1",
        **changes,
    }


def database(name: str = "d1") -> dict[str, Any]:
    return {"db_id": name, "schema": "CREATE TABLE t (a);", "context": "CREATE TABLE t (a);"}


def load(
    work: Workdir,
    train: Source,
    test: Source | None = None,
    databases: Source | None = None,
    **columns: Any,
) -> DatasetRef:
    section = section_of(LoadSection, data={"train": "train.jsonl", "columns": columns})
    return load_rows(LoadInputs(train=train, test=test, databases=databases), section, work)


def test_rows_are_brought_to_fixed_columns(write_rows: Write, work: Workdir) -> None:
    """Whatever a recipe's columns are called, later stages read the same names."""
    train = write_rows([{"n": 7, "pergunta": "Quantos?", "sql": "SELECT 1", "fonte": "a"}])
    names = {"question": "pergunta", "answer": "sql", "group": "fonte", "row_id": "n"}
    found = load(work, train, **names)
    assert read_rows(found.folder / "rows.parquet") == [
        {
            "row_id": "7",
            "group": "a",
            "question": "Quantos?",
            "answer": "SELECT 1",
            "db_id": None,
            "fixed_test": False,
            "line": 1,
        }
    ]


def test_a_fixed_test_file_is_marked(write_rows: Write, work: Workdir) -> None:
    """Its rows are counted, and the split may move none of them."""
    found = load(work, write_rows([row(1), row(2)]), write_rows([row(3)], "test.jsonl"))
    marks = [one["fixed_test"] for one in read_rows(found.folder / "rows.parquet")]
    assert (found.rows, found.test_rows, marks) == (3, 1, [False, False, True])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"id": ', "at column 8: Expecting value"),
        (b"\xff{}", "byte 0 is not UTF-8"),
        (b"[1]", "expected a JSON object, found list"),
        (b'{"id": NaN}', "NaN is not JSON"),
        (b"[" * 100_000, "RecursionError|recursion"),
        ({"id": "r9", "db_id": "d1", "query": "q"}, "no column 'question'; the row has 'db_id'"),
        (row(9, question="  "), "'question' must be non-empty text, found '  '"),
        (row(9, question=None), "'question' must be non-empty text, found None"),
        (row(9, query=True), "'query' must be non-empty text, found True"),
        (row(9, query=["SELECT 1"]), "'query' must be non-empty text"),
        (row(9, query="a\ud800"), "'query' holds a lone surrogate"),
        (row(9, db_id="d2"), "db_id is 'd2', which data.databases does not list"),
        (row(1), "row id 'r1' stands twice, first at .*train.jsonl:1"),
        ({"\ud800": 1}, r"no column 'db_id'; the row has '\\ud800'"),
    ],
)
def test_a_bad_line_is_named(write_rows: Write, work: Workdir, line: Any, expected: str) -> None:
    """File and line number first, then what was found and what was expected."""
    train = write_rows([row(1), line])
    with pytest.raises(DataError, match=rf"(?s)^\S+train\.jsonl:2: .*({expected})") as caught:
        load(work, train, databases=write_rows([database()], "databases.jsonl"))
    str(caught.value).encode("utf-8")  # can be printed


def test_all_bad_rows_are_told_at_once(write_rows: Write, work: Workdir) -> None:
    """Ten are shown and the rest counted, of both files, broken JSON among them.

    12 bad rows in train (one of them no JSON) and 1 in test make 13: ten shown, three counted.
    """
    train = write_rows([row(0), b"no json", *[row(n, query="") for n in range(1, 12)]])
    test = write_rows([row(50, question="")], "test.jsonl")
    with pytest.raises(DataError) as caught:
        load(work, train, test)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0].rsplit(":", 1)[1] for line in lines[:-1]] == [
        str(number) for number in range(2, 12)
    ]
    assert lines[-1] == "... and 3 more bad rows"


def test_the_first_id_of_two_files_is_named(write_rows: Write, work: Workdir) -> None:
    """Two files may hold the same id on the same line; the message says which two places."""
    with pytest.raises(
        DataError, match=r"test.jsonl:1: row id 'r1' stands twice, first at .*train"
    ):
        load(work, write_rows([row(1)]), write_rows([row(1)], "test.jsonl"))


def test_two_files_of_one_name_have_their_own_row_ids(write_rows: Write, work: Workdir) -> None:
    """Without an id column a row is its side and line; `a/rows.jsonl` and `b/rows.jsonl` differ."""
    train, test = write_rows([row()], "a/rows.jsonl"), write_rows([row()], "b/rows.jsonl")
    found = load(work, train, test, **PLAIN)
    ids = [one["row_id"] for one in read_rows(found.folder / "rows.parquet")]
    assert ids == ["train:1", "test:1"]


def test_a_files_name_does_not_show(write_rows: Write, tmp_path: Any) -> None:
    """The stage key leaves the path out, so that the artifact must not depend on it."""
    digests = {
        load(make_workdir(tmp_path / name), write_rows([row()], f"{name}.jsonl"), **PLAIN).digest
        for name in ("one", "two")
    }
    assert len(digests) == 1


def test_a_byte_order_mark_is_no_part_of_the_first_row(write_rows: Write, work: Workdir) -> None:
    """Windows editors write one."""
    train = write_rows([b'\xef\xbb\xbf{"id": "r1", "db_id": "d", "question": "q", "query": "s"}'])
    assert load(work, train).rows == 1


def test_blank_lines_count_as_lines_but_not_as_rows(write_rows: Write, work: Workdir) -> None:
    """The line numbers stay those that an editor shows."""
    found = load(work, write_rows([b"", row(1), b"  \r", row(2)]))
    assert [one["line"] for one in read_rows(found.folder / "rows.parquet")] == [2, 4]


def test_a_file_without_rows_is_refused(write_rows: Write, work: Workdir) -> None:
    """Blank lines alone are no rows."""
    with pytest.raises(DataError, match=r"train.jsonl: no rows"):
        load(work, write_rows([b"", b""]))


def test_a_database_listed_twice_is_refused(write_rows: Write, work: Workdir) -> None:
    """Which of the two a row means could not be told."""
    databases = write_rows([database(), database()], "databases.jsonl")
    with pytest.raises(DataError, match=r"databases.jsonl:2: db_id 'd1' was already listed"):
        load(work, write_rows([row()]), databases=databases)


def test_a_file_that_changed_meanwhile_is_refused(write_rows: Write, work: Workdir) -> None:
    """The stage key stands for the bytes that were there when the run began."""
    train = write_rows([row()])
    write_rows([row(), row(2)])
    with pytest.raises(DataError, match="changed since the run began"):
        load(work, train)
