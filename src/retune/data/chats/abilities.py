"""What a chat template can write, found by having it write short chats.

Nothing is read out of its text: two templates that write the same are the same here.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from itertools import product
from typing import Any

from retune.data.chats.applying import ChatTemplate
from retune.data.chats.faults import ChatFault
from retune.data.chats.messages import Message, answer_message
from retune.data.chats.thoughts import find_open_thought
from retune.data.chats.turn_forms import THINKING_KEYS, TurnForm

# Letters for private use, which no template treats in its own way, around words that a template
# may trim or fold to lower case without losing them.
PROBE_ANSWER = "\ue000answer\ue000"
_THOUGHT = "\ue001thought\ue001"
_SYSTEM = "\ue002system\ue002"
_CALLED = "retune_probe"
_ARGUMENT = "\ue003argument\ue003"
PROBE_QUESTION: Message = {"role": "user", "content": "?"}
_CALLING = answer_message("", calls=[{"name": _CALLED, "arguments": {"key": _ARGUMENT}}])
_TOLD: Message = {"role": "tool", "name": _CALLED, "content": "!"}
_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": _CALLED,
            "description": "?",
            "parameters": {
                "type": "object",
                "properties": {"key": {"type": "string", "description": "?"}},
                "required": ["key"],
            },
        },
    }
]


class Abilities:
    """What a template can write.

    Args:
        template: The template.
    """

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    @cached_property
    def form(self) -> TurnForm:
        """The keys in which it reads thoughts and calls; unknown ones keep their default."""
        keys = [key for key in THINKING_KEYS if self._writes_thoughts(key)]
        form = TurnForm(thinking_key=keys[0] if keys else None)
        forms = [
            replace(form, arguments_as_text=as_text, ids=ids, without_content=without)
            for ids, as_text, without in product((False, True), repeat=3)
        ]
        return next((one for one in forms if self._writes_calls(one)), form)

    @cached_property
    def writes_thoughts(self) -> bool:
        """Whether it has a place for thoughts: it writes them, or its prompt opens one."""
        prompt = self._try([PROBE_QUESTION], prompt=True) or ""
        return self.form.thinking_key is not None or find_open_thought(prompt) is not None

    @cached_property
    def reads_tools(self) -> bool:
        """Whether it tells the model which tools there are."""
        written = self._try([PROBE_QUESTION], prompt=True, tools=_TOOLS, form=self.form)
        return _CALLED in (written or "")

    def keeps_system(self, role: str) -> bool:
        """Say whether it writes a system message: some refuse it, some pass over it silently."""
        if self._try([PROBE_QUESTION], prompt=True) is None:
            return True  # it refuses whatever it is given, and will say why
        written = self._try([{"role": role, "content": _SYSTEM}, PROBE_QUESTION], prompt=True)
        return _SYSTEM in (written or "")

    def _writes_thoughts(self, key: str) -> bool:
        form = TurnForm(thinking_key=key)
        written = self._try([PROBE_QUESTION, answer_message(PROBE_ANSWER, _THOUGHT)], form=form)
        return _THOUGHT in (written or "")

    def _writes_calls(self, form: TurnForm) -> bool:
        for chat, tools in product(
            ([PROBE_QUESTION, _CALLING, _TOLD], [PROBE_QUESTION, _CALLING]), (None, _TOOLS)
        ):
            written = self._try(chat, form=form, tools=tools) or ""
            if _CALLED in written and _ARGUMENT in written:
                # Not JSON text that is written as JSON: {"arguments": "{\\"key\\": ...}"}.
                return f'\\"{_ARGUMENT}\\"' not in written
        return False

    def _try(
        self, messages: list[Message], *, form: TurnForm | None = None, **options: Any
    ) -> str | None:
        template = ChatTemplate(
            self._template.tokenizer, self._template.own, self._template.settings
        )
        template.form = form or TurnForm()
        try:
            return template.write(messages, **options)
        except ChatFault:
            return None
