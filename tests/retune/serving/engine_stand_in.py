"""An OpenAI-compatible engine in the test process, which answers by rule and errs when told to."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

END = 256
"""Of the tokenizer that `write_model` writes: one token per byte, and this one."""
LETTER = 64
"""Of the letter a."""
Fault = Literal[
    "none",
    "error",
    "error event",
    "cut",
    "gone",
    "garbage",
    "other prompt",
    "no prompt",
    "no ids",
    "no logprobs",
    "texts",
    "own end",
    "short",
    "end told alone",
    "endless",
    "silent",
]


def backwards(prompt: Sequence[int]) -> list[int]:
    """Return the rule's greedy answer: the prompt backwards, and the end token."""
    return [*reversed(prompt), END]


def drawn(seed: int | None, count: int) -> list[int]:
    """Return what is drawn for a seed."""
    chance = random.Random(seed)
    return [chance.randrange(LETTER, LETTER + 26) for _ in range(count)]


class StandInEngine:
    """What the engine holds, and how it errs.

    Attributes:
        model: The name that it serves.
        root: Where the model came from.
        context: Most tokens that it reads and writes; None where it does not say.
        key: That it wants; empty for none.
        version: Of its software; empty where it does not say.
        rule: Gives the greedy answer to a prompt, with the end token where one comes.
        end: Id of that.
        stored: Answers that are not the rule's, by their prompts.
        breaks: How often it errs on a prompt before it answers.
        finds: A name under which it has the model once it was asked for it; empty for none.
        fault: What it does wrongly.
        asked: Bodies of completions, in the order they came.
        broken_off: Answers whose client closed the connection.
    """

    def __init__(self, port: int = 0) -> None:
        self.model, self.root, self.key = "m", "weights", ""
        self.finds, self.version = "", ""
        self.rule: Callable[[Sequence[int]], list[int]] = backwards
        self.end = END
        self.breaks: dict[tuple[int, ...], int] = {}
        self.context: int | None = 4096
        self.stored: dict[tuple[int, ...], Any] = {}
        self.fault: Fault = "none"
        self.asked: list[dict[str, Any]] = []
        self.broken_off = 0
        self.ended = threading.Event()
        self.connections: set[socket.socket] = set()
        self.server = _Server(("127.0.0.1", port), _Handler)
        self.server.engine = self
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        """End it, with whatever it answers."""
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
        for each in list(self.connections):
            each.close()


@contextmanager
def standing_in(port: int = 0) -> Iterator[StandInEngine]:
    """Run an engine."""
    engine = StandInEngine(port)
    try:
        yield engine
    finally:
        engine.close()


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False
    engine: StandInEngine

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.engine.connections.add(self.connection)

    def finish(self) -> None:
        self.server.engine.connections.discard(self.connection)
        super().finish()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        engine = self.server.engine
        if self._refuse_key():
            return
        if self.path == "/version":
            self._send(200 if engine.version else 404, {"version": engine.version})
            return
        card = {"id": engine.model, "root": engine.root, "max_model_len": engine.context}
        self._send(200, {"object": "list", "data": [card]})

    def do_POST(self) -> None:
        engine = self.server.engine
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._refuse_key():
            return
        engine.asked.append(body)
        if body["model"] == engine.finds:
            engine.model = engine.finds
        if body["model"] != engine.model:
            self._send(404, {"error": {"message": "no such model"}})
        elif engine.fault == "error" or self._breaks(engine, tuple(body["prompt"])):
            self._send(500, {"error": {"message": "the kernel broke"}})
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                self._answer(engine, body)
            except OSError:
                engine.broken_off += 1

    def _refuse_key(self) -> bool:
        wanted = self.server.engine.key
        if not wanted or self.headers.get("Authorization") == f"Bearer {wanted}":
            return False
        self._send(401, {"error": "Unauthorized"})
        return True

    @staticmethod
    def _breaks(engine: StandInEngine, prompt: tuple[int, ...]) -> bool:
        left = engine.breaks.get(prompt, 0)
        engine.breaks[prompt] = left - 1
        return left > 0

    def _send(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def _event(self, value: object) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def _answer(self, engine: StandInEngine, body: dict[str, Any]) -> None:
        if engine.fault == "error event":
            self._event({"error": {"message": "the engine is dead"}})
            return
        if engine.fault == "silent":
            engine.ended.wait()
            return
        if engine.fault == "garbage":
            self.wfile.write(b"data: {not json\n\n")
            return
        prompt, most = body["prompt"], body["max_tokens"]
        ids = engine.rule(prompt) if body["temperature"] == 0 else drawn(body.get("seed"), most)
        if tuple(prompt) in engine.stored:
            ids = [*engine.stored[tuple(prompt)], END]
        ids = ids[:most]
        if engine.fault == "short":
            ids = ids[:1]
        sent = 0
        while engine.fault == "endless":
            self._event(_chunk(body, prompt, [LETTER], "none", first=not sent))
            sent += 1
            time.sleep(0.002)
        for at, token in enumerate(ids):
            if at == 1 and engine.fault in ("cut", "gone"):
                if engine.fault == "gone":
                    engine.server.socket.close()
                return
            if token == engine.end and engine.fault in ("own end", "end told alone"):
                break
            self._event(_chunk(body, prompt, [token], engine.fault, first=at == 0))
        reason = "stop" if engine.end in ids else "length"
        stop = engine.end if reason == "stop" and engine.fault != "own end" else None
        self._event({"choices": [{"text": "", "token_ids": [], **_ended(reason, stop)}]})
        self._event({"choices": [], "usage": {"prompt_tokens": len(prompt)}})
        self.wfile.write(b"data: [DONE]\n\n")


def _ended(reason: str, stop: int | None) -> dict[str, Any]:
    return {"finish_reason": reason, "stop_reason": stop}


def _chunk(
    body: dict[str, Any], prompt: list[int], ids: list[int], fault: str, *, first: bool
) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "text": "?", "finish_reason": None}
    if first and fault != "no prompt":
        choice["prompt_token_ids"] = prompt[1:] if fault == "other prompt" else prompt
    if fault != "no ids":
        choice["token_ids"] = ids
    top = body.get("logprobs")
    if top is not None and fault != "no logprobs":
        name = "{}" if fault == "texts" else "token_id:{}"
        # The chosen token is none of the likeliest, and stands before them nevertheless.
        likeliest = {name.format(other): -0.25 * (other + 1) for other in range(top)}
        choice["logprobs"] = {
            "tokens": [name.format(each) for each in ids],
            "token_logprobs": [-9.0] * len(ids),
            "top_logprobs": [{name.format(each): -9.0, **likeliest} for each in ids],
        }
    return {"choices": [choice]}
