"""The routes: those of the OpenAI API, of the guide, and of whoever watches the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from retune.data.formats.schemas import create_statements
from retune.serving.challenger import Challenger
from retune.serving.guard import Guard, add_handlers
from retune.serving.messages import Ask, Asked, Classified, Finished, ServedModel, Tried
from retune.serving.openai_answers import ChatAnswers, TextAnswers, describe_model
from retune.serving.orders import Order
from retune.serving.page import add_page
from retune.serving.refusals import Refusal, client_gone, not_kept, unreadable
from retune.serving.requests import (
    ChatRequest,
    ClassifyRequest,
    FeedbackRequest,
    GenerateRequest,
    Strict,
    TextRequest,
    Validated,
)
from retune.serving.server import Limits, Server
from retune.serving.streaming import TimedStream, write_events
from retune.serving.wording import ask_chat, refuse_unused_schema, usual_effort, word_question
from retune.sql.showing import Tables

Body = TypeVar("Body", bound=Strict)


async def read_body(request: Request, kind: type[Body], limits: Limits) -> Body:
    """Read and check a body.

    Only what says that it is JSON is read: a page of another origin can send a form or a plain
    text without asking the server first, and has to ask for this.

    Args:
        request: Whose body was not read yet.
        kind: What it has to be.
        limits: Bytes it may have, and seconds it may take.

    Raises:
        Refusal: It is too long, takes too long, is no JSON, or no such request; or the client
            leaves before its end.
    """
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent != "application/json":
        why = f"the body is of the type {sent[:80]!r}; send it as Content-Type: application/json"
        raise Refusal(415, why, "unsupported_media_type")
    try:
        async with asyncio.timeout(limits.seconds):
            body = await _read_bytes(request, limits.body_bytes)
    except TimeoutError:
        why = f"the body did not come within {limits.seconds:g} s"
        raise Refusal(408, why, "timeout") from None
    except ClientDisconnect:
        raise client_gone() from None
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise unreadable(error) from None


async def _read_bytes(request: Request, most: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise Refusal(413, f"the body has more than {most} bytes", "body_too_large")
    return bytes(body)


def build_app(server: Server) -> Guard:
    """Build the application.

    Args:
        server: What its routes share; started and stopped with it.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await server.start()
        yield
        await server.stop()

    app = FastAPI(title="retune serve", lifespan=lifespan, docs_url=None, redoc_url=None)
    add_handlers(app)
    _add_openai_routes(app, server)
    _add_plain_routes(app, server)
    _add_feedback_route(app, server)
    _add_watched_routes(app, server)
    add_page(app, server)
    return Guard(app, server)


def _described(kind: type[BaseModel]) -> dict[str, Any]:
    """Return what the OpenAPI document says of a body that is read by hand."""
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": kind.model_json_schema()}},
        }
    }


def _add_openai_routes(app: FastAPI, server: Server) -> None:
    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        models = [describe_model(name, server.created) for name in server.models]
        return {"object": "list", "data": [model.model_dump() for model in models]}

    @app.get("/v1/models/{name:path}")
    async def show_model(name: str) -> dict[str, Any]:
        if name not in server.models:
            raise Refusal(404, f"the model {name!r:.80} is not served here", "model_not_found")
        return describe_model(name, server.created).model_dump()

    @app.post("/v1/chat/completions", openapi_extra=_described(ChatRequest))
    async def complete_chat(request: Request) -> Response:
        body = await read_body(request, ChatRequest, server.limits)
        question = body.messages[-1].as_message()["content"]
        asked = await _read_question(question, body, server) if body.as_scored else None

        def ask_of(model: ServedModel) -> Ask:
            return ask_chat(model, body, asked, request.state.id)

        order = server.order(body.model, request.state.id, ask_of)
        server.check_limits(order.ask, body.limit_name)
        logprobs = order.ask.top_logprobs is not None
        answers = ChatAnswers(order.ask.id, _named(body.model, order), logprobs=logprobs)
        tables = server.validator.tables(body)
        return await _answer(
            server, order, answers, request, usage=body.include_usage, tables=tables
        )

    @app.post("/v1/completions", openapi_extra=_described(TextRequest))
    async def complete_text(request: Request) -> Response:
        body = await read_body(request, TextRequest, server.limits)
        ask = body.as_ask(request.state.id)
        order = server.order(body.model, ask.id, lambda _: ask)
        logprobs = ask.top_logprobs is not None
        answers = TextAnswers(ask.id, _named(body.model, order), logprobs=logprobs)
        return await _answer(server, order, answers, request, usage=body.include_usage)


def _named(asked: str, order: Order) -> str:
    """Return the name that an answer bears: the challenger's where it was asked for by name."""
    name = order.model.name
    return asked if asked.startswith(f"{name}@") else name


async def _read_question(text: str, body: Validated, server: Server) -> Asked:
    """Return what is asked, with the tables that it is about as rows show them.

    Raises:
        Refusal: The wording of the model's rows has no place for tables, or a database is unknown.
    """
    refuse_unused_schema(server.deployment.model, body)
    database = server.validator.find(body)
    if database is not None:
        return Asked(question=text, ddl=database.schema, script=database.schema)
    script = body.ddl or ""
    # A long script is read beside the other requests.
    ddl = await asyncio.to_thread(create_statements, script)
    return Asked(question=text, ddl=ddl or script, script=script)


