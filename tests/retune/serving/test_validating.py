"""`validate: true`: what a model wrote is tried as a query before its client gets it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import openai.types.chat
import pytest

from retune.errors import ConfigError, ScoringError
from retune.serving.refusals import Refusal
from retune.serving.validating import QueryValidator, read_databases
from retune.sql.showing import Tables
from tests.retune.serving.stand_in import Writer, chat, events, make_server, post

SCHEMA = "CREATE TABLE sales (item TEXT); INSERT INTO sales VALUES ('tea');"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.sqlite"
    with closing(sqlite3.connect(path)) as made:
        made.executescript(SCHEMA)
    return path


def test_each_choice_says_whether_its_query_runs_and_what_it_answers() -> None:
    """The first is cut out of its fence as for scoring; the second asks for what is not there."""
    server = make_server(Writer("```sql\nSELECT item FROM sales;\n```", "SELECT price FROM sales"))

    body = chat(server, n=2, validate=True, schema=SCHEMA).json()

    first, second = (choice["validation"] for choice in body["choices"])
    assert first == {
        **{"query": "SELECT item FROM sales", "runs": True, "reason": None, "detail": ""},
        **{"columns": ["item"], "rows": [["tea"]], "more": False},
    }
    assert (second["runs"], second["reason"]) == (False, "failed")
    assert second["detail"] == "no such column: price"
    assert body["choices"][0]["message"]["content"].startswith("```sql")
    # Clients of the API read such an answer as any other.
    assert openai.types.chat.ChatCompletion.model_validate(body).choices[1].index == 1


def test_a_stream_says_it_behind_the_answer_and_before_the_usage() -> None:
    server = make_server(Writer("SELECT item FROM sales"))
    options = {"stream": True, "stream_options": {"include_usage": True}}

    told = events(chat(server, validate=True, schema=SCHEMA, **options))

    assert ["validation" in (each["choices"] or [{}])[0] for each in told] == [
        *(False, False, False, True, False)
    ]
    [tried] = told[3]["choices"]
    assert (tried["validation"]["rows"], tried["finish_reason"]) == ([["tea"]], None)
    assert told[2]["choices"][0]["finish_reason"] == "stop"
    assert told[4]["usage"]["completion_tokens"] == 2


def test_a_database_is_named_and_never_written_to(shop: Path) -> None:
    before = shop.read_bytes()
    databases = read_databases([f"shop={shop}"])

    reads, writes = (
        chat(make_server(Writer(query), databases=databases), validate=True, database="shop")
        for query in ("SELECT * FROM sales", "DELETE FROM sales")
    )

    assert reads.json()["choices"][0]["validation"]["rows"] == [["tea"]]
    assert writes.json()["choices"][0]["validation"]["reason"] == "unsafe"
    assert shop.read_bytes() == before


def test_generate_puts_the_schema_before_the_question_as_rows_have_it(shop: Path) -> None:
    """That of the request, and that of a database: of both without what fills the tables."""
    worker = Writer("SELECT item FROM sales")
    server = make_server(worker, databases=read_databases([f"shop={shop}"]))

    tried = post(server, "/generate", prompt="What?", validate=True, schema=SCHEMA).json()
    plain = post(server, "/generate", prompt="What?", database="shop").json()

    assert tried["validation"]["rows"] == [["tea"]]
    assert "validation" not in plain
    asked = [ask.messages[-1]["content"] for ask in worker.asked if ask.messages]
    wanted = "<SCHEMA>\n{}\n</SCHEMA>\n\n<USER_QUERY>\nWhat?\n</USER_QUERY>"
    assert all(each.endswith(wanted.format("CREATE TABLE sales (item TEXT);")) for each in asked)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ({"validate": True}, "invalid_value", "send one of them"),
        ({"validate": True, "schema": "x", "database": "y"}, "invalid_value", "two places"),
        ({"schema": SCHEMA}, "invalid_value", "schema is what a query is tried on"),
        ({"database": "shop"}, "invalid_value", "database is what a query is tried on"),
        ({"validate": "yes", "schema": "x"}, "invalid_value", "validate: "),
        ({"validate": True, "database": "shop"}, "database_not_found", "known are none"),
        ({"validate": True, "database": "/etc/passwd"}, "database_not_found", "known are none"),
    ],
)
def test_a_request_that_says_not_where_is_refused(
    body: dict[str, object], code: str, told: str
) -> None:
    answer = chat(make_server(Writer("SELECT 1")), **body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert told in answer.json()["error"]["message"]


def test_a_text_is_not_tried() -> None:
    """Of `/v1/completions`: refused by its name, not ignored."""
    answer = post(make_server(Writer("x")), "/v1/completions", model="m", prompt="x", validate=True)

    assert answer.json()["error"]["code"] == "unsupported_parameter"


def test_a_schema_that_is_none_is_no_fault_of_the_query() -> None:
    answer = chat(make_server(Writer("SELECT 1")), validate=True, schema="DROP TABLE x")

    validation = answer.json()["choices"][0]["validation"]
    assert (validation["runs"], validation["reason"]) == (False, "schema_failed")


def test_where_nothing_can_be_tried_the_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process can be started: an error in the API's form, without a path of this machine."""

    def fail(*_: object) -> None:
        raise ScoringError("could not start /usr/bin/python")

    monkeypatch.setattr("retune.serving.validating.show_query", fail)
    answer = chat(make_server(Writer("SELECT 1")), validate=True, schema=SCHEMA)

    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "server_fault")
    assert "/usr" not in answer.text


def test_its_processes_end_with_the_server() -> None:
    server = make_server(Writer("SELECT 1"))
    assert chat(server, validate=True, schema=SCHEMA).status_code == 200

    assert server.validator._sandboxes
    assert not any(sandbox.is_running for sandbox in server.validator._sandboxes)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("shop.sqlite", "expected NAME=FILE"),
        ("my shop=shop.sqlite", "expected NAME=FILE"),
        ("shop=no.sqlite", "there is no such file"),
        ("shop=text", "is no SQLite file"),
        ("shop=empty.sqlite", "holds no tables"),
    ],
)
def test_a_database_that_cannot_be_read_is_refused_before_the_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("no database")
    with closing(sqlite3.connect("empty.sqlite")) as made:
        made.execute("VACUUM")
        made.execute("PRAGMA user_version = 1")

    with pytest.raises(ConfigError, match=told):
        read_databases([given])


def test_a_database_that_somebody_writes_to_is_refused(shop: Path) -> None:
    """What stands in its journal would not be seen, or half of it."""
    with closing(sqlite3.connect(shop)) as writing:
        writing.execute("PRAGMA journal_mode = wal")
        writing.execute("INSERT INTO sales VALUES ('mug')")
        writing.commit()

        with pytest.raises(ConfigError, match=r"shop\.sqlite-wal lies beside it"):
            read_databases([f"shop={shop}"])


def test_a_name_is_given_once(shop: Path) -> None:
    with pytest.raises(ConfigError, match="shop is given twice"):
        read_databases([f"shop={shop}"] * 2)


def test_a_query_waits_no_longer_than_its_request() -> None:
    """No time is left: 504, in the form of the API."""

    async def try_late() -> Refusal:
        validator = QueryValidator({})
        try:
            with pytest.raises(Refusal) as refused:
                await validator.check(["SELECT 1"], Tables(script=SCHEMA), 0.0)
        finally:
            validator.close()
        return refused.value

    refusal = asyncio.run(try_late())
    assert (refusal.status, refusal.code) == (504, "timeout")
