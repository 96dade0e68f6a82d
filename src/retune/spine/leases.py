"""Leases: one machine at a time computes a stage, where no file lock reaches from one to another.

A lease is an object that names its holder and a token, and that the holder writes anew while it
computes. Who finds one waits until it is gone, or has not changed for as long as it says that it
lives. That time is measured by whoever waits: clocks of two machines need not agree. A holder that
was out of reach for so long has lost it, and its work goes on: whichever of two artifacts of one
key is sealed first counts.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict, ValidationError

from retune.errors import RetuneError
from retune.spine.remote_objects import Found, RemoteObjects

LEASE_SECONDS = 60.0
"""How long a lease lives that nobody renews."""
_LOOKS = 20
"""How often who waits looks, while a lease lives."""
_LONGEST_LOOK_SECONDS = 3.0


class LeaseNote(BaseModel):
    """What stands in a lease."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    process: int
    cache: str
    """Tells the cache that the holder computes in; a file lock keeps the processes of one apart."""
    token: str
    seconds: float
    """How long it lives from when it was written."""
    beat: int = 0


@contextmanager
def hold_lease(
    objects: RemoteObjects,
    name: str,
    cache: str,
    tell: Callable[[str], object],
) -> Iterator[None]:
    """Hold a lease for the length of a block; wait while another holds it.

    Args:
        objects: Where it lies.
        name: The object's name.
        cache: Tells this machine's cache, of which the caller holds the file lock.
        tell: Is told once who is waited for, and when a lease is taken over.

    Yields:
        While no other machine that asks this way computes the same.

    Raises:
        ArtifactError: It may not be written.
        ServiceError: The server does not answer.
    """
    note = LeaseNote(
        host=socket.gethostname(),
        process=os.getpid(),
        cache=cache,
        token=uuid.uuid4().hex,
        seconds=LEASE_SECONDS,
    )
    _take(objects, name, note, tell)
    keeper = _Keeper(objects, name, note)
    keeper.start()
    try:
        yield
    finally:
        keeper.end()


def _take(
    objects: RemoteObjects, name: str, note: LeaseNote, tell: Callable[[str], object]
) -> None:
    content = note.model_dump_json().encode()
    last, since, told = b"", time.monotonic(), ""
    while not objects.create(name, content):
        found = objects.read(name)
        if found is None:
            continue
        other = _read_note(found)
        if found.content != last:
            last, since = found.content, time.monotonic()
        if _is_dead(other, note) or time.monotonic() - since > other.seconds:
            if objects.replace(name, content, found):
                tell(f"{_shown(other)} left its lease behind, and this run takes it over")
                return
            continue
        if other.token != told:
            tell(f"waiting for {_shown(other)}, which computes it")
            told = other.token
        time.sleep(min(other.seconds / _LOOKS, _LONGEST_LOOK_SECONDS))


def _is_dead(other: LeaseNote, note: LeaseNote) -> bool:
    # Whoever asks holds the file lock of this cache, so that nobody else computes in it.
    return (other.host, other.cache) == (note.host, note.cache)


def _read_note(found: Found) -> LeaseNote:
    try:
        return LeaseNote.model_validate_json(found.content)
    except ValidationError:
        # Of another version, or damaged: it is waited for like any other.
        return LeaseNote(host="?", process=0, cache="", token="?", seconds=LEASE_SECONDS)


def _shown(note: LeaseNote) -> str:
    return f"process {note.process} on {note.host}"


class _Keeper(threading.Thread):
    """Renews a lease until it is told to end."""

    def __init__(self, objects: RemoteObjects, name: str, note: LeaseNote) -> None:
        super().__init__(name=f"retune-{name}", daemon=True)
        self._objects, self._lease, self._note = objects, name, note
        self._ended = threading.Event()
        self._renewed = time.monotonic()

    def run(self) -> None:
        while not self._ended.wait(self._note.seconds / 3):
            try:
                if not self._renew():
                    return
            except RetuneError as error:
                # It is asked again; what the server's absence means is said where it is needed.
                logging.getLogger(__name__).warning("%s not renewed: %s", self._lease, error)

    def end(self) -> None:
        """Let the lease go."""
        self._ended.set()
        self.join()
        if time.monotonic() - self._renewed > self._note.seconds:
            return  # it may be somebody else's by now
        try:
            if self._own() is not None:
                self._objects.delete(self._lease)
        except RetuneError as error:
            # What was computed under it is sealed; the next who wants it waits until it is stale.
            logging.getLogger(__name__).warning("%s left behind: %s", self._lease, error)

    def _renew(self) -> bool:
        own = self._own()
        if own is None:
            return False
        self._note = self._note.model_copy(update={"beat": self._note.beat + 1})
        started = time.monotonic()
        if self._objects.replace(self._lease, self._note.model_dump_json().encode(), own):
            self._renewed = started
        return True

    def _own(self) -> Found | None:
        """Return the lease as it stands; None where it is no longer ours."""
        found = self._objects.read(self._lease)
        return found if found and _read_note(found).token == self._note.token else None
