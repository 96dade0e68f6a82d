"""An OpenAI-compatible judge on this machine, which answers by rule and errs when told to."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

_SHOWN = re.compile(
    r"<(?:question|pergunta)>\n(.*?)\n</.*<(?:answer|resposta)_a>\n(.*?)\n</.*"
    r"<(?:answer|resposta)_b>\n(.*?)\n</",
    re.DOTALL,
)
READ, WRITTEN = 100, 10
"""Tokens that each answer is said to have taken."""


class Shown(NamedTuple):
    """What the judge is shown."""

    question: str
    a: str
    b: str


Rule = Callable[[Shown], str]
"""What it writes."""


def always_first(_: Shown) -> str:
    return "[[A]]"


def longer(shown: Shown) -> str:
    """The longer answer; of equally long ones none."""
    if len(shown.a) == len(shown.b):
        return "[[tie]]"
    return "It says more. [[A]]" if len(shown.a) > len(shown.b) else "It says more. [[B]]"


def nonsense(_: Shown) -> str:
    return "Both answers have their merits."


def preferring(rank: Callable[[str, str], float]) -> Rule:
    """The answer with the higher rank, which is made of question and answer."""

    def rule(shown: Shown) -> str:
        a, b = rank(shown.question, shown.a), rank(shown.question, shown.b)
        return "[[tie]]" if a == b else "[[A]]" if a > b else "[[B]]"

    return rule


class StandInJudge:
    """What it knows, and how it errs.

    Attributes:
        rule: How it judges.
        faults: Answers that come first, one each: a status with headers.
        stops_after: Judgements after which it hangs up on everybody; None: never.
        slow: Whether it never answers.
        asked: Questions that it has answered, in the order they came.
        keys: What requests had as authorization.
        requests: How many came.
        bodies: What they held.
    """

    def __init__(self) -> None:
        self.rule: Rule = nonsense
        self.faults: list[tuple[int, dict[str, str]]] = []
        self.stops_after: int | None = None
        self.slow = False
        self.asked: list[str] = []
        self.keys: list[str | None] = []
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.judge = self
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def requests(self) -> int:
        return len(self.bodies)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def close(self) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@contextmanager
def standing_in() -> Iterator[StandInJudge]:
    """Run a judge."""
    judge = StandInJudge()
    try:
        yield judge
    finally:
        judge.close()


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False
    judge: StandInJudge

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        judge = self.server.judge
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if judge.slow:
            judge.ended.wait()
            return
        with judge.lock:
            judge.bodies.append(body)
            judge.keys.append(self.headers["Authorization"])
            fault = judge.faults.pop(0) if judge.faults else None
            hangs_up = judge.stops_after is not None and len(judge.asked) >= judge.stops_after
            if fault is None and not hangs_up:
                judge.asked.append(body["messages"][-1]["content"])
        if fault is not None:
            key = self.headers["Authorization"]
            self._send(fault[0], {"error": {"message": f"not now, {key}"}}, fault[1])
        elif not hangs_up:
            self._answer(body["messages"][-1]["content"])

    def _answer(self, question: str) -> None:
        found = _SHOWN.search(question)
        assert found is not None, question
        message = {"role": "assistant", "content": self.server.judge.rule(Shown(*found.groups()))}
        body = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": "judge",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {
                "prompt_tokens": READ,
                "completion_tokens": WRITTEN,
                "total_tokens": READ + WRITTEN,
            },
        }
        self._send(200, body, {})

    def _send(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
