"""Clients that ask a server at the same time, over plain sockets, so that they take little.

Each request has a connection of its own: none fails because a server has closed an idle one.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where a server listens."""

    host: str
    port: int


class Told(NamedTuple):
    """What a server said to one request.

    Attributes:
        status: Of HTTP.
        seconds: From asking to the last byte.
        body: The whole answer; empty of a stream.
        events: Of a stream, each with its seconds since asking.
    """

    status: int
    seconds: float
    body: dict[str, Any]
    events: tuple[tuple[float, dict[str, Any]], ...] = ()

    @property
    def text(self) -> str:
        """What a chat answers, without white space around it, which one server leaves there."""
        if self.events:
            return "".join(_delta(event) for _, event in self.events).strip()
        return str(self.body["choices"][0]["message"]["content"]).strip()

    @property
    def first(self) -> float:
        """Seconds to the first text of a stream."""
        return next((at for at, event in self.events if _delta(event)), self.seconds)


def _delta(event: Mapping[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))


async def ask(place: Place, path: str, body: Mapping[str, Any]) -> Told:
    """Send one request, and read what comes of it.

    Args:
        place: Of the server.
        path: Of the route.
        body: As JSON.

    Raises:
        OSError: There is no connection, or it breaks off within the answer.
    """
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection(*place, limit=1 << 24)
    try:
        payload = json.dumps(body).encode()
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: localhost:{place.port}\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
        )
        writer.write(payload)
        status, headers = await _read_head(reader)
        pieces = _read_pieces(reader, headers)
        if headers.get("content-type", "").startswith("text/event-stream"):
            events = tuple([each async for each in _read_events(pieces, begun)])
            return Told(status, time.perf_counter() - begun, {}, events)
        text = b"".join([each async for each in pieces])
        return Told(status, time.perf_counter() - begun, json.loads(text))
    except asyncio.IncompleteReadError:
        raise ConnectionError("the server broke its answer off") from None
    finally:
        writer.close()


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    named = (line.partition(":") for line in lines[1:] if line)
    return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in named}


async def _read_pieces(
    reader: asyncio.StreamReader, headers: Mapping[str, str]
) -> AsyncIterator[bytes]:
    if headers.get("transfer-encoding") != "chunked":
        yield await reader.readexactly(int(headers["content-length"]))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]


async def _read_events(
    pieces: AsyncIterator[bytes], begun: float
) -> AsyncIterator[tuple[float, dict[str, Any]]]:
    left = b""
    async for piece in pieces:
        *lines, left = (left + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data: {"):
                yield time.perf_counter() - begun, json.loads(line[len(b"data: ") :])


async def ask_all(
    place: Place, path: str, bodies: Iterable[Mapping[str, Any]], clients: int
) -> list[Told]:
    """Let some clients ask until all is answered, each the next request that nobody has asked.

    Args:
        place: Of the server.
        path: Of the route.
        bodies: Of the requests.
        clients: How many ask at a time.

    Returns:
        What came of each, in the order of the requests.

    Raises:
        OSError: One got no answer.
    """
    waiting = enumerate(bodies)
    found: dict[int, Told] = {}

    async def be_client() -> None:
        for number, body in waiting:
            found[number] = await ask(place, path, body)

    await asyncio.gather(*(be_client() for _ in range(clients)))
    return [told for _, told in sorted(found.items())]


def percentile(figures: Sequence[float], percent: float) -> float:
    """Return the least figure that so many percent of all figures do not exceed.

    Args:
        figures: At least one.
        percent: Above 0, at most 100.
    """
    return sorted(figures)[math.ceil(percent / 100 * len(figures)) - 1]
