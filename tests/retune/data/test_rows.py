"""Loading rows: what is kept, what is listed, and what is found out about columns."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retune.data import rows as loading_rows
from retune.data.databases import load_databases
from retune.data.rows import load_rows
from retune.data.sources import locate_databases, locate_rows
from retune.data.stages import DatabasesInputs, LoadInputs
from retune.data.tables import iterate_rows, read_rows
from retune.errors import DataError
from retune.recipe.sections.data import DataConfig
from retune.records import DatabasesRef, DatasetRef, Source
from retune.spine.stage import SilentReporter, Workdir
from tests.making import load_inputs, make_workdir
from tests.tiny_models import REPOSITORY

Write = Callable[..., Source]


def row(number: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "question": "Quantos?",
        "answer": "Um.",
        "repaired": False,
        **changes,
    }


def inputs_of(train: Any, databases: DatabasesRef | None = None, **data: Any) -> LoadInputs:
    stated = {"databases": "databases"} if databases else {}
    config = DataConfig.model_validate_json(
        json.dumps({"train": train, **stated, **data}, default=str)
    )
    located = locate_rows(config.train[0], config, lambda path: path, "data.train.0")
    return load_inputs(located, databases)


def load(
    work: Workdir, train: Any, databases: DatabasesRef | None = None, **data: Any
) -> DatasetRef:
    train = train.path if isinstance(train, Source) else train
    return load_rows(inputs_of(train, databases, **data), work)


def bad_rows(found: DatasetRef) -> list[dict[str, Any]]:
    lines = (found.folder / "log/bad.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def columns(found: DatasetRef) -> dict[str, dict[str, Any]]:
    listed = json.loads((found.folder / "log/columns.json").read_text("utf-8"))
    return {column["name"]: column for column in listed}


def test_a_bad_row_below_all_others_changes_the_digest(tmp_path: Path) -> None:
    """Its rows are the same, but a stage that counts bad rows must not be reused."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row()) + "\n", "utf-8")
    sound = load(make_workdir(tmp_path / "sound"), path)
    again = load(make_workdir(tmp_path / "again"), path)
    path.write_text(json.dumps(row()) + "\nbroken\n", "utf-8")
    broken = load(make_workdir(tmp_path / "broken"), path)
    assert (sound.rows, broken.rows, broken.bad_rows) == (1, 1, 1)
    assert sound.digest == again.digest != broken.digest


def test_rows_are_brought_to_one_layout(write_rows: Write, work: Workdir) -> None:
    """Whatever a recipe's columns are called, later stages read the same names."""
    train = write_rows([{"n": 7, "pergunta": "Quantos?", "texto": "c", "diz": "Um.", "fonte": "a"}])
    names = {"question": "pergunta", "context": "texto", "answer": "diz", "group": "fonte"}
    found = load(work, train, columns={**names, "row_id": "n"})
    assert read_rows(found.folder / "rows.parquet") == [
        {
            "row_id": "7",
            "group": "a",
            "history": [],
            "question": "Quantos?",
            "steps": [],
            "context": "c",
            "thinking": None,
            "references": None,
            "answer": "Um.",
            "calls": None,
            "learned": None,
            "tools": None,
            "repaired": False,
            "label": None,
            "db_id": None,
            "file": 0,
            "line": 1,
        }
    ]
    assert (found.format, found.rows, found.bad_rows, found.labels, found.databases) == (
        "instruction",
        1,
        0,
        (),
        0,
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": ', "at column 7: Expecting value"),
        ({"id": "r9", "answer": "q"}, "no column 'question'; the row has 'answer', 'id'"),
        (row(9, question="  "), "'question' is empty"),
        (row(9, answer=None), "'answer' is empty"),
        (row(9, answer=True), "mixed types: expected text, found boolean"),
        (row(9, answer="a\ud800"), "lone surrogate"),
        (row(9, answer="a\0"), "NUL"),
        (row(9, answer="x" * 1000), "data.max_row_bytes"),
        ({"\ud800": 1}, "no column 'question'; the row has '\\ud800'"),
    ],
)
def test_a_bad_row_is_listed_and_the_others_are_kept(
    write_rows: Write, work: Workdir, line: Any, reason: str
) -> None:
    """Its place and reason stand in the list; the share is judged later, against the limits."""
    found = load(work, write_rows([row(1), line, row(3)]), max_row_bytes=500)
    assert (found.rows, found.bad_rows) == (2, 1)
    assert [one["line"] for one in read_rows(found.folder / "rows.parquet")] == [1, 3]
    (listed,) = bad_rows(found)
    assert (listed["file"], listed["line"]) == (0, 2)
    assert reason in listed["reason"]


