"""What stands before every route: ids, keys, counts, and errors in the form of the OpenAI API."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from retune.serving.page import PAGE_PATHS
from retune.serving.rates import KeyRates
from retune.serving.refusals import Refusal
from retune.serving.server import Server

LOG = logging.getLogger("retune.serving")
_OPEN = ("/healthz", "/readyz", "/metrics")
"""Paths that need no key: they say nothing of what was asked."""


class Guard:
    """Lets requests through that have a key, or come from no foreign page; counts them all.

    It writes no middleware of Starlette's kind, which would read streams in between.

    Args:
        app: The application.
        server: Its keys and counters.
    """

    def __init__(self, app: FastAPI, server: Server) -> None:
        self._app, self._server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = _Call(send, self._server.rates)
        state = scope.setdefault("state", {})
        state["id"], state["holder"] = call.id, None
        try:
            refusal = self._refusal(scope, call)
            if refusal is None:
                await self._app(scope, receive, call.send)
            else:
                await respond(refusal)(scope, receive, call.send)
        finally:
            self._count(call, scope)

    def _refusal(self, scope: Scope, call: _Call) -> Refusal | None:
        headers = dict(scope["headers"])
        if not self._server.keys:
            hosts = self._server.hosts
            return None if hosts is None else _foreign(headers, hosts)
        if scope["path"] in (*_OPEN, *PAGE_PATHS):
            return None
        sent = headers.get(b"authorization", b"").decode("latin-1")
        call.holder = scope["state"]["holder"] = self._server.keys.holder(sent)
        if call.holder is None:
            return Refusal(401, "no or a wrong API key", "invalid_api_key")
        refusal = self._server.rates.take_request(call.holder)
        if refusal is not None:
            self._server.metrics.limited.labels("requests").inc()
        return refusal

    def _count(self, call: _Call, scope: Scope) -> None:
        # The route's pattern, not the path: a client could make as many counters as it likes.
        route = getattr(scope.get("route"), "path", "none")
        metrics = self._server.metrics
        metrics.requests.labels(route, str(call.status)).inc()
        metrics.seconds.labels(route).observe(time.monotonic() - call.begun)
        # Never what was asked: that is for the request log, where it is wanted.
        LOG.info("%s %s %s %s", call.id, scope["method"], route, call.status)


def _foreign(headers: Mapping[bytes, bytes], hosts: Collection[str]) -> Refusal | None:
    """Refuse what a page of another origin lets a browser ask, of a server without keys.

    A page can ask under a name of its own that it lets point to this machine: its origin is then
    the host that is asked, and only the name tells.

    Args:
        headers: Of the request.
        hosts: Names that the server is asked by.
    """
    host = headers.get(b"host", b"").decode("latin-1")
    if _name_of(f"//{host}") not in hosts:
        why = (
            f"this server is not {host[:80]!r}: without API keys it is asked as localhost or "
            "127.0.0.1 alone; give it keys where it has another name"
        )
        return Refusal(403, why, "foreign_host")
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin and origin.partition("//")[2].lower() != host.lower():
        why = f"pages of {origin[:80]!r} may not ask this server; it has no API keys"
        return Refusal(403, why, "foreign_origin")
    return None


def _name_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


class _Call:
    """One request: its id, whose key it has, and the status that it got (499 for none)."""

    def __init__(self, send: Send, rates: KeyRates) -> None:
        self.id, self.status, self.begun = uuid4().hex, 499, time.monotonic()
        self.holder: str | None = None
        self._send, self._rates = send, rates

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", self.id.encode()),
                # What a model wrote is never a page, whatever it looks like to a browser.
                (b"x-content-type-options", b"nosniff"),
                *self._rates.headers(self.holder),
            ]
        await self._send(message)


def respond(refusal: Refusal) -> JSONResponse:
    """Return a refusal as a response."""
    return JSONResponse(refusal.as_object(), refusal.status, refusal.headers)


def add_handlers(app: FastAPI) -> None:
    """Let every error be answered in one form."""
    app.add_exception_handler(Refusal, _answer_refusal)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_fault)


async def _answer_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return respond(error)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = f"{request.method} {request.url.path[:80]}: {error.detail}"
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    return respond(Refusal(error.status_code, told, code))


async def _answer_fault(request: Request, error: Exception) -> Response:
    LOG.error("%s failed", request.state.id, exc_info=error)
    return respond(Refusal(500, "the server failed; its log says more", "server_fault"))
