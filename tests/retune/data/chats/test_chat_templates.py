"""Chat templates: found by name, file or model, and what the shipped ones write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retune.data.chats.messages import build_messages
from retune.data.chats.rendering import ChatRenderer
from retune.data.chats.templates import (
    SHIPPED_TEMPLATES,
    find_user_text,
    has_marks,
    list_switches,
    locate_shipped,
    locate_template,
    name_template,
    read_template,
    training_template,
)
from retune.data.chats.tokenizers import load_tokenizer
from retune.digests import digest_json
from retune.errors import ConfigError
from retune.recipe.sections import PromptConfig
from retune.records import Source

Snapshot = Callable[[str], Path]


def locate(**prompt: Any) -> Source | None:
    return locate_template(PromptConfig(**prompt), lambda path: path, lambda model: model)


def write_by(snapshot: Snapshot, template: str, **row: Any) -> tuple[str, str]:
    """Render one row by a shipped template and the tiny Llama's tokenizer."""
    tokenizer = load_tokenizer(snapshot("llama"), locate_shipped(template))
    renderer = ChatRenderer(tokenizer, ["<|end|>"])
    messages = build_messages(with_context=renderer.with_context, **row)
    text = renderer.render_chat(messages, "Dois.")
    return text.prompt, text.answer


def test_an_instruction_with_a_context(snapshot: Snapshot) -> None:
    """The context has a heading of its own."""
    assert write_by(snapshot, "instruction_pt", question="Conte.", context="a, b", system="S") == (
        "S\n\n### Instrução:\nConte.\n\n### Entrada:\na, b\n\n### Resposta:\n",
        "Dois.<|end|>",
    )


def test_an_instruction_without_context(snapshot: Snapshot) -> None:
    """No empty heading."""
    assert write_by(snapshot, "instruction_en", question="Count.") == (
        "### Instruction:\nCount.\n\n### Response:\n",
        "Dois.<|end|>",
    )


def test_headings(snapshot: Snapshot) -> None:
    """Roles as headings, question and context with a blank line between."""
    assert write_by(snapshot, "headings", question="Conte.", context="a, b", system="S") == (
        "### System\nS\n### User\nConte.\n\na, b\n### Assistant\n",
        "Dois.<|end|>",
    )


def test_earlier_turns_of_an_instruction(snapshot: Snapshot) -> None:
    """Each answer ends with an end token, also in the middle."""
    history = [{"role": "user", "content": "A"}, {"role": "assistant", "content": "B"}]
    prompt, _ = write_by(snapshot, "instruction_en", question="C", history=history)
    assert prompt == (
        "### Instruction:\nA\n\n### Response:\nB<|end|>\n\n### Instruction:\nC\n\n### Response:\n"
    )


@pytest.mark.parametrize("name", SHIPPED_TEMPLATES)
def test_a_shipped_template_is_found_by_name_and_has_marks(name: str) -> None:
    """So that any loss_on can be used with it."""
    source = locate(template=name)
    assert source is not None
    assert has_marks(read_template(source))


def test_no_template_is_the_tokenizers_own() -> None:
    """Nothing to locate."""
    assert locate() is None


def test_a_file_is_a_template(tmp_path: Path) -> None:
    """By its path; a broken one is refused with its line."""
    path = tmp_path / "mine.jinja"
    path.write_text("{{ messages }}")
    source = locate(template=str(path))
    assert source is not None
    assert read_template(source) == "{{ messages }}"
    path.write_text("\n{% for %}")
    with pytest.raises(ConfigError, match=r"mine.jinja:2: no valid Jinja template"):
        locate(template=str(path))


def test_a_filter_that_there_is_not_is_told_with_its_line(tmp_path: Path) -> None:
    """Jinja reads such a template, and fails wherever its variables are asked for."""
    path = tmp_path / "mine.jinja"
    path.write_text("{% for message in messages %}\n{{ message.content | tojson0 }}{% endfor %}")
    with pytest.raises(ConfigError, match=r"mine.jinja:2: .*No filter named 'tojson0'"):
        locate(template=str(path))


