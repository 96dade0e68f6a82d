"""A tokenizer's chat template, applied as a server does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retune.data.chats.faults import ChatFault, malformed
from retune.data.chats.messages import Message
from retune.data.chats.rendering_limits import render_within
from retune.data.chats.templates import template_text
from retune.data.chats.tokenizers import Tokenizer
from retune.data.chats.turn_forms import TurnForm
from retune.errors import ConfigError

Span = tuple[int, int]
Tools = Sequence[Mapping[str, Any]] | None


class ChatTemplate:
    """Writes messages by a template.

    Args:
        tokenizer: Holds the template.
        text: Another template in its place; None for the tokenizer's own.
        settings: Switches of the template that the recipe names; all others keep the default that a
            server has, too.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        text: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.tokenizer, self.own, self.settings = tokenizer, text, dict(settings or {})
        self.form = TurnForm()

    @property
    def text(self) -> str:
        """The Jinja text."""
        return self.own or template_text(self.tokenizer)

    def write(
        self, messages: Sequence[Message], *, prompt: bool = False, tools: Tools = None
    ) -> str:
        """Write messages.

        Args:
            messages: In the form of `build_messages`.
            prompt: Whether the head of the answer follows, as in generation.
            tools: What the model may call.

        Returns:
            The text.

        Raises:
            ChatFault: The template refuses them.
            ConfigError: It takes longer, or writes more, than a chat can be.
        """
        return str(self._apply(messages, tools, tokenize=False, add_generation_prompt=prompt))

    def prompt_ids(self, messages: Sequence[Message], tools: Tools = None) -> list[int]:
        """Return the ids that a server asks with."""
        options = {"tokenize": True, "add_generation_prompt": True, "return_dict": False}
        return list(self._apply(messages, tools, **options))

    def write_marked(
        self, messages: Sequence[Message], tools: Tools = None
    ) -> tuple[str, tuple[Span, ...]]:
        """Write messages, and say where the template's generation marks stand.

        Returns:
            The text, and the stretches of characters between the marks.

        Raises:
            ChatFault: The template refuses the messages.
        """
        from transformers.utils.chat_template_utils import render_jinja_template

        def render(given: list[dict[str, Any]]) -> Any:
            return render_jinja_template(
                [given],
                tools=list(tools) if tools else None,
                chat_template=self.text,
                return_assistant_tokens_mask=True,
                **{**self.tokenizer.special_tokens_map, **self.settings},
            )

        rendered, marks = self._guard(render, messages)
        return str(rendered[0]), tuple((int(begin), int(end)) for begin, end in marks[0])

    def _apply(self, messages: Sequence[Message], tools: Tools, **options: Any) -> Any:
        def apply(given: list[dict[str, Any]]) -> Any:
            return self.tokenizer.apply_chat_template(
                given,
                chat_template=self.own,
                tools=list(tools) if tools else None,
                **self.settings,
                **options,
            )

        return self._guard(apply, messages)

    def _guard(self, render: Any, messages: Sequence[Message]) -> Any:
        try:
            return render_within(lambda: render(self.form.write(messages)))
        except (ChatFault, ConfigError):
            raise
        except Exception as error:
            # whatever it raises on one row (by adding None to a text, asking for a missing key,
            # dividing by zero, calling itself) is that row's fault and must not end the stage.
            name = type(error).__name__
            said = f"{error}" if name == "TemplateError" else f"{name}: {error}"
            raise malformed(f"the chat template refuses it: {said:.300}") from error
