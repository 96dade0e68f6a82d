"""Requests that are kept: sampled by their id, in files of bounded size and number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retune.data.rows import load_rows
from retune.data.sources import locate_rows
from retune.data.tables import read_rows
from retune.model_records import ScoredModel
from retune.recipe.sections.data import DataConfig
from retune.serving.messages import Ask, Asked, ServedModel
from retune.serving.request_log import RequestLog
from tests.making import load_inputs, make_workdir

MODEL = ServedModel(
    name="m",
    address="models:/m/1",
    scored=ScoredModel(digest="d", weights=Path("w"), tokenizer=Path("t")),
)


def ask(number: int) -> Ask:
    return Ask(id=f"{number:032x}", messages=({"role": "user", "content": f"q{number}"},))


def test_the_oldest_file_goes_and_the_newest_is_last_by_name(tmp_path: Path) -> None:
    """Lines of some 130 bytes into files of 100: one a file, of which three are kept."""
    log = RequestLog(tmp_path, 1.0, file_bytes=100, files=3)
    for number in range(5):
        log.write(ask(number), MODEL, "a", None)

    files = sorted(tmp_path.glob("*.jsonl"))
    assert [file.name for file in files] == [f"requests-0000000{each}.jsonl" for each in (3, 4, 5)]
    asked = [json.loads(file.read_text())["messages"][0]["content"] for file in files]
    assert asked == ["q2", "q3", "q4"]


def test_ten_files_are_kept_of_ten(tmp_path: Path) -> None:
    """Nothing goes before the eleventh file, and then the first one alone."""
    log = RequestLog(tmp_path, 1.0, file_bytes=100, files=10)
    seen = []
    for number in range(11):
        log.write(ask(number), MODEL, "a", None)
        seen.append(len(list(tmp_path.glob("*.jsonl"))))

    assert seen == [*range(1, 11), 10]
    assert min(tmp_path.glob("*.jsonl")).name == "requests-00000002.jsonl"


def test_one_request_is_judged_ten_times_at_most(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, 1.0, file_bytes=10**6, files=3)
    log.write(ask(1), MODEL, "a", None)

    assert [log.judge(ask(1).id, "bad", None) for _ in range(11)] == ["kept"] * 10 + ["often"]


def test_what_clients_say_has_as_many_bytes_as_the_requests(tmp_path: Path) -> None:
    """Two files of 150 bytes: of lines that have 150 to 300 each, two."""
    log = RequestLog(tmp_path, 1.0, file_bytes=150, files=2)
    for number in range(3):
        log.write(ask(number), MODEL, "a", None)

    assert [log.judge(ask(each).id, "good", None) for each in range(3)] == ["kept", "kept", "full"]
    assert len((tmp_path / "feedback.jsonl").read_text().splitlines()) == 2


def test_what_is_remembered_is_bounded_by_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three lines of 100 to 200 bytes, 400 bytes hold the two newest."""
    monkeypatch.setattr("retune.serving.request_log._REMEMBERED_BYTES", 400)
    log = RequestLog(tmp_path, 1.0, file_bytes=10**6, files=2)
    for number in range(3):
        log.write(ask(number), MODEL, "a", None)

    judged = [log.judge(ask(each).id, "good", None) for each in range(3)]
    assert judged == ["unknown", "kept", "kept"]


def test_a_share_is_kept_by_the_first_digits_of_the_id(tmp_path: Path) -> None:
    """Of 0.5, ids that begin with 0 to 7."""
    log = RequestLog(tmp_path, 0.5, file_bytes=1000, files=3)

    assert [log.keeps(f"{digit}" + "0" * 31) for digit in "078f"] == [True, True, False, False]
    assert log.judge("f" * 32, "good", None) == "unknown"


def test_a_class_is_kept_as_a_label_without_an_answer(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, 1.0, file_bytes=1000, files=3)
    log.write(ask(1), MODEL, None, "ruim")

    [line] = (tmp_path / "requests-00000001.jsonl").read_text().splitlines()
    assert json.loads(line)["label"] == "ruim"
    assert [turn["role"] for turn in json.loads(line)["messages"]] == ["user"]


