"""A question that is asked here is written as the rows of the version write theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retune.data.chats.databases import SchemaLookup
from retune.data.chats.encoding import RowEncoder
from retune.data.chats.rendering import ChatRenderer
from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
from retune.data.schemas import DATABASE_SCHEMA
from retune.data.stages import EncodeSettings
from retune.data.tables import write_table
from tests.making import settings_of
from tests.retune.data.chats.conftest import EMPTY
from tests.retune.serving.stand_in import Writer, chat, make_server, post, worded
from tests.tiny_models import REPOSITORY

ASSETS = REPOSITORY / "assets"
DEMO = "{schema}\n{question}"


def first(name: str) -> dict[str, Any]:
    with open(ASSETS / "text_to_sql_pt" / name, encoding="utf-8") as lines:
        found: dict[str, Any] = json.loads(next(lines))
    return found


@pytest.mark.parametrize("route", ["/generate", "/v1/chat/completions"])
@pytest.mark.parametrize("system", [None, "Responda em SQL."])
@pytest.mark.parametrize("user", [None, DEMO, "{{P}} {question} & '{schema}'"])
def test_a_row_of_the_recipe_is_asked_as_it_was_scored(
    tmp_path: Path, route: str, user: str | None, system: str | None
) -> None:
    """Byte for byte and id for id what `format_chat` wrote of it; the script fills its tables too.

    Of the recipe's own rows and database, with the shipped base's tokenizer and template.
    """
    database, row = first("databases.jsonl"), first("train.jsonl")
    assert row["db_id"] == database["db_id"]
    write_table(tmp_path / "databases.parquet", [database], DATABASE_SCHEMA)
    tokenizer = load_tokenizer(ASSETS / "base_tiny")
    encoder = RowEncoder(
        tokenizer,
        end_token_ids(tokenizer, ASSETS / "base_tiny"),
        settings_of(EncodeSettings, prompt={"user": user, "system": system}),
        schemas=SchemaLookup([tmp_path / "databases.parquet"]),
    )
    asked = {"question": row["question"], "answer": row["query"], "db_id": row["db_id"]}
    [scored] = encoder.encode_all([EMPTY | asked])
    worker = Writer("SELECT 1", model=worded(user, system))

    if route == "/generate":
        body: dict[str, Any] = {"prompt": row["question"]}
    else:
        turns = [{"role": "user", "content": row["question"]}]
        body = {"model": "m", "messages": turns, "as_scored": True}
    answer = post(make_server(worker), route, schema=database["context"], **body)

    assert answer.status_code == 200, answer.text
    text, ids = ChatRenderer(tokenizer).render_request(worker.asked[0].messages or ())
    assert (text, ids) == (scored["prompt"], scored["prompt_ids"])


def asked_with(user: str | None, route: str = "/generate", **body: Any) -> str:
    """Return what a version of a wording is sent as the user's message."""
    worker = Writer("x", model=worded(user))
    answer = post(make_server(worker), route, **body)
    if route != "/classify":
        assert answer.status_code == 200, answer.text
    assert worker.asked[0].messages is not None
    return worker.asked[0].messages[-1]["content"]


def test_a_wording_without_a_schema_is_put_around_every_question() -> None:
    """A text whose class is asked for too, with braces that mean nothing here."""
    assert asked_with("P: {question}!", prompt="{x}") == "P: {x}!"
    assert asked_with("P: {question}!", "/classify", text="ok") == "P: ok!"
    assert asked_with(None, "/classify", text="ok") == "ok"


def test_where_nothing_stands_beside_it_the_question_is_the_whole_message() -> None:
    """As clients send it who write the schema themselves."""
    assert asked_with(DEMO, prompt="CREATE TABLE t (a);\nQuantos?") == (
        "CREATE TABLE t (a);\nQuantos?"
    )
    assert asked_with("{context}\n{question}", prompt="Onde?") == "Onde?"


def test_a_schema_that_is_no_sql_stands_as_it_is() -> None:
    assert asked_with(DEMO, prompt="Quantos?", schema="t: a, b") == "t: a, b\nQuantos?"


def test_a_schema_that_would_change_nothing_is_refused_by_its_name() -> None:
    """Unless the query is tried on it."""
    worker = Writer("SELECT 1", model=worded("{question}"))
    body = {"prompt": "x", "schema": "CREATE TABLE t (a);"}

    refused = post(make_server(worker), "/generate", **body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "schema")
    assert "rows of this model were asked without one" in refused.json()["error"]["message"]
    assert worker.asked == []
    tried = post(make_server(worker), "/generate", validate=True, **body)
    assert tried.json()["validation"]["runs"]


def test_a_chat_stands_as_it_is_unless_it_is_said() -> None:
    """Whoever writes chats has put the question into words."""
    worker = Writer("x", model=worded("P: {question}!", "S"))
    chat(make_server(worker))
    chat(make_server(worker), as_scored=True)

    contents = [[turn["content"] for turn in ask.messages or ()] for ask in worker.asked]
    assert contents == [["S", "x"], ["S", "P: x!"]]