def test_an_unknown_name_lists_the_known_ones() -> None:
    """It may be a slip of the pen."""
    with pytest.raises(ConfigError, match=r"instruction_en, instruction_pt\) nor a file"):
        locate(template="instruction_es")


def test_a_template_is_borrowed_from_a_folder(tmp_path: Path, snapshot: Snapshot) -> None:
    """From its file, else from its configuration, also of several by name."""
    source = locate(template_from=str(snapshot("qwen3")))
    assert source is not None
    assert "<think>" in read_template(source)
    several = [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    source = locate(template_from=str(tmp_path))
    assert source is not None
    assert read_template(source) == "D"
    # The digest is that of the text, wherever it stands.
    assert source.digest == digest_json({"chat_template": "D"})


def test_a_model_without_template_lends_none(snapshot: Snapshot) -> None:
    """GPT-2 has none."""
    with pytest.raises(ConfigError, match="has no chat template"):
        locate(template_from=str(snapshot("gpt2")))


def test_an_unreachable_model_is_a_config_error() -> None:
    """The tests run without network."""
    with pytest.raises(ConfigError, match="the hub did not give it"):
        locate(template_from="nobody/nothing")


def test_the_users_text_stands_in_a_comment() -> None:
    """An engine that serves the template ignores it."""
    text = "{#- retune.user_with_context:\n{question} / {context}\n-#}{{ messages }}"
    assert find_user_text(text) == "{question} / {context}"
    assert find_user_text("{{ messages }}") is None
    for wrong in ("{question}", "{question} {context} {answer}", "{question} {context} }"):
        with pytest.raises(ConfigError, match=r"must hold \{question\} and \{context\}"):
            find_user_text(f"{{# retune.user_with_context:\n{wrong} #}}")


def test_a_template_without_marks_is_replaced_by_trls(snapshot: Snapshot) -> None:
    """TRL ships variants for families; here ChatML as Qwen 2.5 has it."""
    from trl.chat_template_utils import qwen2_5_chat_template

    tokenizer = load_tokenizer(snapshot("qwen3"))
    tokenizer.chat_template = qwen2_5_chat_template
    assert not has_marks(qwen2_5_chat_template)
    assert has_marks(training_template(tokenizer, "marked"))


def test_marks_that_nobody_has_are_a_config_error(snapshot: Snapshot) -> None:
    """The message lists what can be done."""
    with pytest.raises(ConfigError, match=r"loss_on: marked, but .* set prompt.loss_on: answer"):
        training_template(load_tokenizer(snapshot("gemma3")), "marked")


def test_the_template_in_use_is_named(tmp_path: Path, snapshot: Snapshot) -> None:
    """The tokenizer's own where it has one; for GPT-2's, which has none, the one that is taken."""
    assert name_template(None, snapshot("qwen3")) == "the tokenizer's own"
    assert name_template(None, snapshot("gpt2")).startswith("headings, which comes with retune")
    shipped = locate(template="instruction_pt")
    assert name_template(shipped, tmp_path) == "instruction_pt, which comes with retune"
    borrowed = locate(template_from=str(snapshot("qwen3")))
    assert name_template(borrowed, tmp_path) == f"that of {snapshot('qwen3').name}"


def test_switches_of_a_template_are_listed() -> None:
    """What a server could set, without what every template is given."""
    text = "{% generation %}{% endgeneration %}{{ bos_token }}{% for m in messages %}{{ m }}"
    text += "{% endfor %}{% if enable_thinking is defined %}{{ date or strftime_now('%d') }}"
    text += "{% endif %}{% if add_generation_prompt %}{{ tools }}{% endif %}"
    assert list_switches(text) == ("date", "enable_thinking")


def test_several_templates_without_a_default_are_refused(
    tmp_path: Path, snapshot: Snapshot
) -> None:
    """Which one is meant cannot be told; the message names them."""
    tokenizer = load_tokenizer(snapshot("llama"))
    tokenizer.chat_template = {"tool_use": "{{ messages }}", "rag": "{{ messages }}"}
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="several chat templates"):
        load_tokenizer(tmp_path)
