"""What a model has to prove before it is asked: that it is the one that was scored.

Stored chats are written to the same bytes and the same token ids, the same tokens end an answer,
and the engine that will serve answers stored prompts token for token. Texts and ids are compared,
never digests of templates: tools that export a model change prompts and keep the template.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from retune.data.chats.tokenizers import Tokenizer
from retune.data.chats.tokenizing import tokenize
from retune.inference.jobs import Chosen, Engine, Job
from retune.registry.forms.classifier import name_classes
from retune.registry.versions.proving import StoredAnswers, render_probes

if TYPE_CHECKING:
    from retune.inference.loaded_models import LoadedModel

_SHOWN = 40


class Proved(NamedTuple):
    """How much was compared, all of it equal."""

    renderings: int
    answers: int


class Spoken(Protocol):
    """How a model is asked and read, wherever its weights are."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own."""
        ...

    @property
    def end_ids(self) -> Sequence[int]:
        """Ids that end an answer."""
        ...


class Unproved(Exception):
    """The model is not what was registered; the message is the first difference.

    Args:
        what: What differs, without a piece of it: strangers may read that.
        difference: What it is and what it was, pieces of stored prompts and answers.
    """

    def __init__(self, what: str, difference: str = "") -> None:
        super().__init__(f"{what}: {difference}" if difference else what)
        self.what = what


def prove_prompts(loaded: Spoken, stored: StoredAnswers) -> int:
    """Compare how chats are written, tokenized and ended.

    Args:
        loaded: The model as it was loaded.
        stored: What its version has.

    Returns:
        How many chats were compared.

    Raises:
        Unproved: With the first difference.
        ConfigError: The chat template knows no reasoning effort, and the rows had one.
    """
    if stored.end_ids and tuple(loaded.end_ids) != stored.end_ids:
        raise Unproved(
            f"the tokens that end an answer are {list(loaded.end_ids)}, and were "
            f"{list(stored.end_ids)} when the version was registered"
        )
    for number, row in enumerate(stored.rows, 1):
        if row.prompt is None:
            continue
        [(ids, _)] = tokenize(loaded.tokenizer, [row.prompt])
        if tuple(ids) != row.prompt_ids:
            raise _other_ids(f"stored prompt {number}", row.prompt_ids, ids)
    written = render_probes(loaded.tokenizer, stored.system, stored.reasoning_effort)
    for number, (then, now) in enumerate(zip(stored.renderings, written, strict=False), 1):
        what = f"stored chat {number} ({len(then.messages)} messages)"
        if then.text != now.text:
            raise Unproved(f"{what} is written otherwise", _differ(then.text, now.text))
        if then.ids != now.ids:
            raise _other_ids(what, then.ids, now.ids)
    return len(stored.renderings)


def prove_answers(engine: Engine, loaded: Spoken, stored: StoredAnswers) -> int:
    """Let the engine answer stored prompts, all at once.

    Args:
        engine: The one that will serve.
        loaded: Its model.
        stored: What its version answered.

    Returns:
        How many prompts were answered.

    Raises:
        Unproved: With the first difference.
    """
    found = answer_greedily(engine, loaded.end_ids, stored.prompts, stored.max_new_tokens)
    for number, (row, ids) in enumerate(zip(stored.rows, found, strict=True), 1):
        if tuple(ids) != row.answer:
            then, now = (
                str(loaded.tokenizer.decode(list(each), skip_special_tokens=True))
                for each in (row.answer, ids)
            )
            raise Unproved(
                f"stored prompt {number} of {len(stored.rows)} is answered otherwise than when the "
                f"version was registered (on {stored.made_on})",
                _differ(then, now),
            )
    return len(stored.rows)


def prove_classes(loaded: LoadedModel, stored: StoredAnswers) -> int:
    """Let a head name the classes of stored prompts.

    Args:
        loaded: A model with a head.
        stored: What its version answered.

    Returns:
        How many prompts it was asked.

    Raises:
        Unproved: With the first difference.
    """
    found = name_classes(loaded, stored.prompts)
    for number, (row, label) in enumerate(zip(stored.rows, found, strict=True), 1):
        if row.answer != label:
            raise Unproved(
                f"stored prompt {number} is of another class than when the version was registered "
                f"(on {stored.made_on})",
                f"it is {label}, and was {row.answer}",
            )
    return len(stored.rows)


def answer_greedily(
    engine: Engine, end_ids: Sequence[int], prompts: Sequence[Sequence[int]], max_tokens: int
) -> list[list[int]]:
    """Let an engine answer prompts greedily, all of them at once.

    Args:
        engine: Any.
        end_ids: Ids that end an answer.
        prompts: Token ids per prompt.
        max_tokens: Most tokens per answer.

    Returns:
        The new ids per prompt, without the end token.

    Raises:
        Unproved: The engine fails.
    """
    jobs = [
        _Collected(f"proof-{number}", each, max_tokens, end_ids)
        for number, each in enumerate(prompts)
    ]
    for each in jobs:
        engine.submit(each.job)
    return [each.wait() for each in jobs]


class _Collected:
    def __init__(
        self, key: str, prompt: Sequence[int], max_tokens: int, end_ids: Sequence[int]
    ) -> None:
        self._ids: list[int] = []
        self._ends = frozenset(end_ids)
        self._max_tokens, self._failed = max_tokens, ""
        self._done = threading.Event()
        self.job = Job(f"{key}-{id(self)}", prompt, max_tokens, self._take, self._fail)

    def _take(self, chosen: Chosen) -> bool:
        ended = chosen.token in self._ends
        if not ended:
            self._ids.append(chosen.token)
        if ended or len(self._ids) >= self._max_tokens:
            self._done.set()
        return ended

    def _fail(self, reason: str) -> None:
        self._failed = reason
        self._done.set()

    def wait(self) -> list[int]:
        self._done.wait()
        if self._failed:
            raise Unproved(f"the engine fails on a stored prompt: {self._failed}")
        return self._ids


def _other_ids(what: str, then: Sequence[int], now: Sequence[int]) -> Unproved:
    at = _first_difference(then, now)
    return Unproved(
        f"{what} has other token ids from place {at} on than when the version was registered",
        f"{list(now[at : at + 5])}, and {list(then[at : at + 5])} then",
    )


def _differ(then: str | None, now: str | None) -> str:
    if then is None or now is None:
        return "the chat template refuses it now" if now is None else "it was refused then"
    at = _first_difference(then, now)
    begin = max(0, at - 10)
    return (
        f"from character {at} on it is {now[begin : at + _SHOWN]!r}, and was "
        f"{then[begin : at + _SHOWN]!r}"
    )


def _first_difference(then: Sequence[object], now: Sequence[object]) -> int:
    pairs = enumerate(zip(then, now, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(then), len(now)))
