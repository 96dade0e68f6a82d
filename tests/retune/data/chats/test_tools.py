"""Tools: what the model may call, what it called, what came back, and calls as answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.chat_templates import learned_text, make_encoder
from tests.retune.data.chats.conftest import EMPTY

ARGUMENTS = {"peca": 7, "nome": 'é "x"', "itens": ["a", None, True], "dentro": {"k": 0.5}}
CALLS = json.dumps([{"name": "preco", "arguments": ARGUMENTS}], ensure_ascii=False)
TOOL = {
    "name": "preco",
    "description": "consulta",
    "parameters": {
        "type": "object",
        "properties": {"peca": {"type": "integer", "description": "número"}},
        "required": ["peca"],
    },
}
TOOLS = json.dumps([TOOL])
STEPS = [
    {"role": "assistant", "content": "", "calls": CALLS},
    {"role": "tool", "name": "preco", "content": '{"reais": 20}'},
]
KNOWING = ("trl_qwen2_5", "trl_qwen3", "trl_qwen3_5_think", "trl_llama3_1", "trl_gptoss")


@pytest.mark.parametrize("name", KNOWING)
def test_steps_are_read_in_the_form_that_transformers_documents(name: str) -> None:
    """The prompt is the template's own for `tools`, `tool_calls` and the role `tool`."""
    encoder = make_encoder(name)
    [row] = encoder.encode_all([EMPTY | {"steps": STEPS, "tools": TOOLS}])
    function = {"name": "preco", "arguments": ARGUMENTS}
    served = encoder.tokenizer.apply_chat_template(
        [
            {"role": "user", "content": "Quantos?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"type": "function", "function": function}],
            },
            {"role": "tool", "name": "preco", "content": '{"reais": 20}'},
        ],
        tools=[{"type": "function", "function": TOOL}],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert (row["fault"], row["prompt_ids"]) == (None, served)


@pytest.mark.parametrize("name", KNOWING)
def test_an_answer_that_calls_is_learned(name: str) -> None:
    """Name and arguments stand in what is learned, which ends with an end token."""
    encoder = make_encoder(name)
    [row] = encoder.encode_all([EMPTY | {"answer": "", "calls": CALLS, "tools": TOOLS}])
    assert row["fault"] is None
    [learned] = learned_text(encoder, row)
    assert "preco" in learned
    assert "peca" in learned
    assert "dentro" in learned
    assert row["answer_ids"][-1] in encoder.end_ids


def test_calls_between_are_turns_of_the_assistant() -> None:
    """With `loss_on: assistant` the call of a step is learned, and the tool's answer is not."""
    encoder = make_encoder("trl_qwen3", loss_on="assistant")
    [row] = encoder.encode_all([EMPTY | {"steps": STEPS, "tools": TOOLS}])
    called, answered = learned_text(encoder, row)
    assert called.startswith('<tool_call>\n{"name": "preco", "arguments": {')
    assert called.endswith("</tool_call><|im_end|>")
    assert answered == "<think>\n\n</think>\n\nSELECT 1<|im_end|>"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"steps": STEPS}, "drops the calls of tools|refuses it"),
        ({"tools": TOOLS}, "drops the tools"),
        ({"answer": "", "calls": CALLS}, "drops the calls of tools"),
    ],
)
@pytest.mark.parametrize("name", ["chatml", "trl_gemma3", "headings", "instruction_pt"])
def test_a_template_that_drops_them_is_a_fault(name: str, row: dict[str, Any], said: str) -> None:
    """A model would learn an answer to what it never read, or no answer at all."""
    import re

    [written] = make_encoder(name).encode_all([EMPTY | row])
    assert re.search(said, written["fault"])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tools": "{"}, "its tools are no JSON"),
        ({"tools": '{"name": "x"}'}, "its tools are no list of objects"),
        ({"calls": "[1]"}, "its calls are no list of objects"),
        ({"calls": '[{"name": "x", "arguments": "{}"}]'}, "a call is no"),
    ],
)
def test_broken_tools_end_one_row(row: dict[str, Any], said: str) -> None:
    """The others go on."""
    broken, sound = make_encoder("trl_qwen3").encode_all([EMPTY | row, EMPTY])
    assert said in broken["fault"]
    assert sound["fault"] is None


def test_a_template_that_reads_arguments_as_text_gets_text() -> None:
    """DeepSeek V3 puts them into its chat as they are."""
    encoder = make_encoder("trl_deepseekv3")
    assert encoder.renderer.template.form.arguments_as_text
    [row] = encoder.encode_all([EMPTY | {"steps": STEPS}])
    assert json.dumps(ARGUMENTS, ensure_ascii=False) in row["prompt"]


def test_a_template_that_asks_for_ids_gets_ids() -> None:
    """Mistral refuses a call without an id of nine letters, and its answer without the same."""
    from retune.data.chats.encoding import RowEncoder

    encoder = make_encoder("chatml")
    encoder.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}"
        "{% for c in m.tool_calls or [] %}{% if (c.id or '') | length != 9 %}"
        "{{ raise_exception('ids have nine letters') }}{% endif %}"
        "[{{ c.id }} {{ c.function | tojson }}]{% endfor %}"
        "{% if m.role == 'tool' %}{% if m.tool_call_id is not defined %}"
        "{{ raise_exception('no id') }}{% endif %}<{{ m.tool_call_id }}>{% endif %}<|im_end|>"
        "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    encoder = RowEncoder(
        encoder.tokenizer, list(encoder.end_ids), encoder.settings, schemas=encoder.schemas
    )
    [row] = encoder.encode_all([EMPTY | {"steps": STEPS}])
    assert row["fault"] is None
    assert "[call00000 {" in row["prompt"]
    assert "<call00000>" in row["prompt"]