async def _answer(
    server: Server,
    order: Order,
    answers: ChatAnswers | TextAnswers,
    request: Request,
    *,
    usage: bool,
    tables: Tables | None = None,
) -> Response:
    end = time.monotonic() + server.limits.held_seconds
    reports = server.reports(order, request, tables)
    if not order.ask.stream:
        found = [each async for each in reports]
        finished = [each for each in found if isinstance(each, Finished)]
        tried = [each for each in found if isinstance(each, Tried)]
        return JSONResponse(answers.whole(finished, tried).model_dump(mode="json"))
    # What is refused is refused before the stream begins, with its own status.
    first = await anext(reports, None)
    events = write_events(order.ask, answers, first, reports, usage=usage)
    return TimedStream(events, reports, end - time.monotonic())


def _add_plain_routes(app: FastAPI, server: Server) -> None:
    @app.post("/generate", openapi_extra=_described(GenerateRequest))
    async def generate(request: Request) -> dict[str, Any]:
        body = await read_body(request, GenerateRequest, server.limits)
        asked = await _read_question(body.prompt, body, server)

        def ask_of(model: ServedModel) -> Ask:
            return Ask(
                id=request.state.id,
                messages=word_question(model, asked),
                reasoning_effort=body.reasoning_effort or usual_effort(model),
                max_tokens=body.max_tokens,
                asked=asked,
            )

        tables = server.validator.tables(body)
        order = server.order(None, request.state.id, ask_of)
        found = [each async for each in server.reports(order, request, tables)]
        [answer] = [each for each in found if isinstance(each, Finished)]
        tried = [each.shown.model_dump(mode="json") for each in found if isinstance(each, Tried)]
        return {
            "id": order.ask.id,
            "text": answer.text,
            "finish_reason": answer.reason,
            "prompt_tokens": answer.prompt_tokens,
            "tokens": answer.tokens,
            "model": order.model.name,
            "version": order.model.version,
            **({"validation": tried[0]} if tried else {}),
        }

    @app.post("/classify", openapi_extra=_described(ClassifyRequest))
    async def classify(request: Request) -> dict[str, Any]:
        body = await read_body(request, ClassifyRequest, server.limits)
        asked = Asked(question=body.text)

        def ask_of(model: ServedModel) -> Ask:
            turns = word_question(model, asked)
            return Ask(id=request.state.id, messages=turns, classify=True, asked=asked)

        order = server.order(None, request.state.id, ask_of)
        found = [each async for each in server.reports(order, request)]
        [answer] = [each for each in found if isinstance(each, Classified)]
        return {
            "id": order.ask.id,
            "label": next(iter(answer.probabilities)),
            "probabilities": answer.probabilities,
            "model": order.model.name,
            "version": order.model.version,
        }


def _add_feedback_route(app: FastAPI, server: Server) -> None:
    @app.post("/v1/feedback", openapi_extra=_described(FeedbackRequest))
    async def take_feedback(request: Request) -> dict[str, Any]:
        body = await read_body(request, FeedbackRequest, server.limits)
        log = server.log
        if log is None:
            raise Refusal(404, "this server keeps no requests (--log-requests)", "not_logged")
        judged = await asyncio.to_thread(log.judge, body.request, body.rating, body.correction)
        if judged != "kept":
            raise not_kept(judged)
        return {"id": body.request, "rating": body.rating}


def _tell_challenger(challenger: Challenger) -> dict[str, Any]:
    told: dict[str, Any] = {"version": None, "status": "none"}
    if challenger.worker is not None:
        worker = challenger.worker
        told = {"version": worker.model.version, "status": worker.state}
    elif challenger.set_aside is not None:
        version, reason = challenger.set_aside
        told = {"version": version, "status": "set_aside", "reason": reason}
    return told | {"canary": challenger.trial.canary, "shadow": challenger.trial.shadow}


def _add_watched_routes(app: FastAPI, server: Server) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> Response:
        deployment = server.deployment
        current = deployment.current
        told: dict[str, Any] = {
            "status": current.state,
            "model": current.model.name,
            "address": current.model.address,
            "version": current.model.version,
        }
        if current.ready is not None:
            told |= {
                "engine": current.ready.engine,
                "context": current.ready.context,
                "proved": {
                    "chats": current.ready.renderings,
                    "answers": current.ready.answers,
                },
            }
        if current.reason:
            told["reason"] = current.reason
        if deployment.refused is not None:
            version, reason = deployment.refused
            told["refused"] = {"version": version, "reason": reason}
        if server.challenger is not None:
            told["challenger"] = _tell_challenger(server.challenger)
        if further := server.further.tell():
            told["further"] = further
        ready = all(each["status"] == "ready" for each in (told, *further))
        return JSONResponse(told, 200 if ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        server.gauge()
        return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)
