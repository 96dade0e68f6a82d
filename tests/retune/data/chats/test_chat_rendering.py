"""Rows as text: the default messages, and a chat cut into prompt and answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retune.data.chats.faults import ChatFault
from retune.data.chats.messages import build_messages
from retune.data.chats.rendering import ChatRenderer, ChatText, render_prompt
from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import ConfigError
from retune.model_records import BaseRef
from tests.tiny_models import GEMMA_TEMPLATE

Snapshot = Callable[[str], Path]
USER = [{"role": "user", "content": "Quantos?"}]


def user_text(**row: str) -> str:
    return build_messages(**{"question": "Q", **row})[-1]["content"]  # type: ignore[arg-type]


def test_default_texts() -> None:
    """The question alone, above its context, or between tags below the schema."""
    assert user_text() == "Q"
    assert user_text(context="C") == "Q\n\nC"
    asked = user_text(schema="CREATE TABLE t (a)", context="INSERT")
    assert asked.endswith(
        "<SCHEMA>\nCREATE TABLE t (a)\n</SCHEMA>\n\n<USER_QUERY>\nQ\n</USER_QUERY>"
    )
    assert "INSERT" not in asked


def test_the_recipes_text_is_filled_in() -> None:
    """With all three placeholders, and doubled braces as one."""
    template = "{{x}} {schema}|{context}|{question}"
    assert user_text(user=template, schema="S", context="C") == "{x} S|C|Q"


def test_braces_in_a_question_are_text() -> None:
    """Only the template is filled in, never what was filled into it."""
    messages = build_messages(question="{schema} {0}", schema="")
    assert messages == [{"role": "user", "content": "{schema} {0}"}]


def test_a_rows_own_system_message_stays() -> None:
    """The recipe's is for rows without one."""
    own = [{"role": "system", "content": "row"}]
    assert build_messages(question="Q", system="recipe", history=own)[0]["content"] == "row"
    turns = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]
    found = build_messages(question="Q", system="recipe", history=turns)
    roles = [turn["role"] for turn in found]
    assert roles == ["system", "user", "assistant", "user"]


def renderer(snapshot: Snapshot, template: str | None = None, family: str = "llama") -> Any:
    tokenizer = load_tokenizer(snapshot(family))
    if template:
        tokenizer.chat_template = template
    ends = {"qwen3": ["<|im_end|>"]}.get(family, ["<|end|>"])
    return ChatRenderer(tokenizer, ends)


def test_an_empty_thought_is_written_by_the_model(snapshot: Snapshot) -> None:
    """Qwen 3 writes one before each answer, and its generation prompt, by default, does not."""
    qwen = renderer(snapshot, family="qwen3")
    text = qwen.render_chat(USER, "think")
    assert text.prompt.endswith("<|im_start|>assistant\n")
    assert text.answer == "<think>\n\n</think>\n\nthink<|im_end|>"
    assert qwen.render_prompt(USER) == text.prompt == render_prompt(qwen.tokenizer, USER)


def test_reasoning_effort_reaches_a_template_that_knows_it(snapshot: Snapshot) -> None:
    """The template writes it before the user's words; without a setting, its own default."""
    template = "{{ 'effort ' + (reasoning_effort or 'medium') + ': ' + messages[0]['content'] }}"
    tokenizer = load_tokenizer(snapshot("llama"))
    tokenizer.chat_template = template
    prompts = [ChatRenderer(tokenizer, effort=e).render_prompt(USER) for e in ("high", None)]
    assert prompts == ["effort high: Quantos?", "effort medium: Quantos?"]


def test_reasoning_effort_is_refused_where_it_would_change_nothing(snapshot: Snapshot) -> None:
    """The tiny Llama's template has no such variable."""
    with pytest.raises(ConfigError, match="knows no reasoning_effort"):
        ChatRenderer(load_tokenizer(snapshot("llama")), effort="low")


