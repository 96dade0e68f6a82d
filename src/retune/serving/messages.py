"""What the server and the process that computes tell each other: one JSON object a line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from retune.model_records import ScoredModel
from retune.records import Record
from retune.registry.versions.proving import StoredAnswers
from retune.sql.showing import ShownQuery


class ServedModel(Record):
    """A model to serve, found under the name that a person gave."""

    name: str
    """What clients call it."""
    address: str
    """What it was found under: ``models:/name/3``, a folder, a hub id."""
    version: int | None = None
    """Number of the registered version; None where it is none."""
    scored: ScoredModel
    answers: StoredAnswers | None = None
    """What proves it; None where it is no version."""

    def name_at_engine(self, remote: RemoteSettings | None = None) -> str:
        """Return what an engine calls the model: each version has a name of its own.

        An engine that is started anew with another version can then never answer for this one.

        Args:
            remote: With the name that a person gave; none unless given.
        """
        if remote is not None and remote.model is not None:
            return remote.model
        return self.name if self.version is None else f"{self.name}-{self.version}"


class RemoteSettings(Record):
    """An engine of one's own, asked over HTTP."""

    address: str
    """Of its API: ``http://HOST:PORT/v1``."""
    model: str | None = None
    """What it calls the model, whichever version; None where each version has its own name."""
    seconds: float
    """Longest time between two tokens."""


class EngineSettings(Record):
    """How answers are computed."""

    batch: int
    """Most answers at a time."""
    context: int
    """Most tokens of prompt and answer; the model's own context where that is smaller."""
    default_tokens: int
    """Tokens of an answer whose request names no limit."""
    remote: RemoteSettings | None = None
    """Who computes them; None for the process itself."""


class Load(Record):
    """To the process, first: what it holds."""

    model: ServedModel
    settings: EngineSettings


class Asked(Record):
    """A question before it is put into the wording of a version's rows."""

    question: str
    ddl: str = ""
    """CREATE statements of the tables that it is about; empty for none."""
    script: str = ""
    """SQL that makes these tables, as the client sent it; empty for none."""


class Ask(Record):
    """To the process: one request."""

    kind: Literal["ask"] = "ask"
    id: str
    messages: tuple[dict[str, str], ...] | None = None
    """A chat, written by the model's template."""
    prompt: str | None = None
    """A text, continued as it stands."""
    prompt_ids: tuple[int, ...] | None = None
    reasoning_effort: str | None = None
    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    """Likeliest tokens told per token; None for no log-probabilities."""
    stream: bool = False
    """Whether the text is wanted as it comes."""
    classify: bool = False
    """Whether a class is asked for, of a model with a head."""
    asked: Annotated[Asked | None, Field(exclude=True)] = None
    """What `messages` puts into words; None where a client wrote them. For the request log: the
    process is not told."""


class Cancel(Record):
    """To the process: nobody waits for a request any more."""

    kind: Literal["cancel"] = "cancel"
    id: str


class Measure(Record):
    """To the process: what memory it holds is asked."""

    kind: Literal["measure"] = "measure"


Order = Annotated[Ask | Cancel | Measure, Field(discriminator="kind")]
ORDERS: TypeAdapter[Ask | Cancel | Measure] = TypeAdapter(Order)


class TokenLogprob(Record):
    """A token that was written, its log-probability in nats, and the likeliest in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Ready(Record):
    """From the process: it holds the model, and has proved it."""

    kind: Literal["ready"] = "ready"
    engine: Literal["paged", "padded", "head", "remote"]
    context: int
    labels: tuple[str, ...] | None = None
    renderings: int
    """Stored chats that were written as when the version was registered."""
    answers: int
    """Stored prompts that were answered as then."""


class Unfit(Record):
    """From the process: the model cannot be loaded, or is not what was registered."""

    kind: Literal["unfit"] = "unfit"
    reason: str
    """What everybody may read."""
    detail: str
    """The same with pieces of what was stored, for the log."""


class Away(Record):
    """From the process: the engine elsewhere cannot be asked, or is not proved; it is tried on."""

    kind: Literal["away"] = "away"
    reason: str
    """What everybody may read."""


class Refused(Record):
    """From the process: a request that cannot be answered."""

    kind: Literal["refused"] = "refused"
    id: str
    message: str
    param: str | None = None
    code: str | None = None
    fault: Literal["client", "server", "engine"] = "client"
    """Whose: of an engine elsewhere that is away, another try may find it back."""


class Delta(Record):
    """From the process: what came of one choice since the last one."""

    kind: Literal["delta"] = "delta"
    id: str
    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Finished(Record):
    """From the process: one choice is whole. Of a stream, `text` and `logprobs` are the rest."""

    kind: Literal["finished"] = "finished"
    id: str
    choice: int
    text: str
    reason: Literal["stop", "length"]
    prompt_tokens: int
    tokens: int
    """Tokens written, the end token not counted."""
    first_token_seconds: float | None
    """From the order to the first token."""
    logprobs: tuple[TokenLogprob, ...] = ()


class Tried(Record):
    """Of the server itself: what became of the query that a choice wrote; after all choices."""

    kind: Literal["tried"] = "tried"
    choice: int
    shown: ShownQuery


class Classified(Record):
    """From the process: the classes of a text, the likeliest first."""

    kind: Literal["classified"] = "classified"
    id: str
    probabilities: dict[str, float]
    prompt_tokens: int


class Busy(Record):
    """From the process, now and then: how busy its engine is."""

    kind: Literal["busy"] = "busy"
    running: int
    waiting: int


class Measured(Record):
    """From the process: memory of the device that its weights are on, in bytes."""

    kind: Literal["measured"] = "measured"
    held: int
    """Most that it has held so far, its engine's cache included."""
    free: int
    """What other processes can take of it now."""


Told = Delta | Finished | Classified | Tried
"""What a client is told of."""
Answering = Refused | Delta | Finished | Classified
Report = Annotated[
    Ready | Unfit | Away | Refused | Delta | Finished | Classified | Busy | Measured,
    Field(discriminator="kind"),
]
REPORTS: TypeAdapter[
    Ready | Unfit | Away | Refused | Delta | Finished | Classified | Busy | Measured
] = TypeAdapter(Report)
