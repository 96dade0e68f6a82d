"""Waiting in tests: for a condition and never for a time, on a port that nobody else is given."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GUARD_SECONDS = 600.0
"""Ends a test that hangs. No machine is so busy that something which goes well takes as long."""

_FIRST_PORT, _PORTS_EACH = 20_000, 500
"""Below the range that Linux takes for outgoing connections (32768 to 60999)."""
_PORTS = itertools.count()


def wait_until(condition: Callable[[], object], *, what: str, every: float = 0.05) -> None:
    """Wait until a condition holds.

    Args:
        condition: Asked again and again.
        what: What is waited for, for the message.
        every: Seconds between two questions.

    Raises:
        AssertionError: It never did.
    """
    end = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(every)


def free_port() -> int:
    """Return a port for a server that is about to start.

    Each worker of pytest-xdist has a range of its own, and no port is given twice: between this
    call and the server's start no other test, and no outgoing connection, can take it.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for number in _PORTS:
        port = _FIRST_PORT + worker % 20 * _PORTS_EACH + (os.getpid() + number) % _PORTS_EACH
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("unreachable: there is always another number")


@contextmanager
def closed_port() -> Iterator[int]:
    """Hold a port at which nobody listens, so that nobody else can begin to."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])
