"""Prefect's API: asked before a flow needs it, so that a wrong address is said in seconds."""

from __future__ import annotations

import base64
import logging
import os
import socket
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from retune.cli import settings
from retune.cli.services.prefect_settings import read_prefect_settings, say_where
from retune.errors import ConfigError, ServiceError
from retune.proxies import settle_proxies, shown_proxy
from retune.recipe.credentials import masked
from retune.spine.children import end_with_this_one

if TYPE_CHECKING:
    from prefect.server.api.server import SubprocessASGIServer

_API_TIMEOUT_SECONDS = 5.0
_ANSWER_SECONDS = 20.0
"""A server that took the connection is there; a busy one may take its time."""
_MOST_STARTS = 2
"""Of a server that ends at once; Prefect itself would try for ever, each time on another port."""
_PORT_TAKEN = 3
"""Exit code of uvicorn that Prefect takes for a port in use, and that a failed start has too."""
_STEP_SECONDS = 0.05
_DATABASE = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
"""Today's name of the variable, and its old one."""
_POSTGRES_PORT = 5432


def prepare_prefect(meanwhile: Callable[[], object] = lambda: None) -> None:
    """Set Prefect up for a terminal: quiet, no telemetry, and its API answering.

    Args:
        meanwhile: Called while a server of this process's own starts, which takes a core for
            seconds; not called where none has to.

    Raises:
        ConfigError: Prefect's settings are wrong, or name no API.
        ServiceError: The API does not answer, or is not Prefect's.
    """
    if not settings.debug:
        # Quiet here, where the watcher speaks; Prefect's UI gets the log all the same.
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("PREFECT_LOGGING_SERVER_LEVEL", "CRITICAL")
        # What Prefect's own threads could not send is told once, by the run.
        os.environ.setdefault("PREFECT_LOGGING_INTERNAL_LEVEL", "CRITICAL")
        logging.raiseExceptions = False
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    # A run asks whether the API is there before each stage, and waits for it then. Each request of
    # Prefect's own would be tried for a minute, several of them at the end of a run.
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "2")
    # Two busy cores take longer than the default 20 s; one that has ended is not waited for.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "600")
    settle_proxies()
    read_prefect_settings()
    from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE

    address = PREFECT_API_URL.value()
    if address:
        _ask(address)
    elif PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        _start_own(meanwhile)
    else:
        raise ConfigError(
            "Prefect's profile names no API and forbids a server of retune's own. Set "
            "PREFECT_API_URL to your server, or PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=true."
        )


def _ask(address: str) -> None:
    """Refuse an address that is not that of a Prefect API of this major version."""
    import prefect
    from prefect.client.base import ServerType, determine_server_type

    root = address.rstrip("/")
    is_cloud = determine_server_type() == ServerType.CLOUD
    try:
        with api_client() as client:
            health = client.get(f"{root}/health")
            version = health if is_cloud else client.get(f"{root}/admin/version")
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise ConfigError(
            f"{_named(address)} is no address of a server ({masked(str(error))}); expected one "
            f"such as http://127.0.0.1:4200/api. {_instead()}"
        ) from error
    except httpx.HTTPError as error:
        raise ServiceError(
            f"{_named(address)}: Prefect's API there does not answer ({_told(error, address)}). "
            f"Start it with `prefect server start`, or else: {_instead()}"
        ) from error
    if {health.status_code, version.status_code} & {401, 403}:
        raise ServiceError(
            f"{_named(address)} wants to know who asks (HTTP {version.status_code}). Set "
            "PREFECT_API_KEY or PREFECT_API_AUTH_STRING as its administrator says."
        )
    if is_cloud and health.is_success:
        return
    found = _json(version)
    if _json(health) is not True or not isinstance(found, str):
        kind = health.headers.get("content-type", "no content type")
        raise ServiceError(
            f"{_named(address)} answers, but not as Prefect's API does (HTTP "
            f"{health.status_code}, {kind}); the address of one ends in /api. {_instead()}"
        )
    if found.partition(".")[0] != prefect.__version__.partition(".")[0]:
        raise ServiceError(
            f"{_named(address)} is Prefect {found}, and here is {prefect.__version__}: they do not "
            f"understand each other. {_instead()}"
        )


