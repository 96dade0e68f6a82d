"""What is said to an OpenAI-compatible engine for one answer, and how its events are read.

The engine is given token ids and tells token ids: templates, end tokens and texts stay here. It is
told the neutral value of every setting that it might have a default of its own for. The fields
beyond OpenAI's are vLLM's (``return_token_ids``, ``stop_token_ids``, ``ignore_eos``, ``top_k``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from retune.inference.jobs import GREEDY_BELOW, IMPOSSIBLE, Chosen, Job

_TOKEN = "token_id:"
_SHOWN = 200


class EngineFault(Exception):
    """The engine answers one request wrongly, or not at all; the message says how."""


class _Logprobs(BaseModel):
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(BaseModel):
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    text: str = ""
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class _Event(BaseModel):
    choices: list[_Choice] = Field(max_length=1)


def completion_body(job: Job, model: str, end_ids: Sequence[int]) -> dict[str, Any]:
    """Return the body of ``/v1/completions`` for one answer.

    Args:
        job: The answer.
        model: Name of the model at the engine.
        end_ids: Ids that end an answer.
    """
    drawn = job.temperature >= GREEDY_BELOW
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(job.prompt_ids),
        "max_tokens": job.max_tokens,
        "temperature": job.temperature if drawn else 0.0,
        "top_p": job.top_p if drawn else 1.0,
        "stream": True,
        "return_token_ids": True,
        # These alone end an answer, not what the engine read from the model's own files.
        "stop_token_ids": list(end_ids),
        "ignore_eos": True,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    if drawn and job.seed is not None:
        body["seed"] = job.seed
    if job.top_logprobs is not None:
        body |= {"logprobs": job.top_logprobs, "return_tokens_as_token_ids": True}
    return body


class EventReader:
    """Reads the events of one answer, and gives its tokens to whoever waits for it.

    Args:
        job: The answer.
        end_ids: Ids that end it.
    """

    def __init__(self, job: Job, end_ids: Sequence[int]) -> None:
        self._job, self._ends = job, frozenset(end_ids)
        self._prompt_seen = False

    def take(self, line: str) -> None:
        """Take one line of the stream.

        Args:
            line: Without its end; one that holds no data is passed over.

        Raises:
            EngineFault: It tells of an error, or is not what was asked for.
        """
        name, _, data = line.partition(":")
        data = data.strip()
        if name != "data" or data == "[DONE]" or self._job.ended:
            return
        for choice in _read_event(data).choices:
            self._check_prompt(choice)
            for chosen in _read_tokens(choice, self._job.top_logprobs):
                self._job.accept(chosen)
                if self._job.ended:
                    return
            if choice.finish_reason is not None:
                self._end(choice)

    def close(self) -> None:
        """Say that the stream has ended.

        Raises:
            EngineFault: The answer has not.
        """
        if not self._job.ended:
            raise EngineFault(f"the engine broke the answer off after {self._job.taken} tokens")

    def _check_prompt(self, choice: _Choice) -> None:
        if choice.prompt_token_ids is not None:
            self._prompt_seen = True
            if choice.prompt_token_ids != list(self._job.prompt_ids):
                raise EngineFault("the engine read another prompt than it was sent")
        elif not self._prompt_seen:
            raise EngineFault(
                "the engine does not tell which token ids it read (return_token_ids), so that "
                "nothing proves that it continues what was asked; vLLM tells them"
            )

    def _end(self, choice: _Choice) -> None:
        """Take the engine's word for it that an answer has ended, where it says by what."""
        if choice.finish_reason == "stop" and choice.stop_reason in self._ends:
            # Some leave the end token out, and say that it came.
            self._job.accept(Chosen(int(choice.stop_reason)))
            return
        by = choice.finish_reason
        by = f"{by}: {choice.stop_reason!r:.40}" if choice.stop_reason is not None else by
        raise EngineFault(
            f"the engine ended the answer by itself after {self._job.taken} of "
            f"{self._job.max_tokens} tokens ({by}), with no token that ends one"
        )


def _read_event(data: str) -> _Event:
    try:
        found = json.loads(data)
        if isinstance(found, dict) and (found.get("error") or found.get("object") == "error"):
            raise EngineFault(f"the engine's error: {told_error(found)}")
        return _Event.model_validate(found)
    except (json.JSONDecodeError, ValidationError) as error:
        # Not its text, which repeats what was answered.
        raise EngineFault(
            f"the engine sent what is no completion ({type(error).__name__})"
        ) from None


def told_error(body: object) -> str:
    """Return the message of an error object of the OpenAI API, whatever its form.

    Args:
        body: JSON value.
    """
    inner = body.get("error", body) if isinstance(body, dict) else body
    message = inner.get("message", inner) if isinstance(inner, dict) else inner
    return str(message)[:_SHOWN]


def _read_tokens(choice: _Choice, top: int | None) -> list[Chosen]:
    ids = choice.token_ids
    if ids is None:
        raise EngineFault("the engine does not tell the token ids of an answer (return_token_ids)")
    if top is None or not ids:
        return [Chosen(each) for each in ids]
    logprobs = choice.logprobs
    tops = (logprobs and logprobs.top_logprobs) or [None] * len(ids)
    if logprobs is None or not len(logprobs.token_logprobs) == len(tops) == len(ids):
        raise EngineFault("the engine does not tell the log-probabilities that were asked for")
    return [
        _with_logprob(token, value, likeliest, top)
        for token, value, likeliest in zip(ids, logprobs.token_logprobs, tops, strict=True)
    ]


def _with_logprob(
    token: int, value: float | None, likeliest: dict[str, float] | None, top: int
) -> Chosen:
    # The chosen token stands among them too, whether or not it is one of the likeliest.
    ordered = sorted((likeliest or {}).items(), key=lambda each: -each[1])[:top]
    if value is None or len(ordered) < top:
        raise EngineFault("the engine does not tell the log-probabilities that were asked for")
    return Chosen(
        token,
        max(value, IMPOSSIBLE),
        tuple((_token_id(name), max(each, IMPOSSIBLE)) for name, each in ordered),
    )


def _token_id(name: str) -> int:
    digits = name.removeprefix(_TOKEN)
    if digits == name or not digits.isdecimal():
        raise EngineFault(
            "the engine names likeliest tokens by their texts, which two tokens may share "
            "(return_tokens_as_token_ids)"
        )
    return int(digits)
