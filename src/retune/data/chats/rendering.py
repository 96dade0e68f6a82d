"""Rows as text: the messages that a model reads, and a chat cut into prompt and answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from retune.data.chats.harmony import HARMONY_TAGS, check_harmony, repair_harmony
from retune.data.chats.templates import find_user_text, template_text
from retune.data.tokenizers import Tokenizer
from retune.errors import ConfigError, DataError
from retune.recipe.sections import PromptConfig

USER_WITH_CONTEXT = "{question}\n\n{context}"
USER_WITH_SCHEMA = (
    "Write the SQL query that answers <USER_QUERY> from the tables in <SCHEMA>. "
    "Reply with the query alone.\n\n"
    "<SCHEMA>\n{schema}\n</SCHEMA>\n\n<USER_QUERY>\n{question}\n</USER_QUERY>"
)
_SENTINEL = "\ue000"
"""A letter for private use, which no template treats in its own way."""

Message = dict[str, str]
Span = tuple[int, int]


class ChatFault(DataError):
    """A row that cannot be written as a chat.

    Args:
        limit: The field of `LimitsConfig` that counts it.
        reason: The same words for every row with this fault.
        detail: What was found in this row.
    """

    def __init__(self, limit: str, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.limit, self.reason, self.detail = limit, reason, detail

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.limit, self.reason, self.detail))


@dataclass(frozen=True)
class ChatText:
    """One row as text.

    Attributes:
        prompt: What is read.
        answer: What is to be written, end token included.
        marks: Stretches of characters of both together that the template marks as written by the
            model; None when they were not asked for.
        repaired: Whether a missing final channel was put back.
    """

    prompt: str
    answer: str
    marks: tuple[Span, ...] | None = None
    repaired: bool = False


def build_messages(
    config: PromptConfig,
    *,
    question: str,
    context: str = "",
    schema: str = "",
    history: Iterable[Mapping[str, str]] = (),
    with_context: str | None = None,
) -> list[Message]:
    """Return the messages before the answer, in the format of chat templates.

    There is no argument for the answer: whatever the recipe says, none can get into a prompt.

    Args:
        config: The recipe's texts.
        question: What the model is asked.
        context: The text beside the question.
        schema: CREATE statements of the row's database.
        history: Turns before; a system message among them is kept in place of the recipe's.
        with_context: How the chat template wants question and context to be joined.

    Returns:
        System message where there is one, earlier turns, and the question.
    """
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in history]
    if config.system and not any(turn["role"] in ("system", "developer") for turn in turns):
        turns.insert(0, {"role": "system", "content": config.system})
    if config.user is not None:
        text = config.user
    elif schema:
        text = USER_WITH_SCHEMA
    elif context:
        text = with_context or USER_WITH_CONTEXT
    else:
        text = "{question}"
    user = text.format(question=question, context=context, schema=schema)
    return [*turns, {"role": "user", "content": user}]


class ChatRenderer:
    """Writes chats by a tokenizer's template.

    Args:
        tokenizer: Holds the chat template.
        end_tokens: Texts of the tokens that end an answer.
        template: A variant of the template with marks; None for the tokenizer's own.
        effort: How much the model shall think; None for the template's default.

    Raises:
        ConfigError: The template knows no reasoning effort.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        end_tokens: Sequence[str] = (),
        template: str | None = None,
        effort: str | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.end_tokens = list(end_tokens) or [str(tokenizer.eos_token)]
        self.template = template
        self._settings = {"reasoning_effort": effort} if effort else {}
        if effort and "reasoning_effort" not in (template or template_text(tokenizer)):
            raise ConfigError(
                f"prompt.reasoning_effort is {effort}, but the chat template knows no "
                "reasoning_effort: it would change nothing. Set it to null, or use a model whose "
                "template has it (gpt-oss)."
            )
        self.with_context = find_user_text(template_text(tokenizer))
        added = tokenizer.get_added_vocab()
        self.harmony = all(tag in added for tag in HARMONY_TAGS)

    def render_prompt(self, messages: Sequence[Message]) -> str:
        """Return the text that a model continues with its answer.

        Some templates write more before an answer than their generation prompt has: an empty block
        of thought (Qwen 3), a channel's name (gpt-oss). That is read and not learned: without it a
        model would be scored on words about its answer, not on the answer.

        Args:
            messages: The messages before the answer.

        Returns:
            The generation prompt, with what the template writes before every answer.

        Raises:
            ChatFault: The template refuses the messages.
        """
        return self._with_lead(self._write(messages, prompt=True)[0], messages)

    def _with_lead(self, prompt: str, messages: Sequence[Message]) -> str:
        # What stands before an answer that is nothing but a mark is written before every answer.
        probe = self._write([*messages, {"role": "assistant", "content": _SENTINEL}])[0]
        before, found, _ = probe.partition(_SENTINEL)
        return before if found and before.startswith(prompt) else prompt

    def render_chat(
        self,
        messages: Sequence[Message],
        answer: str,
        thinking: str | None = None,
        *,
        marks: bool = False,
    ) -> ChatText:
        """Render a whole chat and cut it into what is read and what is to be written.

        Args:
            messages: The messages before the answer.
            answer: The reference answer.
            thinking: What the model shall write before it, in a channel or block of its own.
            marks: Whether the template's generation marks are wanted.

        Returns:
            The two parts. What a template writes after the end token (a newline, say) is dropped:
            a model stops at the end token and would never see it.

        Raises:
            ChatFault: The template refuses the row, writes a chat that does not begin with its own
                prompt, leaves out the answer, or its channels do not fit together.
        """
        prompt = self._write(messages, prompt=True)[0]
        if not thinking:
            prompt = self._with_lead(prompt, messages)
        whole, repaired = self._write([*messages, _as_turn(answer, thinking)])
        if not whole.startswith(prompt):
            raise ChatFault(
                "malformed_chats",
                "the chat template writes a finished chat that does not begin with its own "
                "generation prompt, so no token could be told apart as answer; use a template "
                "whose prompt is a prefix of the chat",
                f"prompt: …{prompt[-40:]!r}",
            )
        written = self._cut_after_end(whole[len(prompt) :], answer, thinking)
        fault = check_harmony(prompt + written) if self.harmony else None
        if fault:
            raise ChatFault("malformed_chats", f"its channels do not fit together: {fault}")
        spans = None
        if marks:
            chat = [*messages, _as_turn(answer, thinking)]
            spans = self._read_marks(chat, prompt, whole[: len(prompt)] + written)
        return ChatText(prompt, written, spans, repaired)

    def _cut_after_end(self, written: str, answer: str, thinking: str | None) -> str:
        for name, text in (("answer", answer), ("thinking", thinking or "")):
            if text.strip() not in written:
                raise ChatFault(
                    "malformed_chats",
                    f"the chat template drops the {name}",
                    f"wrote {written!r:.80}",
                )
        ends = [written.rfind(token) + len(token) for token in self.end_tokens if token in written]
        return written[: max(ends)] if ends else written + self.end_tokens[0]

    def _read_marks(self, chat: list[Message], prompt: str, whole: str) -> tuple[Span, ...]:
        from transformers.utils.chat_template_utils import render_jinja_template

        rendered, found = render_jinja_template(
            [chat],
            chat_template=self.template or template_text(self.tokenizer),
            return_assistant_tokens_mask=True,
            **self.tokenizer.special_tokens_map,
        )
        if not rendered[0].startswith(prompt):
            raise ChatFault(
                "malformed_chats",
                "its final channel had to be put back, and so the template's generation marks "
                "stand elsewhere; set prompt.loss_on: answer, or mend the template",
            )
        # Some marks begin with the head of the turn, which is part of the prompt (gpt-oss), or with
        # what is written before every answer (Qwen 3): that is read, not learned.
        begun = self._write(chat[:-1])[0]
        head = len(begun) if prompt.startswith(begun) else len(prompt)
        spans = (
            (max(start, len(prompt)) if start >= head else start, min(end, len(whole)))
            for start, end in found[0]
        )
        return tuple(span for span in spans if span[0] < span[1])

    def _write(self, messages: Sequence[Message], *, prompt: bool = False) -> tuple[str, bool]:
        text = str(self._apply(list(messages), tokenize=False, add_generation_prompt=prompt))
        return repair_harmony(text) if self.harmony else (text, False)

    def _apply(self, messages: list[Message], **options: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, **self._settings, **options
            )
        except (TemplateError, TypeError, ValueError) as error:
            # Templates refuse a row by an exception of their own, or by adding None to a text.
            raise ChatFault("malformed_chats", f"the chat template refuses it: {error}") from error


def _as_turn(answer: str, thinking: str | None) -> Message:
    turn = {"role": "assistant", "content": answer}
    # Templates read it under either name.
    return {**turn, "thinking": thinking, "reasoning_content": thinking} if thinking else turn


def render_prompt(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    """Return the text that a model continues with its answer; see `ChatRenderer.render_prompt`."""
    return ChatRenderer(tokenizer).render_prompt(messages)
