"""A chat as text, cut into what is read and what is to be written.

What is read is letter by letter what a server asks with: the released tokenizer's
``apply_chat_template(messages, add_generation_prompt=True)``, every switch at its default. Whatever
a template writes between that and an answer (a blank, an empty thought, a channel's name) is
written by the model in generation, and so belongs to the answer and is learned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from retune.data.chats.abilities import PROBE_ANSWER, PROBE_QUESTION, Abilities
from retune.data.chats.applying import ChatTemplate, Span, Tools
from retune.data.chats.dropped import check_calls, check_read, holds, tools_dropped
from retune.data.chats.faults import ChatFault, malformed
from retune.data.chats.loss_marks import LossMarker
from retune.data.chats.messages import (
    SYSTEM_ROLES,
    Call,
    Message,
    answer_message,
)
from retune.data.chats.templates import (
    find_user_text,
    knows_effort,
    refuse_costly,
    template_text,
)
from retune.data.chats.thoughts import closes_thought, closing_tag, find_open_thought
from retune.data.chats.tokenizers import Tokenizer
from retune.data.harmony import HARMONY_TAGS, check_harmony, repair_harmony
from retune.errors import ConfigError
from retune.recipe.sections.prompt import LossOn

_HARMONY_HEAD = "<|start|>assistant"


@dataclass(frozen=True)
class ChatText:
    """One row as text.

    Attributes:
        prompt: What is read.
        answer: What is to be written, end token included.
        marks: Stretches of characters of both together that the model writes; None when they were
            not asked for.
        repaired: Whether a missing final channel was put back.
        unlearned: Stretches that carry no loss because the row says so; None where it is silent.
        prompt_ids: What a server asks with; None for plain text.
    """

    prompt: str
    answer: str
    marks: tuple[Span, ...] | None = None
    repaired: bool = False
    unlearned: tuple[Span, ...] | None = None
    prompt_ids: tuple[int, ...] | None = field(default=None, compare=False)

    @property
    def needs_offsets(self) -> bool:
        """Whether the characters of its tokens are needed to say which of them carry loss."""
        whole = (len(self.prompt), len(self.prompt) + len(self.answer))
        return self.marks is not None or any(span != whole for span in self.unlearned or ())


class ChatRenderer:
    """Writes chats by a tokenizer's template.

    Args:
        tokenizer: Holds the chat template.
        end_tokens: Texts of the tokens that end an answer.
        effort: How much the model shall think; None for the template's default.
        loss_on: The recipe's choice of tokens that carry loss.

    Raises:
        ConfigError: The template knows no reasoning effort, may take hours, or it cannot be told
            what of its chats the model writes.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        end_tokens: Sequence[str] = (),
        effort: str | None = None,
        loss_on: LossOn = "answer",
    ) -> None:
        self.tokenizer = tokenizer
        self.end_tokens = list(end_tokens) or [str(tokenizer.eos_token)]
        text = template_text(tokenizer)
        refuse_costly(text, str(getattr(tokenizer, "name_or_path", "")) or "the tokenizer")
        if effort and not knows_effort(tokenizer):
            raise ConfigError(
                f"prompt.reasoning_effort is {effort}, but the chat template knows no "
                "reasoning_effort: it would change nothing. Set it to null, or use a model whose "
                "template has it (gpt-oss)."
            )
        self.template = ChatTemplate(
            tokenizer, settings={"reasoning_effort": effort} if effort else None
        )
        self.abilities = Abilities(self.template)
        self.template.form = self.abilities.form
        self.with_context = find_user_text(text)
        added = tokenizer.get_added_vocab()
        self.harmony = all(tag in added for tag in HARMONY_TAGS)
        self._kept_roles: dict[str, bool] = {}
        self.lead = self._find_lead()
        # Turns before the last one end otherwise in gpt-oss' format.
        ends = [*self.end_tokens, *(["<|end|>"] if self.harmony else [])]
        self.marker = LossMarker(self.template, loss_on, ends, self.lead)

    def render_prompt(self, messages: Sequence[Message], tools: Tools = None) -> str:
        """Return the text that a model continues with its answer: what a server asks with.

        Args:
            messages: The messages before the answer.
            tools: What the model may call.

        Returns:
            The generation prompt.

        Raises:
            ChatFault: The template refuses the messages, or drops some of them.
        """
        return self._write_prompt(self.fold_system(messages), tools)

    def render_request(self, messages: Sequence[Message]) -> tuple[str, list[int]]:
        """Return what a server asks with, as text and as token ids; see `render_prompt`."""
        folded = self.fold_system(messages)
        return self._write_prompt(folded, None), self.template.prompt_ids(folded)

    def render_chat(
        self,
        messages: Sequence[Message],
        answer: str,
        thinking: str | None = None,
        *,
        calls: Sequence[Call] = (),
        tools: Tools = None,
        learned: bool = True,
    ) -> ChatText:
        """Render a whole chat and cut it into what is read and what is to be written.

        Args:
            messages: The messages before the answer.
            answer: The reference answer.
            thinking: What the model shall write before it, in a channel or block of its own.
            calls: The tools that the answer calls.
            tools: What the model may call.
            learned: Whether the answer carries loss.

        Returns:
            The two parts. What a template writes after the end token (a newline, say) is dropped:
            a model stops at the end token and would never see it.

        Raises:
            ChatFault: The template refuses the row, writes a chat that does not begin with its own
                prompt, drops something of it, or its channels do not fit together.
        """
        messages = self.fold_system(messages)
        turn = answer_message(answer, thinking, calls)
        prompt, written, repaired = self._cut(messages, turn, tools)
        chat = [*messages, turn if learned else {**turn, "learned": False}]
        marks = self.marker.mark(chat, prompt, written, tools)
        ids = tuple(self.template.prompt_ids(messages, tools))
        return ChatText(prompt, written, marks.learned, repaired, marks.unlearned, ids)

    def _cut(
        self, messages: Sequence[Message], turn: Message, tools: Tools
    ) -> tuple[str, str, bool]:
        """Return prompt, answer, and whether a final channel was put back."""
        prompt = self._write_prompt(messages, tools)
        whole = self.template.write([*messages, turn], tools=tools)
        written = (
            whole[len(prompt) :]
            if whole.startswith(prompt)
            else _behind_open_thought(prompt, whole, turn)
        )
        written, repaired = self._repair(prompt, written)
        written = self._cut_after_end(written, turn)
        fault = check_harmony(prompt + written) if self.harmony else None
        if fault:
            raise malformed(f"its channels do not fit together: {fault}")
        return prompt, written, repaired

    def _find_lead(self) -> str:
        """Return what the template writes between its generation prompt and a plain answer.

        An empty thought (Qwen 3), a channel's name (gpt-oss), a blank (Llama 2); empty where the
        answer follows at once, or where that cannot be told.
        """
        try:
            written = self._cut([PROBE_QUESTION], answer_message(PROBE_ANSWER), None)[1]
        except ChatFault:
            return ""
        lead, found, _ = written.partition(PROBE_ANSWER)
        return lead if found else ""

    def fold_system(self, messages: Sequence[Message]) -> list[Message]:
        """Put a system message above the first question where the template has no place for it.

        Args:
            messages: In the form of `build_messages`.

        Returns:
            The messages that the template is given.
        """
        first = messages[0] if messages else None
        if first is None or first["role"] not in SYSTEM_ROLES or self._keeps(first["role"]):
            return list(messages)
        if self._keeps("system"):
            return [{**first, "role": "system"}, *messages[1:]]
        rest = [dict(message) for message in messages[1:]]
        asked = next((message for message in rest if message["role"] == "user"), None)
        if asked is not None:
            asked["content"] = f"{first['content']}\n\n{asked['content']}"
        return rest

    def folds(self, messages: Sequence[Message]) -> bool:
        """Say whether the system message of a chat is put above its first question."""
        return len(self.fold_system(messages)) < len(messages)

    def _keeps(self, role: str) -> bool:
        if role not in self._kept_roles:
            self._kept_roles[role] = self.abilities.keeps_system(role)
        return self._kept_roles[role]

    def _write_prompt(self, messages: Sequence[Message], tools: Tools) -> str:
        if tools and not self.abilities.reads_tools:
            raise tools_dropped()
        prompt = self.template.write(messages, prompt=True, tools=tools)
        check_read(messages, tools, prompt)
        return prompt

    def _repair(self, prompt: str, written: str) -> tuple[str, bool]:
        if not self.harmony:
            return written, False
        # What is asked with stays as it is: the answer alone is mended, behind its own head.
        head = _HARMONY_HEAD if prompt.endswith(_HARMONY_HEAD) else ""
        mended, repaired = repair_harmony(head + written)
        return mended.removeprefix(head), repaired

    def _cut_after_end(self, written: str, turn: Message) -> str:
        for name, key in (("answer", "content"), ("thinking", "thinking")):
            if not holds(written, turn.get(key, "")):
                raise malformed(f"the chat template drops the {name}", f"wrote {written!r:.80}")
        check_calls(turn.get("calls", ()), written)
        # Behind the answer: a template may close the whole chat with one more (Phi), and an answer
        # that holds one itself is found out by its ids.
        last = turn["calls"][-1]["name"] if turn.get("calls") else str(turn["content"]).strip()
        begin = written.rfind(last) + len(last)
        found = re.compile("|".join(map(re.escape, self.end_tokens))).search(written, begin)
        return written[: found.end()] if found else written + self.end_tokens[0]


