"""Several models of one server: asked by their names, told apart, and each proved by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from retune.cli.services.serving import ServeOptions, serve_model
from retune.errors import ConfigError
from retune.serving.challenger import Trial
from retune.serving.finding import ModelSource
from retune.serving.rates import Rate
from retune.serving.server import Server
from retune.serving.several import Found, FurtherModels, refuse_equal_names
from tests.retune.serving.stand_in import Writer, make_server, talk
from tests.retune.serving.test_request_log import MODEL

OTHER = MODEL.model_copy(update={"name": "other", "address": "models:/other/4", "version": 4})
SOURCE = ModelSource("models:/other@champion", "")


def with_other(state: str = "ready") -> tuple[Server, Writer, Writer]:
    """Return a server of the models `m` and `other`, for which stand-ins answer."""
    first, second = Writer("of m"), Writer("of other", model=OTHER, state=state)
    server = make_server(first)
    held: Any = SimpleNamespace(current=second, model=OTHER, refused=None)
    server.further = FurtherModels([Found(SOURCE, OTHER)], lambda found: held)
    return server, first, second


def answers(server: Server, *bodies: dict[str, Any]) -> list[httpx.Response]:
    """Ask chats, one after the other."""

    async def use(web: httpx.AsyncClient) -> list[httpx.Response]:
        turns = {"messages": [{"role": "user", "content": "x"}]}
        return [await web.post("/v1/chat/completions", json=turns | body) for body in bodies]

    found: list[httpx.Response] = talk(server, use)
    return found


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("m", "of m"),
        ("other", "of other"),
        ("models:/other/4", "of other"),
        ("models:/other@champion", "of other"),
    ],
)
def test_a_request_is_answered_by_the_model_that_it_names(asked: str, said: str) -> None:
    """By its name, its version or as the command named it; the answer bears the model's name."""
    server, *_ = with_other()
    [told] = answers(server, {"model": asked})
    assert told.json()["choices"][0]["message"]["content"] == said
    assert told.json()["model"] == said.removeprefix("of ")


def test_a_name_that_nobody_has_is_told_which_there_are() -> None:
    """404, as one model alone has it."""
    server, first, second = with_other()
    [told] = answers(server, {"model": "third"})
    assert told.status_code == 404
    assert told.json()["error"]["message"] == (
        "the model 'third' is not served here; known are 'm', 'other'"
    )
    assert first.asked == second.asked == []


def test_a_model_that_is_not_ready_leaves_the_others_alone() -> None:
    """Its own requests are told to come again; `/readyz` says which one is not."""
    server, *_ = with_other(state="restarting")
    one, other = answers(server, {"model": "m"}, {"model": "other"})
    assert (one.status_code, other.status_code) == (200, 503)

    async def look(web: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        return await web.get("/readyz"), await web.get("/v1/models")

    ready, models = talk(server, look)
    assert ready.status_code == 503
    assert ready.json()["status"] == "ready"
    assert ready.json()["further"] == [{"status": "restarting", "model": "other", "version": 4}]
    assert [each["id"] for each in models.json()["data"]] == ["m", "other"]


def test_models_that_are_called_alike_are_refused() -> None:
    """A request could mean either."""
    found = [Found(SOURCE, OTHER), Found(ModelSource("models:/other/3", ""), OTHER)]
    with pytest.raises(ConfigError, match=r"other@champion, models:/other/3: all of them are call"):
        refuse_equal_names(found)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": "x"}, "--name: are of one model, and 2 are named"),
        ({"trial": Trial()}, "--challenger, --canary and --shadow: are of one model"),
        ({"engine": "http://h", "engine_model": "x"}, "--engine-model: are of one model"),
    ],
)
def test_options_of_one_model_are_refused_for_several(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], named: str
) -> None:
    """Before any model is looked for."""
    monkeypatch.delenv("RETUNE_API_KEYS", raising=False)
    options: dict[str, Any] = dict.fromkeys(ServeOptions.__dataclass_fields__)
    options |= {"host": "127.0.0.1", "rate": Rate()} | given
    with pytest.raises(ConfigError, match=named):
        serve_model(["models:/m@champion", "models:/other@champion"], ServeOptions(**options))