def test_no_readable_row_stops_with_the_first_reasons(write_rows: Write, work: Workdir) -> None:
    """The first row fits the layout and asks about an unknown database, as all others do."""
    train = write_rows([{"question": "q", "query": "s", "db_id": "x"}] * 5)
    databases = DatabasesRef(digest="", folder=_databases(work, "d"), databases=1)
    with pytest.raises(DataError, match=r"(?s)no row of .*train\.jsonl:3: .*'x'.*and 2 more$"):
        load(work, train, databases)


def test_names_of_files_are_no_part_of_the_digest(write_rows: Write, tmp_path: Path) -> None:
    """What a bad row said is: the report shows it, and must not be reused with another one."""
    one, other, changed = (
        load(make_workdir(tmp_path / name), write_rows([row(), {**row(2), **bad}], f"{name}.jsonl"))
        for name, bad in (
            ("one", {"answer": ""}),
            ("other", {"answer": ""}),
            ("changed", {"answer": False}),
        )
    )
    assert one.digest == other.digest != changed.digest


def test_a_source_that_changed_meanwhile_is_refused(write_rows: Write, work: Workdir) -> None:
    """The stage key stands for the bytes that were there when the run began."""
    inputs = inputs_of(write_rows([row()]).path)
    write_rows([row(), row(2)])
    with pytest.raises(DataError, match="changed since the run began"):
        load_rows(inputs, work)


