"""Files and folders that a recipe names, and the layout of the rows in them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retune.data import sources
from retune.data.reading.files import RawRow, read_files
from retune.data.reading.locating import locate_source
from retune.data.sources import LocatedRows, locate_databases, locate_rows
from retune.data.stages import LoadInputs
from retune.digests import digest_json
from retune.errors import DataError
from retune.recipe.sections.data import ColumnsConfig, DataConfig
from tests.making import load_inputs

PAIR = b'{"instruction": "i", "output": "o"}\n'


def locate(folder: Path, train: Any, **data: Any) -> LocatedRows:
    config = DataConfig.model_validate_json(json.dumps({"train": train, **data}))
    return locate_rows(config.train[0], config, lambda path: folder / path, "data.train.0")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_source_is_its_content(tmp_path: Path) -> None:
    """Equal bytes under another name have the same digest: their sha256."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"rows")
    found = {locate_source(tmp_path / name, "data.train").digest for name in ("a", "b")}
    assert found == {sha256(b"rows")}


def test_a_missing_file_names_the_recipes_key(tmp_path: Path) -> None:
    """The person mends the recipe, not the program."""
    with pytest.raises(DataError, match=r"^data\.test: .*gone does not exist"):
        locate_source(tmp_path / "gone", "data.test")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """The message says what was found there."""
    with pytest.raises(DataError, match="is a folder"):
        locate_source(tmp_path, "data.train")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    """Before any stage runs."""
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match="is empty"):
        locate_source(tmp_path / "empty.csv", "data.train")
    with pytest.raises(DataError, match=r"data\.train\.0\.path: .*empty\.csv is empty"):
        locate(tmp_path, "empty.csv")


def test_a_file_of_rows_is_found_with_its_layout(tmp_path: Path) -> None:
    """One file has the digest of its bytes; the keys that were found are stated."""
    (tmp_path / "a.jsonl").write_bytes(PAIR)
    found = locate(tmp_path, "a.jsonl", max_row_bytes=500)
    assert load_inputs(found) == LoadInputs(
        source=found.source,
        format="instruction",
        columns=ColumnsConfig(question="instruction", answer="output"),
        labels=None,
        max_row_bytes=500,
        max_rows=None,
    )
    assert (found.detected, found.source.name) == (True, "a.jsonl")
    assert (found.source.digest, found.source.files) == (sha256(PAIR), (tmp_path / "a.jsonl",))


def test_a_glob_is_its_files_in_order(tmp_path: Path) -> None:
    """Sorted by name; the digest is that of their digests in that order."""
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_bytes(PAIR * (2 if name == "b" else 1))
    found = locate(tmp_path, "*.jsonl")
    assert [path.name for path in found.source.files] == ["a.jsonl", "b.jsonl"]
    assert found.source.digest == digest_json([sha256(PAIR), sha256(PAIR * 2)])


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("none*.jsonl", "matches nothing; expected files"),
        ("gone.jsonl", "gone.jsonl does not exist"),
        ("owner/name", r"write \{hub: owner/name\}"),
        ("folder", r"is a folder. Name its files: folder/\*.jsonl"),
        ("rows.xlsx", r"not known; expected .jsonl, .ndjson, .json, .csv, .tsv, .*as .csv \(UTF-8"),
        ("rows.txt", r"not known; expected .*Rename it to .csv or .tsv where it is a table"),
        ("rows.jsonl.zst", r"not known; expected .*Unpack it, or compress it with gzip"),
        ("rows.tar.gz", r"not known; expected .*Unpack it, or compress it with gzip"),
    ],
)
def test_what_is_no_file_of_rows_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    """With the recipe's key and what to write instead."""
    (tmp_path / "folder").mkdir()
    for name in ("rows.xlsx", "rows.txt", "rows.jsonl.zst", "rows.tar.gz"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"^data\.train\.0\.path: .*{reason}"):
        locate(tmp_path, path)


