"""What is trained on is what a server asks with, for every template that can be had offline."""

from __future__ import annotations

from typing import Any

import pytest

from retune.data.chats.messages import build_messages
from tests.chat_templates import all_templates, dress, make_encoder
from tests.retune.data.chats.conftest import EMPTY

HISTORY = [{"role": "user", "content": "Oi"}, {"role": "assistant", "content": "Olá"}]
SYSTEM = {"role": "system", "content": "Seja breve."}
ROWS = (
    {},
    {"answer": "  dois\n"},
    {"history": HISTORY, "question": "E depois?\n"},
    {"answer": "<think>\nConto um.\n</think>\n\nUm."},
)


@pytest.mark.parametrize("name", sorted(all_templates()))
def test_the_trained_prompt_is_the_served_prompt(name: str) -> None:
    """Ids of `apply_chat_template(..., add_generation_prompt=True)` with every switch at rest.

    A template may refuse a row (Qwen 3.5 without thoughts closes them in its prompt, and so cannot
    be asked for one); the plain ones it takes.
    """
    encoder = make_encoder(name)
    written = list(encoder.encode_all([EMPTY | row for row in ROWS]))
    for row, one in zip(ROWS, written, strict=True):
        messages = build_messages(**_asked(EMPTY | row))
        served = encoder.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=False
        )
        if one["fault"] is None:
            assert one["prompt_ids"] == served
    assert [one["fault"] for one in written[:3]] == [None, None, None]


def _asked(row: dict[str, Any]) -> dict[str, Any]:
    return {"question": row["question"], "history": row["history"]}


@pytest.mark.parametrize("name", sorted(all_templates()))
def test_prompt_and_answer_are_the_templates_own_chat(name: str) -> None:
    """Together they are the finished chat up to its end token; its ids are those of the chat.

    But where the prompt opens a thought that the finished chat does not write.
    """
    encoder = make_encoder(name)
    [row] = encoder.encode_all([EMPTY | {"answer": "O conserto fica por 20 reais."}])
    chat = [
        {"role": "user", "content": "Quantos?"},
        {"role": "assistant", "content": "O conserto fica por 20 reais."},
    ]
    whole = encoder.tokenizer.apply_chat_template(chat, tokenize=False)
    ids = [*row["prompt_ids"], *row["answer_ids"]]
    if "<think>" in row["prompt"] and not whole.startswith(row["prompt"]):
        assert encoder.tokenizer.decode(row["answer_ids"]).lstrip().startswith("</think>")
        return
    read = encoder.tokenizer(whole, add_special_tokens=False)["input_ids"]
    # All but the last token, which a template without an end token gets behind its chat.
    assert encoder.apart or read[: len(ids) - 1] == ids[:-1]
    assert ids[-1] in encoder.end_ids


@pytest.mark.parametrize(
    ("name", "prompt_end", "answer"),
    [
        ("llama2", "[/INST]", " dois "),
        ("blank_before", "assistant:", " dois"),
        ("lines_before", "assistant:\n", "\ndois"),
        ("trl_qwen3", "<|im_start|>assistant\n", "<think>\n\n</think>\n\ndois"),
        ("trl_gptoss", "<|start|>assistant", "<|channel|>final<|message|>dois"),
        ("trl_glm4moe", "<|assistant|>", "\n<think></think>\ndois"),
        ("deepseek", "<think>\n", "\n</think>\n\ndois"),
        ("trl_nemotron_3_nano", "<think>\n", "</think>dois"),
    ],
)
def test_what_stands_before_an_answer_is_learned(name: str, prompt_end: str, answer: str) -> None:
    """By hand from each template: a blank, lines, an empty thought, a channel, a thought's end."""
    encoder = make_encoder(name)
    [row] = encoder.encode_all([EMPTY | {"answer": "dois"}])
    assert row["prompt"].endswith(prompt_end)
    written = encoder.tokenizer.decode(row["answer_ids"])
    end = next(end for end in reversed(encoder.end_tokens) if written.endswith(end))
    assert written.removesuffix(end) == answer