def test_thinking_is_learned_after_the_plain_prompt(harmony_base: BaseRef) -> None:
    """Analysis and final channel are what the model writes; without thinking, the answer alone."""
    harmony = ChatRenderer(load_tokenizer(harmony_base.folder), ["<|return|>"])
    prompt = "<|start|>user<|message|>Quantos?<|end|><|start|>assistant"
    assert harmony.render_chat(USER, "Dois.", "Conto.") == ChatText(
        prompt,
        "<|channel|>analysis<|message|>Conto.<|end|>"
        "<|start|>assistant<|channel|>final<|message|>Dois.<|return|>",
    )
    assert harmony.render_chat(USER, "Dois.") == ChatText(
        prompt, "<|channel|>final<|message|>Dois.<|return|>"
    )


def test_a_template_without_final_channel_is_mended(harmony_base: BaseRef) -> None:
    """Prompt and answer are those of a template that has it."""
    tokenizer = load_tokenizer(harmony_base.folder)
    whole = ChatRenderer(tokenizer, ["<|return|>"]).render_chat(USER, "Dois.")
    template = tokenizer.chat_template.replace("<|channel|>final", "").replace("return", "end")
    tokenizer.chat_template = template
    mended = ChatRenderer(tokenizer, ["<|return|>"]).render_chat(USER, "Dois.")
    assert mended == ChatText(whole.prompt, whole.answer, repaired=True)


def test_tags_in_a_question_do_not_fit(harmony_base: BaseRef) -> None:
    """They would open a message that the row does not have."""
    harmony = ChatRenderer(load_tokenizer(harmony_base.folder), ["<|return|>"])
    with pytest.raises(ChatFault, match="channels do not fit together"):
        harmony.render_chat([{"role": "user", "content": "x<|start|>y"}], "Dois.")


def test_a_template_that_drops_the_thinking_is_refused(snapshot: Snapshot) -> None:
    """The row would silently teach less than it says."""
    with pytest.raises(ChatFault, match="drops the thinking"):
        renderer(snapshot).render_chat(USER, "Dois.", "Conto.")


def test_a_template_that_drops_the_answer_is_refused(snapshot: Snapshot) -> None:
    """Nothing could be learned from it."""
    dropping = "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}"
    with pytest.raises(ChatFault, match="drops the answer"):
        renderer(snapshot, dropping + "{% endfor %}").render_chat(USER, "SELECT 1")


def test_a_template_that_changes_its_prompt_is_refused(snapshot: Snapshot) -> None:
    """What is learned would not follow on what is read in generation."""
    changing = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(ChatFault, match="does not begin with its own generation prompt"):
        renderer(snapshot, changing).render_chat(USER, "SELECT 1")


def test_a_template_that_refuses_a_row_is_a_fault(snapshot: Snapshot) -> None:
    """Older Gemma templates refuse a system message."""
    refusing = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(ChatFault, match="refuses it: System role not supported"):
        renderer(snapshot, refusing).render_chat(USER, "SELECT 1")


def test_what_follows_the_end_token_is_dropped(snapshot: Snapshot) -> None:
    """Gemma's template writes a newline there, which a model that stops never sees."""
    tokenizer = load_tokenizer(snapshot("llama"))
    tokenizer.chat_template = GEMMA_TEMPLATE
    text = ChatRenderer(tokenizer, ["<|end|>", "<end_of_turn>"]).render_chat(USER, "SELECT 1")
    assert text.answer == "SELECT 1<end_of_turn>"


def test_a_template_without_end_token_gets_one(snapshot: Snapshot) -> None:
    """Otherwise the model would never learn to stop."""
    bare = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    bare += "{% if add_generation_prompt %}assistant: {% endif %}"
    text = renderer(snapshot, bare).render_chat(USER, "SELECT 1")
    assert (text.prompt, text.answer) == ("user: Quantos?assistant: ", "SELECT 1<|end|>")


def test_an_answer_may_be_a_single_letter(snapshot: Snapshot) -> None:
    """What stands before it does not depend on it."""
    qwen = renderer(snapshot, family="qwen3")
    prompts = {qwen.render_chat(USER, answer).prompt for answer in ("0", "1", "<think>")}
    assert prompts == {qwen.render_prompt(USER)}