def _behind_open_thought(prompt: str, whole: str, turn: Message) -> str:
    """Return what follows on a prompt that opens a thought, which the finished chat leaves out.

    DeepSeek's R1 is asked with an opened thought, and its template drops thoughts of finished
    turns: the thought is closed as the model itself closes it. Nemotron's writes an empty one in
    another way than its prompt opens it: what it writes from the closing tag on is kept.
    """
    at = find_open_thought(prompt)
    if at is not None and whole.startswith(prompt[:at]):
        opening = prompt[at:].strip()
        closing = closing_tag(opening)
        begin = "" if prompt.endswith("\n") else "\n"
        rest = whole[at:]
        empty = re.match(rf"{re.escape(opening)}\s*{re.escape(closing)}", rest)
        if empty and not turn.get("thinking"):
            return f"{begin}{closing}{rest[empty.end() :]}"
        if rest.lstrip().startswith(str(turn["content"]).strip()):
            thinking = str(turn.get("thinking", "")).strip("\n")
            return f"{begin}{thinking}\n{closing}\n\n{rest.lstrip()}"
    if turn.get("thinking") and closes_thought(prompt):
        raise malformed(
            "the chat template's generation prompt closes the thought before the answer, so that "
            "no served model would think; use a template that opens thoughts, or delete them from "
            "the rows",
            f"prompt: …{prompt[-40:]!r}",
        )
    raise malformed(
        "the chat template writes a finished chat that does not begin with its own generation "
        "prompt, so no token could be told apart as answer; use a template whose prompt is a "
        "prefix of the chat",
        f"prompt: …{prompt[-40:]!r}",
    )


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    """Return the text that a model continues with its answer; see `ChatRenderer.render_prompt`."""
    return ChatRenderer(tokenizer).render_prompt(messages)
