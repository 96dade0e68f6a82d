"""One writer at a time for a registered model: MLflow itself has no compare-and-set.

Two locks are taken. A file lock keeps the processes of this machine apart and dies with its holder.
For servers that several machines share, a registered model named ``retune.lock.NAME`` stands while
it is held: MLflow makes one of a name once, whoever asks. One that its holder left behind is
recognised, at once where the holder was a process of this machine that is gone, else when it has
not changed for a minute of waiting, and taken over. What is done under it takes a second.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from filelock import FileLock, Timeout

from retune.digests import digest_json
from retune.errors import ServiceError
from retune.registry.mlflow_calls import is_absent, make_registered_model
from retune.tracking.addresses import is_sqlite, sqlite_path

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_PREFIX = "retune.lock."
"""Names of registered models that are locks, and no models."""

_HOLDER_TAG = "retune.holder"
_WAIT_SECONDS = 180.0
_STALE_SECONDS = 60.0
_LOOK_SECONDS = 0.2


@contextmanager
def hold_model(client: MlflowClient, name: str) -> Iterator[None]:
    """Hold a registered model for the length of a block; a block within one of the same thread too.

    Args:
        client: From `connect`.
        name: The registered model; need not exist.

    Yields:
        While no other process that asks this way changes it.

    Raises:
        ServiceError: Somebody else holds it and does not let go, or its file cannot be locked.
    """
    path = _lock_path(client.tracking_uri, name)
    lock = FileLock(path, is_singleton=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_WAIT_SECONDS)
    except Timeout as error:
        raise ServiceError(
            f"{name}: another process of this machine has held {path} for "
            f"{_WAIT_SECONDS:.0f} s. See what it does, end it if it hangs, and run again."
        ) from error
    except OSError as error:
        raise ServiceError(
            f"{name}: {path} cannot be locked ({error.strerror or error}), and without that two "
            "runs could both make a champion. Make its folder writable, or room on its disk, and "
            "run again."
        ) from error
    try:
        if lock.lock_counter > 1:
            yield
        else:
            with _hold_everywhere(client, name):
                yield
    finally:
        lock.release()


def _lock_path(uri: str, name: str) -> Path:
    if is_sqlite(uri):
        database = sqlite_path(uri)
        return database.with_name(f"{database.name}.{name}.lock")
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "retune" / "locks" / f"{digest_json([uri, name])[:32]}.lock"


@contextmanager
def _hold_everywhere(client: MlflowClient, name: str) -> Iterator[None]:
    lock, holder = LOCK_PREFIX + name, _describe_holder()
    _take(client, lock, holder)
    try:
        yield
    finally:
        _drop(client, lock, holder)


def _describe_holder() -> str:
    started = psutil.Process().create_time()
    return json.dumps([socket.gethostname(), os.getpid(), started, uuid.uuid4().hex])


def _take(client: MlflowClient, lock: str, holder: str) -> None:
    began = seen_since = time.monotonic()
    seen = ""
    while not make_registered_model(client, lock, {_HOLDER_TAG: holder}):
        other, now = _read_holder(client, lock), time.monotonic()
        if other == holder:
            return  # an answer of MLflow was lost, and asked for again
        if other != seen:
            seen, seen_since = other, now
        if other and (_is_gone(other) or now - seen_since > _STALE_SECONDS):
            _drop(client, lock, other)
        elif now - began > _WAIT_SECONDS:
            raise ServiceError(
                f"{lock.removeprefix(LOCK_PREFIX)}: others hold this model, now {other}, and have "
                f"for {_WAIT_SECONDS:.0f} s. If none of them runs, delete the registered model "
                f"{lock} in the MLflow UI, and run again."
            )
        else:
            time.sleep(_LOOK_SECONDS)


def _read_holder(client: MlflowClient, lock: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_registered_model(lock).tags.get(_HOLDER_TAG, "unknown"))
    except MlflowException as error:
        if is_absent(error):
            return ""
        raise


def _is_gone(holder: str) -> bool:
    try:
        host, process_id, started, _ = json.loads(holder)
    except ValueError:
        return False
    if host != socket.gethostname():
        return False
    try:
        return bool(abs(psutil.Process(process_id).create_time() - started) > 1)
    except psutil.NoSuchProcess:
        return True


def _drop(client: MlflowClient, lock: str, holder: str) -> None:
    from mlflow.exceptions import MlflowException

    # Whoever took it over in the meantime keeps it.
    try:
        if _read_holder(client, lock) == holder:
            client.delete_registered_model(lock)
    except MlflowException as error:
        # What was done under the lock is done; the next who wants it waits until it is stale.
        logging.getLogger(__name__).warning("%s was left behind: %s", lock, error)
