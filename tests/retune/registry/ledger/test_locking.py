"""One writer at a time for a model, whoever left the lock behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from retune.errors import ServiceError
from retune.registry.ledger import locking
from retune.registry.ledger.locking import LOCK_PREFIX, hold_model
from retune.tracking import connect, default_uri
from tests.serving import copy_tracking_database


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("store")
    copy_tracking_database(folder)
    return default_uri(folder)


def leave_lock(uri: str, name: str, host: str, process_id: int, started: float) -> None:
    holder = json.dumps([host, process_id, started, "token"])
    connect(uri).create_registered_model(LOCK_PREFIX + name, tags={"retune.holder": holder})


def locks(uri: str) -> list[str]:
    found = [each.name for each in connect(uri).search_registered_models()]
    return [each for each in found if each.startswith(LOCK_PREFIX)]


def test_a_block_within_a_block_holds_the_same_lock_and_nothing_stays(uri: str, name: str) -> None:
    client = connect(uri)
    with hold_model(client, name):
        with hold_model(client, name):
            assert locks(uri) == [LOCK_PREFIX + name]
        assert locks(uri) == [LOCK_PREFIX + name]
    assert locks(uri) == []


def test_a_place_that_cannot_be_locked_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache folder is a file, so that no lock can lie in it; the server is not even asked."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    client = connect("http://127.0.0.1:1")
    with pytest.raises(ServiceError, match="cannot be locked"), hold_model(client, name):
        pass


def test_two_threads_are_never_inside_at_once(uri: str, name: str) -> None:
    inside, most = [], []

    def work() -> None:
        for _ in range(3):
            with hold_model(connect(uri), name):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 9


def test_a_lock_of_a_dead_process_of_this_machine_is_taken_over(uri: str, name: str) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    started = psutil.Process(ended.pid).create_time()
    ended.wait()
    leave_lock(uri, name, socket.gethostname(), ended.pid, started)

    with hold_model(connect(uri), name):
        pass
    assert locks(uri) == []


@pytest.mark.parametrize("host", ["another machine", socket.gethostname()])
def test_a_lock_of_somebody_who_may_live_is_left_alone_until_it_is_stale(
    uri: str, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    name = f"live-{host == socket.gethostname()}"
    leave_lock(uri, name, host, os.getpid(), psutil.Process().create_time())
    monkeypatch.setattr(locking, "_WAIT_SECONDS", 0.0)

    with (
        pytest.raises(ServiceError, match="others hold this model"),
        hold_model(connect(uri), name),
    ):
        pass
    assert locks(uri) == [LOCK_PREFIX + name]

    monkeypatch.setattr(locking, "_STALE_SECONDS", 0.0)
    monkeypatch.setattr(locking, "_WAIT_SECONDS", 60.0)
    with hold_model(connect(uri), name):
        pass
    assert locks(uri) == []
