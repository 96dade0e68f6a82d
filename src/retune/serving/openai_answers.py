"""What was computed, in the types of the `openai` package."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from openai.types import Completion, CompletionChoice, CompletionUsage, Model
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessage,
    ChatCompletionTokenLogprob,
)
from openai.types.chat.chat_completion import Choice as ChatChoice
from openai.types.chat.chat_completion import ChoiceLogprobs as ChatLogprobs
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from openai.types.chat.chat_completion_chunk import ChoiceLogprobs as ChunkLogprobs
from openai.types.chat.chat_completion_token_logprob import TopLogprob
from openai.types.completion_choice import Logprobs

from retune.serving.messages import Delta, Finished, TokenLogprob, Tried

OWNER = "retune"


def describe_model(name: str, created: int) -> Model:
    """Return a line of ``/v1/models``."""
    return Model(id=name, created=created, object="model", owned_by=OWNER)


def count_usage(finished: Sequence[Finished]) -> CompletionUsage:
    """Add up the choices of a request; its prompt counts once."""
    prompt = finished[0].prompt_tokens if finished else 0
    written = sum(each.tokens for each in finished)
    return CompletionUsage(
        prompt_tokens=prompt, completion_tokens=written, total_tokens=prompt + written
    )


class ChatAnswers:
    """Answers of ``/v1/chat/completions``.

    Args:
        request: Id of the request.
        model: Name of the model.
        logprobs: Whether they were asked for.
    """

    def __init__(self, request: str, model: str, *, logprobs: bool) -> None:
        self._id, self._model, self._logprobs = f"chatcmpl-{request}", model, logprobs
        self._created = int(time.time())

    def whole(self, finished: Sequence[Finished], tried: Sequence[Tried] = ()) -> ChatCompletion:
        """Return the answer of a request without a stream."""
        whole = ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            object="chat.completion",
            choices=[
                ChatChoice(
                    index=each.choice,
                    finish_reason=each.reason,
                    message=ChatCompletionMessage(role="assistant", content=each.text),
                    logprobs=ChatLogprobs(content=_chat_logprobs(each.logprobs))
                    if self._logprobs
                    else None,
                )
                for each in sorted(finished, key=lambda each: each.choice)
            ],
            usage=count_usage(finished),
        )
        return _with_validation(whole, tried)

    def opening(self, choice: int) -> ChatCompletionChunk:
        """Return the first chunk of a choice, which says whose turn it is."""
        return self._chunk(
            [ChunkChoice(index=choice, delta=ChoiceDelta(role="assistant", content=""))]
        )

    def chunk(self, report: Delta | Finished) -> ChatCompletionChunk:
        """Return what came of a choice."""
        logprobs = ChunkLogprobs(content=_chat_logprobs(report.logprobs))
        return self._chunk(
            [
                ChunkChoice(
                    index=report.choice,
                    delta=ChoiceDelta(content=report.text),
                    finish_reason=report.reason if isinstance(report, Finished) else None,
                    logprobs=logprobs if self._logprobs else None,
                )
            ]
        )

    def tried(self, report: Tried) -> ChatCompletionChunk:
        """Return the chunk that says what became of the query of a choice."""
        told = self._chunk([ChunkChoice(index=report.choice, delta=ChoiceDelta())])
        return _with_validation(told, [report])

    def usage(self, finished: Sequence[Finished]) -> ChatCompletionChunk:
        """Return the chunk that ends a stream with what it took."""
        return self._chunk([], count_usage(finished))

    def _chunk(
        self, choices: list[ChunkChoice], usage: CompletionUsage | None = None
    ) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=self._id,
            created=self._created,
            model=self._model,
            object="chat.completion.chunk",
            choices=choices,
            usage=usage,
        )


class TextAnswers:
    """Answers of ``/v1/completions``; arguments as those of `ChatAnswers`."""

    def __init__(self, request: str, model: str, *, logprobs: bool) -> None:
        self._id, self._model, self._logprobs = f"cmpl-{request}", model, logprobs
        self._created = int(time.time())
        self._offsets: dict[int, int] = {}

    def whole(self, finished: Sequence[Finished], tried: Sequence[Tried] = ()) -> Completion:
        """Return the answer of a request without a stream."""
        assert not tried  # A text is no chat: its request has no `validate`.
        ordered = sorted(finished, key=lambda each: each.choice)
        return self._completion([self._choice(each) for each in ordered], count_usage(finished))

    def tried(self, report: Tried) -> Completion:
        """Refuse: a text is not tried as a query."""
        raise AssertionError(report)

    def opening(self, choice: int) -> None:
        """Return nothing: a text begins with its first characters."""
        return

    def chunk(self, report: Delta | Finished) -> Completion:
        """Return what came of a choice."""
        return self._completion([self._choice(report)])

    def usage(self, finished: Sequence[Finished]) -> Completion:
        """Return the chunk that ends a stream with what it took."""
        return self._completion([], count_usage(finished))

    def _choice(self, report: Delta | Finished) -> CompletionChoice:
        choice = CompletionChoice(
            index=report.choice,
            text=report.text,
            finish_reason=report.reason if isinstance(report, Finished) else "stop",
            logprobs=self._text_logprobs(report) if self._logprobs else None,
        )
        if isinstance(report, Delta):
            # The type has no place for a choice that goes on; the API sends null.
            choice.finish_reason = None  # type: ignore[assignment]
        return choice

    def _text_logprobs(self, report: Delta | Finished) -> Logprobs:
        at = self._offsets.get(report.choice, 0)
        offsets = []
        for each in report.logprobs:
            offsets.append(at)
            at += len(each.token)
        self._offsets[report.choice] = at
        return Logprobs(
            tokens=[each.token for each in report.logprobs],
            token_logprobs=[each.logprob for each in report.logprobs],
            top_logprobs=[dict(each.top) for each in report.logprobs],
            text_offset=offsets,
        )

    def _completion(
        self, choices: list[CompletionChoice], usage: CompletionUsage | None = None
    ) -> Completion:
        return Completion(
            id=self._id,
            created=self._created,
            model=self._model,
            object="text_completion",
            choices=choices,
            usage=usage,
        )


Chat = TypeVar("Chat", ChatCompletion, ChatCompletionChunk)


def _with_validation(chat: Chat, tried: Sequence[Tried]) -> Chat:
    """Put what became of queries beside their choices, as a field that the API does not have."""
    if not tried:
        return chat
    body = chat.model_dump()
    shown = {report.choice: report.shown.model_dump(mode="json") for report in tried}
    for choice in body["choices"]:
        choice["validation"] = shown[choice["index"]]
    return type(chat).model_validate(body)


def _chat_logprobs(tokens: Sequence[TokenLogprob]) -> list[ChatCompletionTokenLogprob]:
    return [
        ChatCompletionTokenLogprob(
            token=each.token,
            logprob=each.logprob,
            bytes=list(each.token.encode()),
            top_logprobs=[
                TopLogprob(token=token, logprob=value, bytes=list(token.encode()))
                for token, value in each.top
            ],
        )
        for each in tokens
    ]
