"""Answers that go out as they are written: server-sent events, for as long as one may take."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from retune.serving.messages import Ask, Classified, Finished, Told, Tried
from retune.serving.openai_answers import ChatAnswers, TextAnswers
from retune.serving.refusals import Refusal

LOG = logging.getLogger("retune.serving")


class TimedStream(StreamingResponse):
    """A stream that ends in time, whether or not its client reads.

    A client that reads slowly, or not at all, would keep its place and the process that answers.

    Args:
        events: What is sent.
        reports: What they are made of; closed with the stream.
        seconds: Until the connection is cut.
    """

    def __init__(
        self,
        events: AsyncGenerator[str, None],
        reports: AsyncGenerator[Any, None],
        seconds: float,
    ) -> None:
        super().__init__(
            events,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        self._events, self._reports, self._seconds = events, reports, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, as ASGI has it."""
        try:
            async with asyncio.timeout(self._seconds):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            LOG.info("%s is cut off: its client does not read", scope["state"]["id"])
        finally:
            await self._events.aclose()
            # By itself too: events that were never begun close nothing.
            await self._reports.aclose()


async def write_events(
    ask: Ask,
    answers: ChatAnswers | TextAnswers,
    first: Told | None,
    reports: AsyncGenerator[Told, None],
    *,
    usage: bool,
) -> AsyncGenerator[str, None]:
    """Yield an answer as events of the OpenAI API.

    Args:
        ask: The request.
        answers: Its form.
        first: The first report, taken before the stream began.
        reports: The others.
        usage: Whether the tokens are told at the end.
    """
    finished: list[Finished] = []
    try:
        for choice in range(ask.n):
            opening = answers.opening(choice)
            if opening is not None:
                yield _event(opening)
        report = first
        while report is not None:
            if isinstance(report, Tried):
                yield _event(answers.tried(report))
            elif not isinstance(report, Classified):
                yield _event(answers.chunk(report))
                finished += [report] if isinstance(report, Finished) else []
            report = await anext(reports, None)
    except Refusal as refusal:
        # Too late for a status: clients of the API look for an error among the events.
        yield f"data: {json.dumps(refusal.as_object())}\n\n"
        return
    finally:
        await reports.aclose()
    if usage:
        yield _event(answers.usage(finished))
    yield "data: [DONE]\n\n"


def _event(chunk: BaseModel) -> str:
    return f"data: {chunk.model_dump_json()}\n\n"
