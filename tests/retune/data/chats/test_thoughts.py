"""Thoughts in tags: apart from the answer where a template writes thoughts, text where not."""

from __future__ import annotations

import pytest

from retune.data.chats.faults import ChatFault
from retune.data.chats.thoughts import Thought, split_answer, without_thought
from tests import chat_templates
from tests.chat_templates import make_encoder
from tests.retune.data.chats.conftest import EMPTY

ANSWER = "<think>\nConto um.\n</think>\n\nUm."


@pytest.mark.parametrize(
    "text",
    [
        ANSWER,
        "  <think>Conto um.</think>Um.",
        "<thinking>\nConto um.\n</thinking>\nUm.",
        "<reasoning>Conto um.</reasoning> Um.",
        "<|begin_of_thought|>Conto um.<|end_of_thought|>\n"
        "<|begin_of_solution|>Um.<|end_of_solution|>",
        "Conto um.\n</think>\n\nUm.",
        "<Think>Conto um.</THINK>Um.",
        "\u25c1think\u25b7Conto um.\u25c1/think\u25b7Um.",
        "<scratchpad>Conto um.</scratchpad>\nUm.",
    ],
)
def test_a_thought_in_tags_is_taken_out(text: str) -> None:
    """Whatever the tags are; one whose begin stood in the prompt has its end alone."""
    assert split_answer(text) == Thought("Conto um.", "Um.")
    assert without_thought(text) == "Um."


@pytest.mark.parametrize("text", ["Um.", "Use <think> so.", "Escreva </think> no fim.", ""])
def test_a_text_without_a_thought_stays(text: str) -> None:
    """A word about the tag is no thought."""
    assert split_answer(text) == Thought(None, text)


def test_an_empty_thought_is_none() -> None:
    """The template writes its own, or none."""
    assert split_answer("<think>\n\n</think>\n\nUm.") == Thought(None, "Um.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>Conto", "does not close it"),
        ("<think>a</think>b</think>c", "again after its thought"),
        ("<think>a</think>b<think>c</think>d", "again after its thought"),
    ],
)
def test_what_cannot_be_told_apart_is_a_fault(text: str, said: str) -> None:
    """The message says which tag."""
    with pytest.raises(ChatFault, match=said):
        split_answer(text)


def test_tags_and_a_key_of_its_own_are_the_same_row() -> None:
    """Qwen 3 writes its own tags around either."""
    encoder = make_encoder("trl_qwen3")
    tags, key = encoder.encode_all(
        [EMPTY | {"answer": ANSWER}, EMPTY | {"answer": "Um.", "thinking": "Conto um."}]
    )
    assert tags == key
    assert encoder.tokenizer.decode(tags["answer_ids"]) == f"{ANSWER}<|im_end|>"


def test_two_thoughts_of_one_row_are_a_fault() -> None:
    """Which one shall be learned?"""
    encoder = make_encoder("trl_qwen3")
    [row] = encoder.encode_all([EMPTY | {"answer": ANSWER, "thinking": "Outro."}])
    assert "thoughts of its own, and other ones in tags" in row["fault"]


def test_nothing_behind_a_thought_is_a_fault() -> None:
    """No answer could be learned."""
    encoder = make_encoder("trl_qwen3")
    [row] = encoder.encode_all([EMPTY | {"answer": "<think>a</think>\n"}])
    assert "its answer is empty behind its thought" in row["fault"]


@pytest.mark.parametrize("name", ["chatml", "headings", "trl_qwen2_5"])
def test_tags_are_text_for_a_template_without_thoughts(name: str) -> None:
    """The model learns to write them as they stand in the row."""
    encoder = make_encoder(name)
    [row] = encoder.encode_all([EMPTY | {"answer": ANSWER}])
    end = encoder.end_tokens[0]
    assert encoder.tokenizer.decode(row["answer_ids"]) == ANSWER + end


def test_a_thought_behind_a_prompt_that_opens_it() -> None:
    """DeepSeek's template drops the thoughts of finished turns; the row's is put behind."""
    encoder = make_encoder("deepseek")
    [row] = encoder.encode_all([EMPTY | {"answer": ANSWER}])
    assert row["prompt"].endswith("<｜Assistant｜><think>\n")
    written = encoder.tokenizer.decode(row["answer_ids"])
    assert written.startswith("Conto um.\n</think>\n\nUm.<｜end▁of▁sentence｜>")


def test_a_prompt_that_closes_the_thought_says_so() -> None:
    """Qwen 3.5 with thinking off by default: no served model would think."""
    encoder = make_encoder("trl_qwen3_5_nothink")
    [row] = encoder.encode_all([EMPTY | {"answer": ANSWER}])
    assert "generation prompt closes the thought" in row["fault"]


def test_thoughts_of_earlier_turns_reach_the_template() -> None:
    """By the key that it reads; this one writes them in every turn."""
    encoder = make_encoder("chatml")
    encoder.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}:"
        "{% if m.reasoning_content %}<{{ m.reasoning_content }}>{% endif %}"
        "{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    encoder = type(encoder)(
        encoder.tokenizer, list(encoder.end_ids), encoder.settings, schemas=encoder.schemas
    )
    turns = [
        {"role": "user", "content": "Oi"},
        {"role": "assistant", "content": "Olá", "thinking": "Saúdo."},
    ]
    [row] = encoder.encode_all([EMPTY | {"history": turns}])
    assert "assistant:<Saúdo.>Olá<|im_end|>" in row["prompt"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\n\n</think>\n\nSELECT 1", "SELECT 1"),
        ("Conto um.\n</think>\n\nSELECT 1", "SELECT 1"),
        ("</think>\nSELECT 1", "SELECT 1"),
        ("<think>\nConto e conto", ""),
        ("<|channel|>final<|message|>SELECT 1", "SELECT 1"),
        (
            "<|channel|>analysis<|message|>Conto.<|end|><|start|>assistant"
            "<|channel|>final<|message|>SELECT 1<|return|>",
            "SELECT 1",
        ),
        ("<|channel|>analysis<|message|>Conto", ""),
        ("SELECT '</think>'", "SELECT '</think>'"),
    ],
)
def test_an_answer_is_judged_without_its_thought(text: str, answer: str) -> None:
    """One whose thought was not ended has no answer."""
    assert without_thought(text) == answer


def test_a_thought_behind_one_that_the_prompt_closes_is_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of a template that writes no other thoughts (SmolLM 3 that does not think)."""
    head = "<|im_start|>assistant\n<think>\n\n</think>\n"
    text = (
        "{% for m in messages %}{% if m.role == 'assistant' %}" + head + "{{ m.content }}"
        "<|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}" + head + "{% endif %}"
    )
    monkeypatch.setattr(chat_templates, "all_templates", lambda: {"closes": text})
    encoder = make_encoder("closes")
    [plain, thinks] = encoder.encode_all([EMPTY | {"answer": "Um."}, EMPTY | {"answer": ANSWER}])
    assert plain["fault"] is None
    assert "closes the thought before the answer" in str(thinks["fault"])
