"""Requests as the OpenAI API has them: a field is honoured, or refused by its name.

Fields whose only value here changes nothing (`frequency_penalty: 0`, `best_of: 1`) are taken with
that value, since clients send them unasked.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from retune.serving.messages import Ask

MOST_STOPS = 16
MOST_STOP_CHARACTERS = 256
MOST_CHOICES = 8


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise PydanticCustomError("nul", "holds a NUL character")
    return text


Text = Annotated[str, AfterValidator(_without_nul)]
Stop = Annotated[Text, Field(min_length=1, max_length=MOST_STOP_CHARACTERS)]
Stops = Annotated[list[Stop], Field(max_length=MOST_STOPS)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Zero = Annotated[Number, Field(ge=0, le=0)]
Effort = Literal["low", "medium", "high"]


class Strict(BaseModel):
    """Refuses unknown fields, and takes no text for a number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class TextPart(Strict):
    """A part of a message; other kinds than text are refused."""

    type: Literal["text"]
    text: Text


class ChatMessage(Strict):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1)]

    def as_message(self) -> dict[str, str]:
        """Return it as chat templates are given it; parts are joined by line breaks."""
        content = self.content
        if not isinstance(content, str):
            content = "\n".join(part.text for part in content)
        return {"role": self.role, "content": content}


class StreamOptions(Strict):
    """What a stream brings along."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Validated(Strict):
    """Whether the answer is tried as a query, and on what."""

    validates: bool | None = Field(default=None, alias="validate")
    ddl: Annotated[Text, Field(min_length=1)] | None = Field(default=None, alias="schema")
    """CREATE statements, with INSERT statements where rows are wanted."""
    database: Annotated[Text, Field(min_length=1, max_length=64)] | None = None
    """Name of one that the server was given."""

    @model_validator(mode="after")
    def _has_one_place_to_run(self) -> Validated:
        if self.ddl is not None and self.database is not None:
            raise PydanticCustomError(
                "tables", "schema and database are two places to run a query; send one of them"
            )
        if self.validates and self.ddl is None and self.database is None:
            raise PydanticCustomError(
                "tables",
                "validate: a query is tried on a schema (CREATE statements) or a database that "
                "the server was given by name; send one of them",
            )
        return self

    @property
    def tables_field(self) -> str:
        """The field that names tables; empty where there is none."""
        return "schema" if self.ddl else "database" if self.database else ""


class Sampling(Strict):
    """What chat and text have in common."""

    model: Text
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    """None: 0, as the model was scored. So is what is below `jobs.GREEDY_BELOW`."""
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63 - MOST_CHOICES)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] | None = None
    stop: Stop | Stops | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _streams(self) -> Sampling:
        if self.stream_options is not None and not self.stream:
            raise PydanticCustomError("stream", "stream_options need stream: true")
        return self

    @model_validator(mode="after")
    def _draws(self) -> Sampling:
        # With a temperature of 0 that was sent, whoever asks knows that nothing is drawn.
        if self.temperature is None and (self.seed is not None or (self.top_p or 1.0) < 1.0):
            name = "top_p" if self.seed is None else "seed"
            raise PydanticCustomError(
                "draws",
                "{name}: without a temperature the likeliest tokens are taken, so that it would "
                "change nothing; send a temperature with it",
                {"name": name},
            )
        return self

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def choices(self) -> int:
        """How many answers are wanted."""
        return self.n or 1

    def sampled(self, request: str) -> Ask:
        """Return the part of the order that chat and text have in common.

        Args:
            request: Id of the request.
        """
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Ask(
            id=request,
            max_tokens=self.max_tokens,
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            n=self.choices,
            stop=tuple(stop),
            stream=bool(self.stream),
        )


def read_chat(messages: list[ChatMessage], system: str | None) -> tuple[dict[str, str], ...]:
    """Return the messages of a request, with the version's system message where it has none.

    Args:
        messages: At least one.
        system: The system message that the model was trained and scored with.
    """
    chat = [message.as_message() for message in messages]
    if system and not any(turn["role"] in ("system", "developer") for turn in chat):
        chat.insert(0, {"role": "system", "content": system})
    return tuple(chat)


Messages = Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]


class ChatRequest(Sampling, Validated):
    """Body of ``/v1/chat/completions``."""

    messages: Messages
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    reasoning_effort: Effort | None = None
    response_format: PlainText | None = None
    store: Literal[False] | None = None
    as_scored: bool | None = None
    """Whether the last message is a question that is put into the wording of the version's rows."""

    @model_validator(mode="after")
    def _fits(self) -> ChatRequest:
        if self.messages[-1].role != "user":
            raise PydanticCustomError(
                "turns", "messages: the last one has to be of the role user, so that it is answered"
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("logprobs", "top_logprobs need logprobs: true")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise PydanticCustomError("limit", "max_tokens and max_completion_tokens are one limit")
        if self.tables_field and not self.validates and not self.as_scored:
            raise PydanticCustomError(
                "tables",
                "{name} is what a query is tried on, or what a question is about: send "
                "validate: true or as_scored: true",
                {"name": self.tables_field},
            )
        return self

    @property
    def limit_name(self) -> str:
        """The field that bounds the answer."""
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    def as_ask(self, request: str) -> Ask:
        """Return the order but for what is sent to the version; `request` is the request's id."""
        return self.sampled(request).model_copy(
            update={
                "max_tokens": self.max_completion_tokens or self.max_tokens,
                "top_logprobs": (self.top_logprobs or 0) if self.logprobs else None,
            }
        )


class PlainText(Strict):
    """The one format of answers."""

    type: Literal["text"]


class TextRequest(Sampling):
    """Body of ``/v1/completions``: a prompt as the model reads it, or its token ids."""

    prompt: Text | Annotated[list[int], Field(min_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None

    def as_ask(self, request: str) -> Ask:
        """Return the order; `request` is the id of the request."""
        ids = None if isinstance(self.prompt, str) else tuple(self.prompt)
        return self.sampled(request).model_copy(
            update={
                "prompt": self.prompt if ids is None else None,
                "prompt_ids": ids,
                "top_logprobs": self.logprobs,
            }
        )


class GenerateRequest(Validated):
    """Body of ``/generate``: a question, answered as the model was scored.

    The schema, or that of the database, stands with the question as in the rows of the version.
    """

    prompt: Annotated[Text, Field(min_length=1)]
    reasoning_effort: Effort | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None


class ClassifyRequest(Strict):
    """Body of ``/classify``: a text for a model with a head."""

    text: Annotated[Text, Field(min_length=1)]


class FeedbackRequest(Strict):
    """Body of ``/v1/feedback``."""

    id: Annotated[Text, Field(min_length=1, max_length=100)]
    """The `x-request-id` of the answer, or its `id`."""
    rating: Literal["good", "bad"]
    correction: Annotated[Text, Field(min_length=1)] | None = None
    """What should have been answered."""

    @property
    def request(self) -> str:
        """The request's id without what an answer's `id` puts before it."""
        return self.id.rpartition("-")[2]


ChatRequest.model_rebuild()
