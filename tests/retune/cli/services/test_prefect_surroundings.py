"""Prefect's surroundings: what is wrong with them is said by name, before anything waits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import prefect
import pytest
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)
from pydantic import ValidationError

from retune.cli.services import prefect_settings
from retune.cli.services.prefect_api import prepare_prefect
from retune.cli.services.prefect_settings import read_prefect_settings, say_where
from retune.errors import ConfigError, ServiceError
from tests.waiting import GUARD_SECONDS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, and an environment that is given back."""
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def serve() -> Iterator[Any]:
    """Serve fixed answers by path on this machine; gives the server's address."""
    servers: list[HTTPServer] = []

    def start(answers: dict[str, tuple[int, str, bytes]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                code, kind, body = answers.get(self.path, (404, "text/html", b"no"))
                self.send_response(code)
                self.send_header("content-type", kind)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answers_as(version: str) -> dict[str, tuple[int, str, bytes]]:
    """What a Prefect server of a version answers."""
    kind = "application/json"
    return {
        "/api/health": (200, kind, b"true"),
        "/api/admin/version": (200, kind, json.dumps(version).encode()),
    }


def refused(error: type[Exception], **settings: Any) -> str:
    """Return what `prepare_prefect` says below some settings."""
    named = {
        "api": PREFECT_API_URL,
        "home": PREFECT_HOME,
        "database": PREFECT_API_DATABASE_CONNECTION_URL,
        "certificates": PREFECT_API_SSL_CERT_FILE,
        "ephemeral": PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    }
    with (
        temporary_settings({named[name]: value for name, value in settings.items()}),
        pytest.raises(error) as caught,
    ):
        prepare_prefect()
    return str(caught.value)


def test_a_prefect_server_is_taken(serve: Any) -> None:
    """Its health is true and its version a text of our major one; a slash at the end is none."""
    address = serve(answers_as(prefect.__version__))
    with temporary_settings({PREFECT_API_URL: f"{address}/api/"}):
        prepare_prefect()


@pytest.mark.parametrize(
    "answers",
    [
        {"/api/health": (200, "text/html", b"<html></html>")},
        {"/api/health": (200, "application/json", b'{"status": "ok"}')},
        {"/api/health": (200, "application/json", b"true")},
        {"/api/health": (500, "text/plain", b"broken")},
        {},
    ],
    ids=["page", "another API", "health alone", "broken", "nothing there"],
)
def test_a_server_that_is_not_prefects_is_told_from_one_that_is(answers: Any, serve: Any) -> None:
    """Whatever it answers, the message names the variable, and what to do."""
    said = refused(ServiceError, api=f"{serve(answers)}/api")
    assert "PREFECT_API_URL=http://127.0.0.1" in said
    assert "not as Prefect's API does" in said
    assert "unset" in said


def test_another_major_version_is_refused(serve: Any) -> None:
    """Prefect 2 and 3 do not understand each other; both versions are named."""
    said = refused(ServiceError, api=f"{serve(answers_as('2.19.1'))}/api")
    assert f"is Prefect 2.19.1, and here is {prefect.__version__}" in said


def test_a_server_that_asks_who_we_are_is_no_wrong_address(serve: Any) -> None:
    """HTTP 401 asks for a key."""
    answers = answers_as("3") | {"/api/admin/version": (401, "application/json", b"{}")}
    assert "PREFECT_API_KEY" in refused(ServiceError, api=f"{serve(answers)}/api")


def test_an_address_where_nothing_listens_is_said() -> None:
    """Port 9 of this machine is closed."""
    said = refused(ServiceError, api="http://127.0.0.1:9/api")
    assert "PREFECT_API_URL=http://127.0.0.1:9/api" in said
    assert "does not answer (ConnectError" in said


def test_an_address_behind_a_closed_proxy_names_the_proxy() -> None:
    """The user looks at the address in vain: it is the proxy that is not there."""
    os.environ["HTTP_PROXY"] = os.environ["http_proxy"] = "http://127.0.0.1:9"
    assert "proxy of HTTP_PROXY" in refused(ServiceError, api="http://prefect.example/api")


@pytest.mark.parametrize("address", ["localhost:4200", "ftp://host/api", "http://host:port/api"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """The message shows how one looks."""
    assert "http://127.0.0.1:4200/api" in refused(ConfigError, api=address)


def test_a_database_that_is_no_address_is_named() -> None:
    """Before a server is started for it."""
    said = refused(ConfigError, database="foo")
    assert "_DATABASE_CONNECTION_URL" in said
    assert "'foo' is no address of a database" in said


def test_an_address_that_spoils_all_settings_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect lays it on the settings as a whole, whose value is not the variable's."""
    monkeypatch.setenv("PREFECT_API_URL", "http://[::1/api")
    with pytest.raises(ValidationError) as caught:
        prefect.settings.Settings()
    said = prefect_settings.explain(caught.value)
    assert said.startswith("PREFECT_API_URL (in the environment): found http://[::1/api; ")


def test_profiles_that_are_a_folder_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable, and not by Prefect's home."""
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(folder))
    with pytest.raises(ConfigError, match="it is a folder, expected a file"):
        read_prefect_settings()


def test_certificates_that_cannot_be_read_are_named(folder: Path) -> None:
    """The variable and the file stand in the message."""
    said = refused(ConfigError, api="https://127.0.0.1:9/api", certificates=str(folder / "no.pem"))
    assert "PREFECT_API_SSL_CERT_FILE" in said and "no.pem" in said


def test_a_profile_without_an_api_says_what_to_set() -> None:
    """Prefect's own error is a ValueError at the flow's first request."""
    said = refused(ConfigError, api=None, ephemeral=False)
    assert "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=true" in said


@pytest.mark.parametrize("home", ["file", "file/below", "/proc/nowhere/prefect"])
def test_a_home_that_cannot_be_written_is_named(home: str, folder: Path) -> None:
    """A file, a folder below one, and a place where even root may make nothing."""
    (folder / "file").touch()
    said = refused(ConfigError, home=folder / home)
    assert str(folder / home) in said
    assert "Set PREFECT_HOME to a folder" in said


def test_a_full_disk_below_the_home_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file can be made on a full disk; what is written into it cannot."""

    def open_full(**_: Any) -> Any:
        return open("/dev/full", "wb", buffering=0)

    monkeypatch.setattr(prefect_settings, "NamedTemporaryFile", open_full)
    assert "No space left on device" in refused(ConfigError, home=folder / "home")


def test_a_database_that_cannot_be_opened_is_named(folder: Path) -> None:
    """No folder, no database, nobody there: each before a server is started for it."""
    (folder / "no.db").write_bytes(b"this is no database " * 20)
    for address in (
        "sqlite+aiosqlite:////proc/nowhere/prefect.db",
        f"sqlite+aiosqlite:///{folder}/no.db",
        "postgresql+asyncpg://ana:geheim@127.0.0.1:9/prefect",
    ):
        said = refused(ServiceError, database=address)
        assert "cannot be opened" in said
        assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" in said
        assert "geheim" not in said


@pytest.mark.parametrize("code", [1, 3])
def test_a_server_that_ends_at_once_is_not_waited_for(
    code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code 3 may be a port in use, for which there is one more try; Prefect would try for ever."""
    started: list[int] = []

    def end(_: SubprocessASGIServer) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({code})"])
        started.append(process.pid)
        return process

    monkeypatch.setattr(SubprocessASGIServer, "_run_uvicorn_command", end)
    monkeypatch.setattr(SubprocessASGIServer, "_instances", {})
    said = refused(ServiceError, home=folder, database=f"sqlite+aiosqlite:///{folder}/p.db")
    assert f"ended with exit code {code}" in said
    assert len(started) == (2 if code == 3 else 1)


def test_a_server_of_retunes_own_ends_with_a_command_that_is_killed(folder: Path) -> None:
    """Prefect stops it as the command leaves, which one that is killed alone does not come to."""
    script = (
        "import os\n"
        "from prefect.server.api.server import SubprocessASGIServer\n"
        "from retune.cli.services.prefect_api import _bounded_server\n"
        "class Running: pid = int(os.environ['SERVER'])\n"
        "SubprocessASGIServer._run_uvicorn_command = lambda _: Running()\n"
        "_bounded_server()._run_uvicorn_command()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]) as server:
        around = {**os.environ, "PREFECT_HOME": str(folder), "SERVER": str(server.pid)}
        done = subprocess.run([sys.executable, "-c", script], env=around, check=False)
        assert done.returncode == -9
        assert server.wait(GUARD_SECONDS) < 0


@pytest.mark.parametrize("name", [".env", "prefect.toml", "pyproject.toml"])
def test_a_foreign_file_that_is_no_utf8_is_named(name: str, folder: Path) -> None:
    """Prefect reads these of the current folder, whosever they are."""
    (folder / name).write_bytes("NOME=a\xe7\xe3o\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=re.escape(str(folder / name))):
        read_prefect_settings()


@pytest.mark.parametrize("name", ["prefect.toml", "pyproject.toml"])
def test_a_foreign_file_that_is_no_toml_is_named(name: str, folder: Path) -> None:
    """Prefect would raise an error of its own library."""
    (folder / name).write_text("[tool.prefect\n")
    with pytest.raises(ConfigError, match=r"no TOML.*start from another folder"):
        read_prefect_settings()


@pytest.mark.parametrize("content", [b'active = "x\n[[', b'active = "\xff"'])
def test_broken_profiles_are_named(content: bytes, folder: Path) -> None:
    """The file stands in the message, whether it is no TOML or no UTF-8."""
    os.environ["PREFECT_HOME"] = str(folder)
    (folder / "profiles.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"profiles\.toml: Prefect's profiles cannot be read"):
        read_prefect_settings()


def test_a_profile_that_is_missing_is_no_other_profile() -> None:
    """Prefect takes the default one, which may be another server."""
    os.environ["PREFECT_PROFILE"] = "nowhere"
    with pytest.raises(ConfigError, match=r"PREFECT_PROFILE: .*'nowhere'; found .*ephemeral"):
        read_prefect_settings()


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_value_that_prefect_refuses_is_named_by_its_variable(place: str, folder: Path) -> None:
    """Prefect names the field of a section, which no user has written."""
    if place == ".env":
        (folder / ".env").write_text("not a line ((\nPREFECT_API_REQUEST_TIMEOUT=soon\n")
    else:
        os.environ["PREFECT_API_REQUEST_TIMEOUT"] = "soon"
    with pytest.raises(ValidationError) as caught:
        prefect.settings.Settings()
    said = prefect_settings.explain(caught.value)
    assert "PREFECT_API_REQUEST_TIMEOUT (in " in said
    assert place in said
    assert "found soon" in said


def test_it_is_said_where_a_setting_was_made(folder: Path) -> None:
    """In the order in which Prefect lets one win over the other."""
    assert "profile" in say_where("PREFECT_API_URL")
    (folder / "pyproject.toml").write_text("[tool.prefect.api]\nurl = 'http://x'\n")
    assert say_where("PREFECT_API_URL") == f"in {folder}/pyproject.toml"
    (folder / ".env").write_text("PREFECT_API_URL=http://y\n")
    assert say_where("PREFECT_API_URL") == f"in {folder}/.env"
    os.environ["PREFECT_API_URL"] = "http://z"
    assert say_where("PREFECT_API_URL") == "in the environment"