def test_a_token_over_the_seam_is_told() -> None:
    """``A: `` and ``dois`` are `A`, `:`, ` `, `dois`; as a whole ` dois` is one token.

    No server asks with half a token, so that the prompt keeps its ids, and the rows are counted.
    """
    encoder = make_encoder("drops_system")
    [row] = encoder.encode_all([EMPTY | {"answer": "dois"}])
    assert encoder.apart == 1
    assert encoder.tokenizer.decode(row["prompt_ids"]) == "U: Quantos?\nA: "
    assert encoder.tokenizer.decode(row["answer_ids"]) == f"dois{encoder.tokenizer.eos_token}"


@pytest.mark.parametrize("name", ["mistral", "gemma2", "trl_gemma", "drops_system"])
def test_a_system_message_without_a_place_is_folded(name: str) -> None:
    """Above the first question, a blank line between; refused or dropped by the template itself."""
    encoder = make_encoder(name)
    row = EMPTY | {"history": [SYSTEM, *HISTORY]}
    [folded] = encoder.encode_all([row])
    asked = [{"role": "user", "content": "Seja breve.\n\nOi"}, *HISTORY[1:]]
    expected = encoder.tokenizer.apply_chat_template(
        [*asked, {"role": "user", "content": "Quantos?"}],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert (folded["fault"], folded["prompt_ids"], encoder.folded) == (None, expected, 1)


@pytest.mark.parametrize("name", ["chatml", "llama2", "trl_gemma3", "trl_qwen3", "headings"])
def test_a_system_message_with_a_place_stays(name: str) -> None:
    """Gemma 3 folds it itself, and is left alone."""
    encoder = make_encoder(name)
    [row] = encoder.encode_all([EMPTY | {"history": [SYSTEM]}])
    expected = encoder.tokenizer.apply_chat_template(
        [SYSTEM, {"role": "user", "content": "Quantos?"}],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert (row["prompt_ids"], encoder.folded) == (expected, 0)


@pytest.mark.parametrize(
    "raised",
    ["{{ 1 / 0 }}", "{{ none + 'a' }}", "{{ x.y.z }}", "{{ {}['a'] + 1 }}", "{{ [].pop() }}"],
)
def test_whatever_a_template_raises_ends_one_row(raised: str) -> None:
    """ZeroDivisionError, TypeError, UndefinedError, IndexError: the others go on."""
    encoder = make_encoder("chatml")
    own = encoder.tokenizer.chat_template
    encoder.tokenizer.chat_template = (
        "{% if 'bad' in messages[0].content %}" + raised + "{% endif %}" + own
    )
    rows = [EMPTY, EMPTY | {"question": "bad"}, EMPTY]
    faults = [row["fault"] for row in encoder.encode_all(rows)]
    assert faults[0] is faults[2] is None
    assert faults[1].startswith("malformed_chats: the chat template refuses it: ")


def test_a_template_that_calls_itself_for_ever_ends_one_row() -> None:
    """RecursionError is no reason to lose the other rows."""
    encoder = make_encoder("chatml")
    own = encoder.tokenizer.chat_template
    encoder.tokenizer.chat_template = (
        "{% macro f() %}{{ f() }}{% endmacro %}"
        "{% if 'bad' in messages[0].content %}{{ f() }}{% endif %}" + own
    )
    bad, good = encoder.encode_all([EMPTY | {"question": "bad"}, EMPTY])
    assert "RecursionError" in bad["fault"]
    assert good["fault"] is None


def test_a_dropped_turn_is_a_fault() -> None:
    """A model would learn to answer what it never read."""
    encoder = make_encoder("drops_system")
    step = {"role": "tool", "content": "20 reais", "name": "preco"}
    [row] = encoder.encode_all([EMPTY | {"steps": [step]}])
    assert "drops a turn of the role tool" in row["fault"]


def test_the_dressed_tokenizer_ends_where_the_family_does() -> None:
    """The tests above stand on it."""
    assert dress("trl_gptoss")[1] == ["<|return|>", "<|call|>"]
    assert dress("gemma2")[1] == ["<end_of_turn>"]