COLUMNS = {"row_id": "id", "group": "group"}


def read_corrections(path: Path, **more: object) -> list[dict[str, Any]]:
    """Load a file of corrections as `data.train` does, and the databases that it brings."""
    train = {"path": str(path), "columns": COLUMNS}
    config = DataConfig.model_validate_json(json.dumps({"train": [train], **more}))
    located = locate_rows(config.train[0], config, lambda path: path, "data.train.0")
    folder = load_rows(load_inputs(located), make_workdir(path.parent / "work")).folder
    named = {each["db_id"]: each for each in read_rows(folder / "databases.parquet")}
    rows = read_rows(folder / "rows.parquet")
    return [row | {"database": named.get(row["db_id"])} for row in rows]


def test_corrections_are_rows_with_ids_grouped_by_their_request(tmp_path: Path) -> None:
    """Two corrections of one answer are two rows of one group; what was said between is none."""
    log = RequestLog(tmp_path, 1.0, file_bytes=1000, files=3)
    log.write(ask(7), MODEL, "wrong", None)
    for correction in ("SELECT 1", None, "SELECT 2"):
        assert log.judge(ask(7).id, "bad", correction) == "kept"

    rows = read_corrections(tmp_path / "corrections.jsonl")
    assert [(row["row_id"], row["question"], row["answer"]) for row in rows] == [
        (f"{ask(7).id}-1", "q7", "SELECT 1"),
        (f"{ask(7).id}-3", "q7", "SELECT 2"),
    ]
    assert {row["group"] for row in rows} == {ask(7).id}


def asked_in_words(asked: Asked) -> Ask:
    turns = ({"role": "system", "content": "s"}, {"role": "user", "content": "in many words"})
    return Ask(id="0" * 32, messages=turns, asked=asked)


def test_what_the_server_put_into_words_is_corrected_without_them(tmp_path: Path) -> None:
    """Training puts it into the recipe's words again, and they would stand there twice."""
    log = RequestLog(tmp_path, 1.0, file_bytes=1000, files=3)
    log.write(asked_in_words(Asked(question="Quantos? ana@canarinho.com.br")), MODEL, "a", None)
    log.judge("0" * 32, "bad", "b")

    [row] = read_corrections(tmp_path / "corrections.jsonl")
    assert (row["question"], row["answer"]) == ("Quantos? [e-mail]", "b")
    assert [turn["content"] for turn in row["history"]] == ["s"]


def test_a_corrected_query_is_a_row_of_text_to_sql_with_its_tables(tmp_path: Path) -> None:
    """The rows of the tables come along: the query can be run, and its result compared."""
    log = RequestLog(tmp_path, 1.0, file_bytes=1000, files=3)
    script = "CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('x');"
    asked = Asked(question="Quantos?", ddl="CREATE TABLE t (a TEXT);", script=script)
    log.write(asked_in_words(asked), MODEL, "a", None)
    log.judge("0" * 32, "bad", "SELECT count(*) FROM t")

    [row] = read_corrections(tmp_path / "corrections-sql.jsonl")
    assert (row["row_id"], row["question"]) == ("0" * 32 + "-1", "Quantos?")
    assert row["answer"] == "SELECT count(*) FROM t"
    assert row["database"]["schema"] == "CREATE TABLE t (a TEXT);"
    assert row["database"]["context"] == script
    assert not (tmp_path / "corrections.jsonl").exists()


def test_a_corrected_class_is_a_row_of_text_and_label(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, 1.0, file_bytes=1000, files=3)
    log.write(asked_in_words(Asked(question="horrível")), MODEL, None, "bom")
    log.judge("0" * 32, "bad", "ruim")

    [row] = read_corrections(tmp_path / "corrections-labels.jsonl", labels=["bom", "ruim"])
    assert (row["question"], row["label"]) == ("horrível", "ruim")


def test_token_ids_have_no_text_to_keep(tmp_path: Path) -> None:
    log = RequestLog(tmp_path, 1.0, file_bytes=1000, files=3)
    log.write(Ask(id="0" * 32, prompt_ids=(1, 2)), MODEL, "a", None)

    assert list(tmp_path.iterdir()) == []
