"""A proxy in front of a server that tests make go away, fail, or take its time, and come back."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

State = Literal["well", "away", "failing", "slow"]

_FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class FaultyProxy:
    """Passes bytes on to a server, until it is told otherwise.

    Args:
        address: Of the server: ``http://HOST:PORT/PATH``.
        delay: Seconds that each answer takes while it is slow.

    Attributes:
        address: Its own, with the same path.
    """

    def __init__(self, address: str, *, delay: float = 0.0) -> None:
        parts = urlsplit(address)
        assert parts.hostname is not None and parts.port is not None
        self._server = (parts.hostname, parts.port)
        self._delay = delay
        self._state: State = "well"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._turns: tuple[Callable[[], object], State, float | None] | None = None
        # Keeps the port while nobody listens there, so that nobody else is given it.
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind(("127.0.0.1", 0))
        self._port = self._holder.getsockname()[1]
        self._listening = self._listen()
        self.address = f"http://127.0.0.1:{self._port}{parts.path}"
        self._accept_in_thread()

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.turn("away")
        self._holder.close()

    def turn_when(
        self,
        condition: Callable[[], object],
        state: State = "away",
        *,
        well_after: float | None = None,
    ) -> None:
        """Turn on the first request that finds a condition true, before it is passed on.

        Args:
            condition: Is asked at each piece that a client sends.
            state: What it does from then on.
            well_after: Seconds after which all is well again; None for never.
        """
        self._turns = condition, state, well_after

    def turn(self, state: State) -> None:
        """Change what it does; what is connected is cut off."""
        before, self._state = self._state, state
        if state == "away" and before != "away":
            # Closing alone leaves the thread that accepts with a socket that still listens.
            with contextlib.suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
        elif before == "away" and state != "away":
            self._listening = self._listen()
            self._accept_in_thread()
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", self._port), reuse_port=True)

    def _accept_in_thread(self) -> None:
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self._state == "failing":
                with contextlib.suppress(OSError):
                    client.recv(65536)
                    client.sendall(_FAILURE)
                return
            with contextlib.suppress(OSError), socket.create_connection(self._server) as server:
                with self._lock:
                    self._open |= {client, server}
                back = threading.Thread(target=self._pass_on, args=(server, client), daemon=True)
                back.start()
                self._pass_on(client, server, asked=True)
                back.join()
                with self._lock:
                    self._open -= {client, server}

    def _pass_on(
        self, source: socket.socket, target: socket.socket, *, asked: bool = False
    ) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                turns = self._turns
                if asked and turns is not None and turns[0]():
                    self._turns, (_, state, well_after) = None, turns
                    self.turn(state)
                    if well_after is not None:
                        threading.Timer(well_after, self.turn, ("well",)).start()
                    break
                if self._state == "slow" and not asked:
                    time.sleep(self._delay)
                target.sendall(piece)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
