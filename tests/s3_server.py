"""An S3 server in this process (moto's), which can go away and come back with what it held."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from moto import settings
from moto.core.responses import ActionAuthenticatorMixin
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from tests.waiting import free_port

KEYS = {
    "AWS_ACCESS_KEY_ID": "retune",
    "AWS_SECRET_ACCESS_KEY": "of-this-test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_NUMBERS = itertools.count()


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        """Say nothing: requests are many."""


class S3Server:
    """The server; what it holds stays in this process when it is stopped."""

    def __init__(self) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.knows_conditions = True
        self.requests: list[tuple[str, str]] = []
        """Method and path of each."""
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None
        self.start()

    def start(self) -> None:
        """Begin to answer, at the same port each time."""
        self._server = make_server(
            "127.0.0.1", self.port, self._answer, threaded=True, request_handler=_Quiet
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Be gone: connections are refused."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be gone for the length of a block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def without_conditions(self) -> Iterator[None]:
        """Take no notice of If-Match and If-None-Match, as some servers do."""
        self.knows_conditions = False
        try:
            yield
        finally:
            self.knows_conditions = True

    @contextmanager
    def denying(self) -> Iterator[None]:
        """Let nobody in: moto then asks its own table of users, which is empty."""
        before = settings.INITIAL_NO_AUTH_ACTION_COUNT
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        ActionAuthenticatorMixin.request_count = 0
        try:
            yield
        finally:
            settings.INITIAL_NO_AUTH_ACTION_COUNT = before

    def client(self) -> Any:
        """Return a client of boto3."""
        return boto3.client(
            "s3",
            endpoint_url=self.address,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_DEFAULT_REGION"],
        )

    def new_bucket(self) -> str:
        """Make an empty bucket."""
        name = f"bucket-{next(_NUMBERS)}"
        self.client().create_bucket(Bucket=name)
        return name

    def names(self, bucket: str) -> list[str]:
        """Return the names of all objects of a bucket."""
        found = self.client().list_objects_v2(Bucket=bucket)
        return [each["Key"] for each in found.get("Contents", [])]

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if not self.knows_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
            environ.pop("HTTP_IF_MATCH", None)
        answer: Iterable[bytes] = self._app(environ, start)
        return answer


@functools.cache
def s3_server() -> S3Server:
    """Return the server of this process, started by the first call."""
    return S3Server()


def variables(server: S3Server) -> Mapping[str, str]:
    """Return what a process has to have in its environment to reach the server."""
    return {**KEYS, "AWS_ENDPOINT_URL": server.address}