def test_an_encoding_is_that_of_the_source_else_of_all(tmp_path: Path) -> None:
    """A file in UTF-8 beside others says so of itself; Latin-1 is read as Windows-1252."""
    (tmp_path / "a.csv").write_bytes("instruction,output\nNão?,Não\n".encode("cp1252"))
    (tmp_path / "b.csv").write_bytes("instruction,output\nNão?,Não\n".encode())
    found = locate(tmp_path, "a.csv", encoding="latin-1")
    assert (found.encoding, found.format) == ("cp1252", "instruction")
    other = locate(tmp_path, {"path": "b.csv", "encoding": "utf-8"}, encoding="cp1252")
    assert (other.encoding, other.format) == ("utf-8", "instruction")
    with pytest.raises(DataError, match="the file is in UTF-8, not in cp1252 as stated"):
        locate(tmp_path, "b.csv", encoding="cp1252")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("Qual?,Aquele\nQuem?,Ele\n", "where that is a row, write them above it"),
        ("falas\n\"[{'a': 1}\n {'a': 2}]\"\n", "'falas' holds a list of objects as text"),
    ],
)
def test_what_a_table_lacks_is_said(tmp_path: Path, content: str, says: str) -> None:
    """A header, or lists that can be read."""
    (tmp_path / "a.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as raised:
        locate(tmp_path, "a.csv")
    assert says in raised.value.message


def test_turns_that_python_printed_are_told(tmp_path: Path) -> None:
    """A table's list of turns is one, as pandas writes it."""
    turns = "[{'role': 'user', 'content': 'q'}, {'role': 'assistant', 'content': 'a'}]"
    (tmp_path / "a.csv").write_text(f'messages\n"{turns}"\n', encoding="utf-8")
    assert locate(tmp_path, "a.csv").format == "messages"


def test_a_layout_that_is_not_known_names_the_keys(tmp_path: Path) -> None:
    """The keys found, the layouts known, and what to do."""
    (tmp_path / "a.jsonl").write_bytes(b'{"foo": 1}\n')
    with pytest.raises(
        DataError,
        match=r"^data\.train\.0: the row at .*a\.jsonl:1 has the columns 'foo': .*messages, .*"
        r"harmony\)\. Say under data\.columns",
    ):
        locate(tmp_path, "a.jsonl")


@pytest.mark.parametrize(
    ("source", "data", "said"),
    [
        ({}, {"columns": {"question": "pergunta"}}, "what data.columns names: question"),
        ({"columns": {"question": "pergunta"}}, {}, "what data.train.0.columns names: question"),
    ],
)
def test_a_stated_key_that_rows_lack_is_named(
    tmp_path: Path, source: dict[str, Any], data: dict[str, Any], said: str
) -> None:
    """Not that the layout is unknown: the recipe says which key was looked for."""
    (tmp_path / "a.jsonl").write_bytes(PAIR)
    with pytest.raises(DataError) as raised:
        locate(tmp_path, {"path": "a.jsonl", **source}, **data)
    assert f"{said} ('pergunta'). Correct it there" in raised.value.message


def test_no_more_rows_are_held_than_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows may be large: 20 that can be read are enough, bad ones before them do not count."""
    (tmp_path / "a.jsonl").write_bytes(b"broken\n" + PAIR * 100)
    taken = []

    def watched(*arguments: Any) -> Iterator[RawRow]:
        for row in read_files(*arguments):
            taken.append(row.line)
            yield row

    monkeypatch.setattr(sources, "read_files", watched)
    locate(tmp_path, "a.jsonl")
    assert len(taken) == 21


def test_a_stated_layout_that_does_not_fit_says_what_is_missing(tmp_path: Path) -> None:
    """Before any row is loaded."""
    (tmp_path / "a.jsonl").write_bytes(PAIR)
    with pytest.raises(
        DataError,
        match=r"The format text_label \(stated\) also needs question \('text' or 'sentence' or "
        r".* or another name of docs/data\.md\), answer \('label' or 'labels' or ",
    ):
        locate(tmp_path, {"path": "a.jsonl", "format": "text_label"})


def test_the_layout_is_told_by_the_first_row_that_can_be_read(tmp_path: Path) -> None:
    """A broken first line, or one without its answer, is one bad row and not the end."""
    (tmp_path / "a.jsonl").write_bytes(b'{"x\n{"instruction": "i"}\n' + PAIR)
    assert locate(tmp_path, "a.jsonl").format == "instruction"


def test_no_readable_row_is_told_with_the_first_reasons(tmp_path: Path) -> None:
    """Three of five are shown with file and line."""
    (tmp_path / "a.jsonl").write_bytes(b"no json\n" * 5)
    with pytest.raises(DataError, match=r"(?s)no row of a\.jsonl .*a\.jsonl:3: .*and 2 more$"):
        locate(tmp_path, "a.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\n\n")
    with pytest.raises(DataError, match=r"b\.jsonl holds no rows"):
        locate(tmp_path, "b.jsonl")


def test_a_sources_own_columns_go_before_the_common_ones(tmp_path: Path) -> None:
    """Mixed sources have different keys."""
    (tmp_path / "a.jsonl").write_bytes(b'{"p": "i", "r": "o"}\n')
    own = {"question": "p", "answer": "r"}
    found = locate(tmp_path, {"path": "a.jsonl", "columns": own}, columns={"question": "zzz"})
    assert (found.format, found.columns) == ("instruction", ColumnsConfig(**own))


def test_the_shipped_demo_is_text_to_sql() -> None:
    """Its recipe states question and answer, and data.databases."""
    shipped = Path(__file__).parents[3] / "assets/text_to_sql_pt"
    columns = {"question": "question", "answer": "query", "group": "db_id", "row_id": "id"}
    found = locate(shipped, "train.jsonl", databases="databases.jsonl", columns=columns)
    assert (found.format, found.columns) == ("text_to_sql", ColumnsConfig(**columns))


def test_a_folder_of_databases_is_its_sqlite_files(tmp_path: Path) -> None:
    """Flat ones and those in a folder of their name; the name counts as content."""
    for name in ("b.sqlite", "a/a.sqlite", "a/other.sqlite", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = locate_databases(tmp_path)
    assert [path.name for path in found.files] == ["a.sqlite", "b.sqlite"]
    (tmp_path / "b.sqlite").rename(tmp_path / "c.sqlite")
    assert locate_databases(tmp_path).digest != found.digest


def test_what_holds_no_databases_is_refused(tmp_path: Path) -> None:
    """An empty folder, a file of another kind, nothing at all."""
    (tmp_path / "a.txt").write_bytes(b"x")
    for path, reason in ((tmp_path, "holds no"), (tmp_path / "a.txt", "ending"), (
        tmp_path / "gone", "does not exist")):  # fmt: skip
        with pytest.raises(DataError, match=rf"^data\.databases: .*{reason}"):
            locate_databases(path)


def test_sqlite_is_not_opened_to_be_located(tmp_path: Path) -> None:
    """Locating takes digests alone: a locked database does not matter."""
    with sqlite3.connect(tmp_path / "a.sqlite") as opened:
        opened.execute("CREATE TABLE t (a)")
    assert len(locate_databases(tmp_path).files) == 1


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"messages": {"role": ["user"], "content": ["q"]}}, "'messages' holds object, expected a"),
        ({"conversations": ["q", "a"]}, "the first turn of 'conversations' is text, expected a"),
        ({"conversation": [{"input": "q", "output": "a"}]}, "is an object with 'input', 'output'"),
        ({"messages": [{"Role": "user", "Content": "q"}]}, "an object with 'Content', 'Role'"),
        ({"system": "s", "chat": "USER: q\nASSISTANT: a"}, "'chat' holds text, expected a list"),
    ],
)
def test_what_stands_in_place_of_turns_is_told(tmp_path: Path, row: Any, says: str) -> None:
    """Not only that the layout is none of the known ones."""
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(DataError, match=says):
        locate(tmp_path, [{"path": "rows.jsonl"}])


def test_a_pointer_in_place_of_a_parquet_file_is_told(tmp_path: Path) -> None:
    """As of every other kind of file."""
    (tmp_path / "rows.parquet").write_text("version https://git-lfs.github.com/spec/v1\n", "utf-8")
    with pytest.raises(DataError, match="a pointer of Git LFS"):
        locate(tmp_path, [{"path": "rows.parquet"}])