def test_a_source_that_changes_while_it_is_read_is_refused(
    write_rows: Write, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is added in the middle would stand under the key of the file without it."""
    inputs, read = inputs_of(write_rows([row()]).path), loading_rows._read

    def add_first(source: Any, inputs: Any) -> Any:
        write_rows([row(), row(2)])
        return read(source, inputs)

    monkeypatch.setattr(loading_rows, "_read", add_first)
    with pytest.raises(DataError, match="changed since the run began"):
        load_rows(inputs, work)


def test_the_first_rows_may_be_all_that_is_read(write_rows: Write, work: Workdir) -> None:
    """max_rows counts from the first row on, bad ones among them: two good and one bad of five."""
    train = write_rows([row(1), b"no json", row(3), row(4), row(5)]).path
    found = load(work, {"path": train, "max_rows": 3})
    assert (found.rows, found.bad_rows) == (2, 1)


def test_labels_are_those_that_were_seen(write_rows: Write, work: Workdir) -> None:
    """Sorted names; a number becomes its name, one out of range is a bad row."""
    train = write_rows([{"text": "t", "label": value} for value in (1, "ham", 0, 5)])
    found = load(work, train, labels=["spam", "ham", "other"])
    assert (found.labels, found.rows, found.bad_rows) == (("ham", "spam"), 3, 1)


def test_databases_of_the_rows_are_kept_once(write_rows: Write, work: Workdir) -> None:
    """Two of the three rows share theirs; one without any table is a bad row."""
    made = ["CREATE TABLE t (a); INSERT INTO t VALUES (1)", "CREATE TABLE u (b)"]
    contexts = [made[0], made[1], made[0], "INSERT INTO t VALUES (1)"]
    train = write_rows([{"sql_prompt": "q", "sql_context": c, "sql": "s"} for c in contexts])
    found = load(work, train)
    listed = read_rows(found.folder / "databases.parquet")
    assert [(one["schema"], one["context"]) for one in listed] == [
        ("CREATE TABLE t (a);", made[0]),
        ("CREATE TABLE u (b);", made[1]),
    ]
    names = [one["db_id"] for one in read_rows(found.folder / "rows.parquet")]
    assert names == [listed[0]["db_id"], listed[1]["db_id"], listed[0]["db_id"]]
    assert (found.databases, found.bad_rows) == (2, 1)
    assert "no CREATE TABLE" in bad_rows(found)[0]["reason"]


def test_columns_say_what_they_hold(write_rows: Write, work: Workdir) -> None:
    """Types and filled rows of each; a column that says the question again is counted.

    `again` rewords row 1 (4 of its 5 words), repeats row 2 but for case and accent, and has none
    of its words in row 3. `tag` shares its one word with each question, which is chance.
    """
    asked = "Quantos carros há na loja?"
    train = write_rows(
        [
            row(1, question=asked, again="Quantos veículos há na loja?", tag="loja", n=1),
            row(2, question=asked, again="quantos carros ha NA loja", tag="loja", n=None),
            row(3, question=asked, again="outra coisa bem diferente", tag="loja"),
        ]
    )
    found = columns(load(work, train))
    assert found["question"]["used_as"] == "question"
    again = found["again"]
    assert (again["used_as"], again["rewords_question"], again["repeats_question"]) == (None, 1, 1)
    assert (found["tag"]["rewords_question"], found["tag"]["filled"]) == (0, 3)
    assert (found["n"]["types"], found["n"]["filled"]) == ({"integer": 1, "null": 1}, 1)


def test_columns_say_whether_they_are_used(write_rows: Write, work: Workdir) -> None:
    """Roles under any spelling, marks that decide on the row, the rest; ignored ones not at all."""
    beside = {"System": "s", "feedback": "good", "author": "x", "images": ["p"]}
    train = write_rows([row(1, **beside), row(2, **beside)])
    found = columns(load(work, train, ignore=["images"]))
    used = {name: column["used_as"] for name, column in found.items()}
    assert (used["System"], used["feedback"], used["author"]) == ("system", "mark", None)
    assert "images" not in used


def test_rows_marked_as_bad_are_listed_and_counted(write_rows: Write, work: Workdir) -> None:
    """One of three; and with the mark ignored, none."""
    train = write_rows([row(1, label=True), row(2, label=False), row(3, label=None)])
    found = load(work, train)
    assert (found.rows, found.bad_rows) == (2, 1)
    assert "marked as a bad answer" in bad_rows(found)[0]["reason"]
    again = load(make_workdir(work.artifact.parent / "again"), train, ignore=["label"])
    assert (again.rows, again.bad_rows) == (3, 0)


def test_turns_and_tools_reach_the_table(write_rows: Write, work: Workdir) -> None:
    """With all that they say; what they do not say is null there."""
    call = {"name": "f", "arguments": {"x": 1}}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "weight": 0, "thinking": "hm"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": None, "tool_calls": [{"function": call}]},
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": "d"},
    ]
    found = load(work, write_rows([{"messages": turns, "tools": [{"name": "f"}]}]))
    (one,) = read_rows(found.folder / "rows.parquet")
    empty = dict.fromkeys(("thinking", "calls", "name", "learned"))
    assert one["history"] == [
        {**empty, "role": "user", "content": "a"},
        {**empty, "role": "assistant", "content": "b", "thinking": "hm", "learned": False},
    ]
    assert one["steps"] == [
        {**empty, "role": "assistant", "content": "", "calls": json.dumps([call])},
        {**empty, "role": "tool", "content": "1", "name": "f"},
    ]
    assert (one["question"], one["answer"], one["tools"]) == ("c", "d", '[{"name": "f"}]')


def test_progress_is_told_in_bytes(write_rows: Write, work: Workdir) -> None:
    """2,500 rows are more than one report's worth."""
    told: list[tuple[str, int, int]] = []

    class Telling(SilentReporter):
        def progress(self, what: str, done: int, total: int) -> None:
            told.append((what, done, total))

    train = write_rows([row(number) for number in range(2500)])
    load(replace(work, reporter=Telling()), train)
    ((what, done, total),) = told
    assert (what, total) == ("bytes", train.path.stat().st_size)
    assert 0 < done <= total


class TestRealSets:
    """Figures of the sets' SOURCE.md, with no row lost."""

    def test_told_br(self, shared_data: Path, work: Workdir) -> None:
        """21,000 rows, 11,745 of them without a flag; labels are numbers in text columns."""
        source = shared_data / "told_br/told_br.csv"
        stated = {"question": "text", "answer": "toxic"}
        found = load(work, source, columns=stated, labels=["clean", "toxic"])
        assert (found.rows, found.bad_rows, found.format) == (21000, 0, "text_label")
        labels = [one["label"] for one in iterate_rows(found.folder / "rows.parquet", ["label"])]
        assert labels.count("clean") == 11745

    def test_sms_spam(self, shared_data: Path, work: Workdir) -> None:
        """5,574 rows in two classes."""
        found = load(work, shared_data / "sms_spam/sms_spam.csv")
        assert (found.rows, found.bad_rows, found.labels) == (5574, 0, ("ham", "spam"))

    def test_instructions(self, shared_data: Path, tmp_path: Path) -> None:
        """837 questions on documents, and an array of 91 rows of which none has an input."""
        for name, rows in (("faquad_pt/train.jsonl", 837), ("identity_template/identity.json", 91)):
            found = load(make_workdir(tmp_path / str(rows)), shared_data / name)
            assert (found.rows, found.bad_rows, found.format) == (rows, 0, "instruction")

    def test_gretel(self, shared_data: Path, work: Workdir) -> None:
        """1,485 and 313 rows that bring their databases along."""
        found = load(work, shared_data / "gretel_format/*.jsonl")
        assert (found.rows, found.bad_rows, found.format) == (1798, 0, "text_to_sql")
        assert found.databases == len(
            {
                json.loads(line)["sql_context"]
                for name in ("train", "test")
                for line in (shared_data / f"gretel_format/{name}.jsonl").read_text().splitlines()
            }
        )

    @pytest.mark.parametrize("databases", ["databases", "schemas.json"])
    def test_spider_and_its_paraphrase(
        self, shared_data: Path, tmp_path: Path, databases: str
    ) -> None:
        """2,627 questions over 60 databases; `question_synonym` says all but 4 of them again."""
        folder = shared_data / "spider_train"
        known = load_databases(
            DatabasesInputs(source=locate_databases(folder / databases)),
            make_workdir(tmp_path / "databases"),
        )
        found = load(make_workdir(tmp_path / "rows"), folder / "questions.jsonl", known)
        assert (known.databases, found.rows, found.bad_rows) == (60, 2627, 0)
        paraphrase = columns(found)["question_synonym"]
        again = paraphrase["rewords_question"], paraphrase["repeats_question"]
        assert (*again, sum(again)) == (1741, 882, 2623)


class TestDatabases:
    @pytest.fixture
    def folder(self, reference_data: Path, tmp_path: Path) -> Path:
        """Return a folder with SQLite files and questions over them; the sample's are shipped."""
        found = reference_data / "spider_train"
        if found.is_dir():
            return found
        shipped = REPOSITORY / "assets" / "text_to_sql_pt"
        (tmp_path / "databases").mkdir()
        lines = (shipped / "databases.jsonl").read_text("utf-8").splitlines()
        made = [json.loads(line) for line in lines[:12]]
        for one in made:
            with closing(sqlite3.connect(tmp_path / f"databases/{one['db_id']}.sqlite")) as file:
                file.executescript(one["context"])
                file.commit()
        known = {one["db_id"] for one in made}
        lines = (shipped / "train.jsonl").read_text("utf-8").splitlines()
        asked = [line for line in lines if json.loads(line)["db_id"] in known]
        (tmp_path / "questions.jsonl").write_text("\n".join(asked), "utf-8")
        return tmp_path

    def test_databases_that_were_read_answer_like_their_files(
        self, folder: Path, work: Workdir
    ) -> None:
        """Each gold query gives the same rows on the file and on what its context makes."""
        source = locate_databases(folder / "databases")
        found = load_databases(DatabasesInputs(source=source), work)
        made = {}
        for one in read_rows(found.folder / "databases.parquet"):
            made[one["db_id"]] = sqlite3.connect(":memory:")
            made[one["db_id"]].executescript(one["context"])
        lines = (folder / "questions.jsonl").read_text("utf-8").splitlines()
        asked = [json.loads(line) for line in lines]
        assert len(asked) > 20
        for one in asked[:: max(1, len(asked) // 130)]:
            path = folder / f"databases/{one['db_id']}.sqlite"
            with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as file:
                assert _answers(made[one["db_id"]], one["query"]) == _answers(file, one["query"])


def _answers(opened: sqlite3.Connection, query: str) -> Any:
    try:
        return sorted(map(repr, opened.execute(query).fetchall()))
    except sqlite3.Error as error:
        return str(error)


def _databases(work: Workdir, name: str) -> Path:
    path = work.scratch / "made.jsonl"
    path.write_text(json.dumps({"db_id": name, "schema": "CREATE TABLE t (a);"}) + "\n", "utf-8")
    made = make_workdir(work.scratch / "made")
    inputs = DatabasesInputs(source=locate_databases(path))
    return load_databases(inputs, made).folder
