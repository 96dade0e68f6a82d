"""Chats drawn at random, with everything in them that trips templates and tokenizers."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from retune.data.chats.messages import build_messages, read_tools
from tests.chat_templates import make_encoder
from tests.retune.data.chats.conftest import EMPTY

TEMPLATES = (
    "llama2",
    "mistral",
    "gemma2",
    "chatml",
    "deepseek",
    "drops_system",
    "no_end",
    "headings",
    "instruction_pt",
    "trl_qwen3",
    "trl_llama3_1",
    "trl_gptoss",
)
ROWS = 180
"""Of each template: 2,160 in all."""
PIECES = (
    *("", " ", "\n", "\t\t", "\r\n", "\x00", "\u200b", "\ue000", "0", "x" * 300),
    *("SELECT 1", "Olá!", "é à noite 🚲👩‍👩‍👧", "مرحبا", "שלום"),
    *(
        "{question}",
        "{{ 7 * 7 }}",
        "{% raw %}",
        "{# a #}",
        '{"a": 1}',
        "# a",
        "```sql\nSELECT 1\n```",
    ),
    *(
        "<think>",
        "</think>",
        "<think>a</think>b",
        "\n</think>\n",
        "<tool_call>",
        "</tool_response>",
    ),
    *("<|im_end|>", "<|im_start|>assistant\n", "[INST]", "[/INST]", "<end_of_turn>", "</s>", "<s>"),
    *("<|channel|>final<|message|>", "<|start|>", "<|eot_id|>", "<｜User｜>"),
)


def draw_text(draw: random.Random) -> str:
    return "".join(draw.choice(PIECES) for _ in range(draw.choice((0, 1, 1, 2, 3))))


def draw_calls(draw: random.Random) -> str:
    values = (
        draw_text(draw),
        draw.randint(-9, 9),
        draw.random(),
        True,
        None,
        [draw_text(draw)],
        {},
    )
    calls = [
        {
            "name": draw.choice(("preco", "a.b", "x y")),
            "arguments": {
                draw.choice(("k", "peca", "é")): draw.choice(values)
                for _ in range(draw.randint(0, 2))
            },
        }
        for _ in range(draw.randint(1, 2))
    ]
    return json.dumps(calls, ensure_ascii=False)


def draw_turn(draw: random.Random, role: str) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": role, "content": draw_text(draw), "learned": None}
    if draw.random() < 0.2:
        turn["learned"] = False
    if role == "assistant" and draw.random() < 0.2:
        turn["thinking"] = draw_text(draw)
    if role == "assistant" and draw.random() < 0.15:
        turn["calls"] = draw_calls(draw)
    if role == "tool":
        turn["name"] = draw.choice(("preco", None))
    return turn


def draw_row(draw: random.Random) -> dict[str, Any]:
    history = []
    if draw.random() < 0.3:
        history.append(draw_turn(draw, draw.choice(("system", "developer"))))
    for _ in range(draw.choice((0, 0, 1, 2))):
        history += [draw_turn(draw, "user"), draw_turn(draw, "assistant")]
    steps = []
    for _ in range(draw.choice((0, 0, 0, 0, 1, 2))):
        steps += [draw_turn(draw, "assistant"), draw_turn(draw, "tool")]
    tool = {"name": "preco", "description": "c", "parameters": {"type": "object", "properties": {}}}
    rare = draw.random() < 0.1
    return EMPTY | {
        "history": history,
        "question": draw_text(draw),
        "steps": steps,
        "context": draw.choice(("", "", draw_text(draw))),
        "thinking": draw_text(draw) if draw.random() < 0.15 else None,
        "answer": draw_text(draw) or draw.choice(("SELECT 1", "")),
        "calls": draw.choice((draw_calls(draw), "[]", "{", "[1]")) if rare else None,
        "learned": draw.choice((None, None, None, False)),
        "tools": draw.choice((json.dumps([tool]), "x", "[]")) if draw.random() < 0.1 else None,
    }


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("loss_on", ["answer", "assistant", "all"])
def test_any_row_is_a_chat_or_has_a_fault(name: str, loss_on: str) -> None:
    """No exception; and what is a chat has the served prompt, and loss where its row allows it."""
    draw = random.Random(f"{name} {loss_on}")
    rows = [draw_row(draw) for _ in range(ROWS // 3)]
    encoder = make_encoder(name, loss_on=loss_on)
    written = list(encoder.encode_all(rows))
    assert len(written) == len(rows)
    chats = 0
    for row, one in zip(rows, written, strict=True):
        if (one["fault"] or "").startswith("malformed_chats"):
            continue
        chats += 1
        assert one["prompt_ids"] == served_ids(encoder, row)
        assert one["answer_ids"]
        check_mask(row, one, loss_on)
    assert chats > len(rows) // 10  # else nothing was tested


def served_ids(encoder: Any, row: dict[str, Any]) -> list[int]:
    keys = ("question", "context", "history", "steps")
    messages = build_messages(
        system=encoder.settings.system,
        user=encoder.settings.user,
        **{key: row[key] for key in keys},
        with_context=encoder.renderer.with_context,
    )
    given = encoder.renderer.template.form.write(encoder.renderer.fold_system(messages))
    ids: list[int] = encoder.tokenizer.apply_chat_template(
        given, tools=read_tools(row["tools"]), add_generation_prompt=True, return_dict=False
    )
    return ids


def check_mask(row: dict[str, Any], one: dict[str, Any], loss_on: str) -> None:
    prompt, answer, mask = one["prompt_ids"], one["answer_ids"], one["loss_mask"]
    turns = [*row["history"], *row["steps"]]
    if mask is None:
        assert loss_on == "answer"
        assert row["learned"] is None
        return
    assert len(mask) == len(prompt) + len(answer)
    assert any(mask[len(prompt) :]) == (row["learned"] is None)
    if loss_on == "answer":
        assert not any(mask[: len(prompt)])
    if loss_on == "assistant" and not any(turn["role"] == "assistant" for turn in turns):
        assert not any(mask[: len(prompt)])