def api_client() -> httpx.Client:
    """Return a client that asks as Prefect's own would, without its retries over minutes."""
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_KEY,
        PREFECT_API_SSL_CERT_FILE,
        PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    )

    headers = {}
    if auth := PREFECT_API_AUTH_STRING.value():
        pair = base64.b64encode(auth.get_secret_value().encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    elif key := PREFECT_API_KEY.value():
        headers["Authorization"] = f"Bearer {key.get_secret_value()}"
    verify: ssl.SSLContext | bool = not PREFECT_API_TLS_INSECURE_SKIP_VERIFY.value()
    certificates = PREFECT_API_SSL_CERT_FILE.value()
    if verify and certificates:
        try:
            verify = ssl.create_default_context(cafile=certificates)
        except OSError as error:  # ssl's own errors are of this kind
            raise ConfigError(
                f"PREFECT_API_SSL_CERT_FILE={certificates} "
                f"({say_where('PREFECT_API_SSL_CERT_FILE')}): no certificates can be read there "
                f"({error.strerror or error}). Correct it or unset it."
            ) from error
    limits = httpx.Timeout(_API_TIMEOUT_SECONDS, read=_ANSWER_SECONDS)
    return httpx.Client(headers=headers, timeout=limits, verify=verify, follow_redirects=True)


def _named(address: str) -> str:
    return f"PREFECT_API_URL={masked(address)} (set {say_where('PREFECT_API_URL')})"


def _instead() -> str:
    return (
        "Correct PREFECT_API_URL, or unset it (`prefect config unset PREFECT_API_URL` where a "
        "profile sets it) to run with a server of retune's own."
    )


def _told(error: httpx.HTTPError, address: str) -> str:
    told = masked(f"{type(error).__name__}: {error}")
    if "CERTIFICATE" in told:
        return f"{told}; PREFECT_API_SSL_CERT_FILE names the certificates to trust"
    proxy = shown_proxy(address)
    return f"{told}; asked through the proxy of {proxy}" if proxy else told


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json() if answer.is_success else None
    except ValueError:
        return None


def _start_own(meanwhile: Callable[[], object]) -> None:
    """Start the server that Prefect would start at the flow's first request, and watch it."""
    _refuse_closed_database()
    server = _bounded_server()
    failures: list[RuntimeError] = []

    def start() -> None:
        try:
            server.start()
        except RuntimeError as error:
            failures.append(error)

    # Prefect waits as long for a server that has ended as for one that is slow.
    starting = threading.Thread(target=start, daemon=True)
    starting.start()
    meanwhile()
    while starting.is_alive():
        starting.join(_STEP_SECONDS)
        process = server.server_process
        if process is not None and process.poll() not in (None, _PORT_TAKEN):
            raise _no_server(f"it ended with exit code {process.returncode}")
    if failures:
        told = str(failures[0]).strip().splitlines()[0].rstrip(".")
        if told.startswith("Timed out"):
            told += " (PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS is the limit)"
        raise _no_server(told)


def _bounded_server() -> SubprocessASGIServer:
    """Return the server of this process, which Prefect's own client finds once it has started.

    It says itself when it has been started often enough: whoever only looked at its process could
    miss one that ended at once, and Prefect's loop would go on behind the back of who gave up.
    """
    from prefect.server.api.server import SubprocessASGIServer

    class BoundedServer(SubprocessASGIServer):
        starts = 0

        def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
            if self.starts == _MOST_STARTS:
                raise RuntimeError(f"it ended with exit code {_PORT_TAKEN}, {self.starts} times")
            self.starts += 1
            process = super()._run_uvicorn_command()
            # Prefect stops it as this process leaves, which one that is killed does not come to.
            end_with_this_one(process.pid)
            return process

    return BoundedServer()


def _refuse_closed_database() -> None:
    """Look at the database first: a server that cannot open it takes long to say so."""
    try:
        url = make_url(_database())
    except ArgumentError as error:
        raise ConfigError(
            f"{_named_database()} is no address of a database, such as "
            "sqlite+aiosqlite:///PATH/prefect.db. Correct it or unset it."
        ) from error
    try:
        if url.drivername.startswith("sqlite"):
            if url.database and ":memory:" not in url.database:
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
                # Appending makes the file where there is none, and takes nothing from one.
                with open(url.database, "ab"):
                    pass
                with closing(sqlite3.connect(url.database, timeout=_API_TIMEOUT_SECONDS)) as file:
                    file.execute("PRAGMA schema_version")
        elif url.host:
            place = (url.host, url.port or _POSTGRES_PORT)
            socket.create_connection(place, timeout=_API_TIMEOUT_SECONDS).close()
    except (OSError, sqlite3.Error) as error:
        told = getattr(error, "strerror", None) or error
        raise _no_server(f"its database cannot be opened ({told})") from error


def _database() -> str:
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    value = PREFECT_API_DATABASE_CONNECTION_URL.value()
    address: str = value if isinstance(value, str) else value.get_secret_value()
    return address


def _named_database() -> str:
    found = next((name for name in _DATABASE if "profile" not in say_where(name)), _DATABASE[0])
    return f"{found} ({say_where(found)}): {masked(_database())!r:.80}"


def _no_server(cause: str) -> ServiceError:
    from prefect.settings import PREFECT_HOME

    shown = make_url(_database()).render_as_string(hide_password=True)
    return ServiceError(
        f"A Prefect server of retune's own did not start: {cause}. Its database is {shown} "
        "(PREFECT_SERVER_DATABASE_CONNECTION_URL, else below PREFECT_HOME, "
        f"{PREFECT_HOME.value()}). Look there, or set PREFECT_HOME to an empty folder; with "
        "--debug before the command the server says more."
    )
