"""Clients that others wrote: LangChain's chat model, and schemathesis over the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from langchain_openai import ChatOpenAI

from retune.serving.request_log import RequestLog
from tests.retune.serving.stand_in import Writer, listening, make_server

SCHEMA = "CREATE TABLE sales (item TEXT); INSERT INTO sales VALUES ('tea');"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = RequestLog(tmp_path_factory.mktemp("log"), 1.0, 10**6, 2)
    with listening(make_server(Writer(*["SELECT item FROM sales"] * 8), log=log)) as found:
        yield found


def chat_model(address: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{address}v1", api_key="unused", model="m", max_retries=0, **options
    )


def test_langchain_asks_and_streams(address: str) -> None:
    """With the fields that it sends unasked; tokens are told at the end of a stream too."""
    model = chat_model(address, temperature=0, max_tokens=16)

    whole = model.invoke([("system", "Answer."), ("human", "What is sold?")])
    parts = list(model.stream("What is sold?", stream_usage=True))

    assert whole.content == "SELECT item FROM sales"
    assert whole.usage_metadata is not None and whole.usage_metadata["total_tokens"] == 5
    assert "".join(str(part.content) for part in parts) == whole.content
    assert len([part for part in parts if part.content]) == 2
    assert [part.usage_metadata["total_tokens"] for part in parts if part.usage_metadata] == [5]


def test_langchain_gets_the_query_tried(address: str) -> None:
    """Fields that the API does not have go in `extra_body`; the answer is read nevertheless."""
    model = chat_model(address, extra_body={"validate": True, "schema": SCHEMA})

    assert model.invoke("What is sold?").content == "SELECT item FROM sales"


def read_document() -> Any:
    """Return the OpenAPI document of the routes, which no model is needed for."""
    from retune.serving.app import build_app

    app: Any = build_app(make_server(Writer("x")))
    return schemathesis.openapi.from_dict(app._app.openapi())


@read_document().parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_no_request_that_the_document_allows_or_not_ends_in_a_fault(
    case: Any, address: str
) -> None:
    """Never 500: whatever is sent is answered, or refused in the form of the API."""
    answer = case.call(base_url=address.rstrip("/"), timeout=60)

    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
