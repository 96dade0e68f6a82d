"""Errors as the OpenAI API has them, for everything that can go wrong with a request."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import ValidationError

TOO_BUSY_SECONDS = 1
RESTART_SECONDS = 5


class Refusal(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status.
        message: For a person: what was found, and what was expected.
        code: For a program.
        param: Field of the request at fault.
        retry_after: Seconds after which another try makes sense.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.param, self.retry_after = param, retry_after

    def as_object(self) -> dict[str, Any]:
        """Return the body: ``{"error": {"message", "type", "param", "code"}}``."""
        return {
            "error": {
                "message": self.message,
                "type": _type_of(self.status),
                "param": self.param,
                "code": self.code,
            }
        }

    @property
    def headers(self) -> dict[str, str]:
        """Return what goes with it."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def _type_of(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def too_busy(limit: int) -> Refusal:
    """Return what a request is told for which there is no place in the queue."""
    return Refusal(
        429,
        f"{limit} requests are being answered or wait already. Try again later.",
        "queue_full",
        retry_after=TOO_BUSY_SECONDS,
    )


def rate_limited(what: Literal["requests", "tokens"], a_minute: int, seconds: int) -> Refusal:
    """Return what the holder of a key is told who asked for as much as a minute allows.

    Args:
        what: What there were too many of.
        a_minute: How many the key has.
        seconds: Until there is room for this request.
    """
    return Refusal(
        429,
        f"this key has {a_minute} {what} a minute, and this request goes beyond them. Try again "
        f"in {seconds} s.",
        f"{what}_rate_limit_exceeded",
        retry_after=seconds,
    )


def not_ready(reason: str) -> Refusal:
    """Return what a request is told while no model is loaded and proved."""
    return Refusal(
        503, f"no model can answer now: {reason}", "not_ready", retry_after=RESTART_SECONDS
    )


def lost() -> Refusal:
    """Return what the requests are told that a process was computing when it died."""
    return Refusal(
        503,
        "the process that computed this answer died; it is being started again. Ask once more.",
        "worker_died",
        retry_after=RESTART_SECONDS,
    )


def engine_away(reason: str) -> Refusal:
    """Return what the requests are told whose engine elsewhere cannot be asked any more.

    Args:
        reason: Why.
    """
    return Refusal(503, f"{reason}. Ask once more.", "engine_away", retry_after=RESTART_SECONDS)


def client_gone() -> Refusal:
    """Return how a request ends that nobody waits for any more; it is counted, and not sent."""
    return Refusal(499, "the client went away", "client_gone")


def not_kept(judged: Literal["unknown", "often", "full"]) -> Refusal:
    """Return what a client is told whose judgement of an answer is not kept.

    Args:
        judged: Why.
    """
    match judged:
        case "unknown":
            why = "no such request is kept: it was not in the sample, or is too long ago"
            return Refusal(404, why, "request_not_found", param="id")
        case "often":
            why = "this request was judged as often as one may"
            return Refusal(409, why, "judged_too_often", param="id")
        case "full":
            why = "the files of what clients say are full (--log-bytes, --log-files); move them"
            return Refusal(507, why, "log_full")


_KIND = re.compile(r"function-|.*\[|(str|int|float|bool|none)$")
"""Names of kinds in a place of pydantic's, which are no part of a request."""


def unreadable(error: ValidationError) -> Refusal:
    """Return what a body is told that is no request, by its first fault.

    Args:
        error: Of pydantic; its values are not repeated.
    """
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    # Where a field takes several kinds, pydantic's place also names the kind that it tried last.
    field = ".".join(str(part) for part in first["loc"] if not _KIND.match(str(part)))
    match first["type"]:
        case "json_invalid":
            return Refusal(400, f"the body is no JSON: {first['msg']}", "invalid_json")
        case "extra_forbidden":
            why = f"{field} is not supported by this server, and it is not ignored; leave it out"
            return Refusal(400, why, "unsupported_parameter", param=field)
        case "missing":
            return Refusal(400, f"{field} is missing", "missing_parameter", param=field)
    told = first["msg"].removeprefix("Value error, ")
    return Refusal(400, f"{field or 'the body'}: {told}", "invalid_value", param=field or None)
