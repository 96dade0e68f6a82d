"""Which stretches of a written chat carry loss: by the recipe's choice, and by what rows say.

Turns of the assistant are found by the template's own generation marks, else by writing the chat up
to each turn (`turn_spans`), else by the marks of TRL's variant of the template, where that writes
the same chat. No variant ever writes what is trained on: it may write another chat than a server.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from retune.data.chats.applying import ChatTemplate, Span, Tools
from retune.data.chats.faults import ChatFault, malformed
from retune.data.chats.messages import Message
from retune.data.chats.templates import has_marks, training_template
from retune.data.chats.turn_spans import TurnFinder
from retune.errors import ConfigError
from retune.recipe.sections.prompt import LossOn

_PROBE: tuple[Message, ...] = (
    {"role": "user", "content": "\ue000"},
    {"role": "assistant", "content": "\ue001"},
    {"role": "user", "content": "\ue002"},
    {"role": "assistant", "content": "\ue003"},
)


class Marks(NamedTuple):
    """Stretches of characters of prompt and answer together.

    Attributes:
        learned: What the model writes; None where it was not asked for.
        unlearned: What carries no loss because the row says so; None where it says nothing.
    """

    learned: tuple[Span, ...] | None
    unlearned: tuple[Span, ...] | None


class LossMarker:
    """Marks what carries loss.

    Args:
        template: What writes the chats.
        loss_on: The recipe's choice.
        end_tokens: Texts of the tokens that end a turn.
        lead: What the template writes between its prompt and an answer.

    Raises:
        ConfigError: It cannot be told what of the template's chats the model writes.
    """

    def __init__(
        self, template: ChatTemplate, loss_on: LossOn, end_tokens: Sequence[str], lead: str
    ) -> None:
        self._template, self._loss_on = template, loss_on
        self._turns = TurnFinder(template, end_tokens, lead)
        self._own = has_marks(template.text)
        self._variant: ChatTemplate | None = None
        if loss_on in ("assistant", "marked") and not self._own:
            self._variant = self._find_variant()

    def _find_variant(self) -> ChatTemplate | None:
        tokenizer = self._template.tokenizer
        try:
            text = training_template(tokenizer, self._loss_on)
        except ConfigError:
            if self._loss_on == "marked" or not self._finds_turns():
                raise
            return None
        return ChatTemplate(tokenizer, text, self._template.settings)

    def _finds_turns(self) -> bool:
        try:
            self._turns.find(_PROBE[:-1], self._template.write(_PROBE))
        except ChatFault:
            return False
        return True

    def mark(
        self, chat: Sequence[Message], prompt: str, written: str, tools: Tools = None
    ) -> Marks:
        """Mark a chat.

        Args:
            chat: All messages, the answer last.
            prompt: What is read.
            written: What is to be written.
            tools: What the model may call.

        Returns:
            What is learned, and what a row takes out of it.

        Raises:
            ChatFault: It cannot be told where a turn stands.
        """
        finding = _Finding(self._template, self._turns, chat, prompt, written, tools)
        learned = None
        if self._loss_on in ("assistant", "marked"):
            learned = self._find_learned(finding)
        return Marks(learned, self._find_unlearned(finding))

    def _find_learned(self, finding: _Finding) -> tuple[Span, ...]:
        if self._own:
            return finding.by_marks(self._template)
        ways: list[Callable[[], tuple[Span, ...]]] = [finding.by_turns]
        if self._variant is not None:
            variant = self._variant
            variant.form = self._template.form
            ways.insert(self._loss_on == "assistant", lambda: finding.by_marks(variant))
        faults = []
        for way in ways:
            try:
                return way()
            except ChatFault as fault:
                faults.append(fault)
        raise faults[0]

    def _find_unlearned(self, finding: _Finding) -> tuple[Span, ...] | None:
        silent = [at for at, turn in enumerate(finding.chat) if turn.get("learned") is False]
        if not silent:
            return None
        last = len(finding.chat) - 1
        spans = [finding.answer] if last in silent else []
        earlier = [at for at in silent if at != last]
        if earlier and self._loss_on != "answer":
            spans += finding.places(earlier, by_marks=self._own, others=self._loss_on == "all")
        return tuple(sorted(spans))


class _Finding:
    """One chat whose turns are looked for."""

    def __init__(
        self,
        template: ChatTemplate,
        turns: TurnFinder,
        chat: Sequence[Message],
        prompt: str,
        written: str,
        tools: Tools,
    ) -> None:
        self.chat, self._template, self._turns, self._tools = chat, template, turns, tools
        self._prompt, self._whole = prompt, prompt + written
        self.answer: Span = (len(prompt), len(self._whole))

    def by_turns(self) -> tuple[Span, ...]:
        """Return the turns of the assistant, the answer last."""
        return (*self._find_turns().values(), self.answer)

    def _find_turns(self) -> dict[int, Span]:
        return self._turns.find(self.chat[:-1], self._whole, self._tools)

    def by_marks(self, template: ChatTemplate) -> tuple[Span, ...]:
        """Return what a template marks, without the head of the answer's turn."""
        rendered, found = template.write_marked(self.chat, self._tools)
        # The end token is missing in the former where a template writes none.
        if not rendered.startswith(self._whole) and not self._whole.startswith(rendered):
            raise malformed(
                "the chat with generation marks is another one than the chat that is trained on "
                "(a final channel was put back, or a thought closed), so that the marks stand "
                "elsewhere; set prompt.loss_on: answer, or mend the template"
            )
        # Some marks begin with the head of the turn, which is part of the prompt (gpt-oss).
        begun = template.write(self.chat[:-1], tools=self._tools)
        begin, end = self.answer
        head = len(begun) if self._prompt.startswith(begun) else begin
        spans = (
            (max(start, begin) if start >= head else start, min(stop, end)) for start, stop in found
        )
        return tuple(span for span in spans if span[0] < span[1])

    def places(self, wanted: Sequence[int], *, by_marks: bool, others: bool) -> list[Span]:
        """Return where some turns stand.

        Args:
            wanted: Places of turns before the answer.
            by_marks: Whether the template marks what the model writes.
            others: Whether turns of other roles count.
        """
        roles = {at: self.chat[at]["role"] for at in wanted}
        spans = []
        if "assistant" in roles.values():
            turns = (by_marks and self._marked_turns()) or self._find_turns()
            spans += [turns[at] for at, role in roles.items() if role == "assistant"]
        if others:
            spans += [
                self._turns.find_other(self.chat[: at + 1], self._whole, self._tools)
                for at, role in roles.items()
                if role != "assistant"
            ]
        return spans

    def _marked_turns(self) -> dict[int, Span] | None:
        """Return the marks by turn, where there is one mark per turn of the assistant."""
        places = [at for at, turn in enumerate(self.chat) if turn["role"] == "assistant"]
        marks = self.by_marks(self._template)
        fits = len(marks) == len(places) and all(
            str(self.chat[at]["content"]).strip() in self._whole[begin:end]
            for at, (begin, end) in zip(places, marks, strict=True)
        )
        return dict(zip(places, marks, strict=True)) if fits else None
