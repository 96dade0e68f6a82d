"""Proxies of the environment: this machine is spared, and none breaks a client."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
import requests

from retune import proxies
from retune.errors import ConfigError
from retune.proxies import refuse_lost_proxy, settle_proxies, shown_proxy

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
CLOSED = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment without proxies, given back afterwards."""
    before = dict(os.environ)
    for name in NAMES:
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    monkeypatch.setattr(proxies, "_SET_ASIDE", {})
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def server() -> Iterator[str]:
    """A server of this machine that answers 204."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}/"
        found.shutdown()


@pytest.mark.parametrize(
    "variables",
    [
        {"HTTP_PROXY": CLOSED},
        {"http_proxy": CLOSED, "no_proxy": "example.org"},
        {"ALL_PROXY": CLOSED, "HTTPS_PROXY": CLOSED},
        {"ALL_PROXY": "socks5://127.0.0.1:9"},
        {"all_proxy": "socks4://127.0.0.1:9"},
        {"HTTP_PROXY": "foo:bar:baz"},
        {"HTTP_PROXY": CLOSED, "NO_PROXY": "[::1], http://[, example.org"},
    ],
    ids=lambda variables: ",".join(variables.values()),
)
def test_this_machine_is_never_asked_through_a_proxy(
    variables: dict[str, str], server: str
) -> None:
    """Nothing listens on port 9: an answer came directly, by either of the two libraries."""
    os.environ.update(variables)
    settle_proxies()
    assert httpx.get(server).status_code == 204
    assert requests.get(server, timeout=5).status_code == 204


def test_other_machines_are_asked_through_it_still() -> None:
    """The user's own exceptions stay, and the proxy stays for the rest."""
    os.environ.update({"HTTP_PROXY": CLOSED, "NO_PROXY": "example.org"})
    settle_proxies()
    assert os.environ["NO_PROXY"] == "example.org,127.0.0.1,localhost,::1,0.0.0.0"
    assert shown_proxy("http://example.com/") == "HTTP_PROXY"
    assert shown_proxy("http://www.example.org/") is None
    assert shown_proxy("http://127.0.0.1:4200/api") is None
    with pytest.raises(httpx.ConnectError):
        httpx.get("http://example.com/")


def test_a_second_time_changes_nothing() -> None:
    """A command and the flow that it calls both settle them."""
    os.environ["HTTP_PROXY"] = CLOSED
    settle_proxies()
    first = dict(os.environ)
    settle_proxies()
    assert dict(os.environ) == first


def test_without_a_proxy_nothing_is_set() -> None:
    """Most machines have none; their NO_PROXY is their own."""
    before = dict(os.environ)
    settle_proxies()
    assert dict(os.environ) == before


def test_what_must_not_go_past_a_proxy_is_refused() -> None:
    """Pages fetched for a user who wanted a proxy are not fetched without one."""
    refuse_lost_proxy("Fetching pages")
    os.environ["ALL_PROXY"] = "socks4://127.0.0.1:9"
    settle_proxies()
    with pytest.raises(ConfigError, match=r"Fetching pages would go past the proxy.*ALL_PROXY"):
        refuse_lost_proxy("Fetching pages")
