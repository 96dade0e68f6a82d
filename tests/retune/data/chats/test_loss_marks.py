"""Where loss falls: on turns of the assistant, and never on what a row keeps out of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from retune.errors import ConfigError
from tests.chat_templates import learned_text, make_encoder
from tests.retune.data.chats.conftest import EMPTY

WRONG = {"role": "assistant", "content": "ERRADO.", "learned": False}
RIGHT = {"role": "assistant", "content": "Certo."}
CHAT = [
    {"role": "user", "content": "Oi"},
    WRONG,
    {"role": "user", "content": "E agora?"},
    RIGHT,
]
# By hand: what each template has the model write in an earlier turn, end token included.
TURNS = {
    "chatml": "{}<|im_end|>",
    "gemma2": "{}<end_of_turn>",
    "phi": "{}<|end|>",
    "mistral": "{}<|end|>",
    "llama2": " {} <|end|>",
    "headings": "{}<|end|>",
    "trl_qwen3": "{}<|im_end|>",
    "trl_qwen3_5_think": "{}<|im_end|>",
    "trl_gptoss": "<|channel|>final<|message|>{}<|end|>",
    "deepseek": "{}<｜end▁of▁sentence｜>",
}


@pytest.mark.parametrize("name", TURNS)
def test_loss_on_all_turns_of_the_assistant(name: str) -> None:
    """With marks of the template (headings) and without: each turn with its end, and no other."""
    encoder = make_encoder(name, loss_on="assistant")
    turns = [{**turn, "learned": None} for turn in CHAT]
    [row] = encoder.encode_all([EMPTY | {"history": turns}])
    learned = learned_text(encoder, row)
    expected = [TURNS[name].format(text) for text in ("ERRADO.", "Certo.")]
    assert (row["fault"], learned[:-1]) == (None, expected)
    assert "SELECT 1" in learned[-1]


@pytest.mark.parametrize("name", TURNS)
@pytest.mark.parametrize("loss_on", ["answer", "assistant", "all"])
def test_a_turn_that_is_not_to_be_learned_carries_no_loss(name: str, loss_on: str) -> None:
    """Whatever the recipe says; all the others carry what they would."""
    encoder = make_encoder(name, loss_on=loss_on)
    plain, marked = encoder.encode_all(
        [
            EMPTY | {"history": [{**turn, "learned": None} for turn in CHAT]},
            EMPTY | {"history": CHAT},
        ]
    )
    assert marked["fault"] is None
    assert (marked["prompt_ids"], marked["answer_ids"]) == (
        plain["prompt_ids"],
        plain["answer_ids"],
    )
    before, after = "".join(learned_text(encoder, plain)), "".join(learned_text(encoder, marked))
    turn = TURNS[name].format("ERRADO.")
    assert marked["loss_mask"] is not None
    assert ("ERRADO" in before) == (loss_on != "answer")
    assert after == before.replace(turn, "", 1)


@pytest.mark.parametrize("loss_on", ["answer", "assistant", "all", "marked"])
def test_an_answer_that_is_not_to_be_learned_carries_no_loss(loss_on: str) -> None:
    """Not one of its tokens, end token included."""
    encoder = make_encoder("headings", loss_on=loss_on)
    [row] = encoder.encode_all([EMPTY | {"learned": False}])
    assert not any(row["loss_mask"][len(row["prompt_ids"]) :])
    assert any(row["loss_mask"]) == (loss_on == "all")


def test_a_question_may_be_kept_out_of_loss_on_all() -> None:
    """A turn of the user, too, says of itself whether it is learned."""
    encoder = make_encoder("chatml", loss_on="all")
    turns = [{"role": "user", "content": "Segredo", "learned": False}, RIGHT]
    [row] = encoder.encode_all([EMPTY | {"history": turns}])
    learned = "".join(learned_text(encoder, row))
    assert "Segredo" not in learned
    assert "Certo." in learned


@pytest.mark.parametrize(("loss_on", "kept"), [("answer", 0), ("assistant", 1)])
def test_a_row_without_a_learned_answer(
    bench: Any, read_audit: Callable[..., Any], loss_on: str, kept: int
) -> None:
    """It is no target, but where earlier turns teach; in testing it is none at all."""
    row = {"history": [CHAT[0], RIGHT], "learned": False}
    chat = bench.audit([row, {}], loss_on=loss_on)
    assert (chat.train, chat.faults["no_target"].rows) == (1 + kept, 1 - kept)
    source = bench.source([{"answer": "Um, dois"}, {"answer": "Olá, tudo bem"}, row])
    encoded = bench.encode(source, loss_on=loss_on)
    from retune.errors import DataError

    with pytest.raises(DataError, match="no token that carries loss"):
        bench.prepare(
            [source],
            [encoded],
            {"train": [(0, 0)], "validation": [(0, 1)], "test": [(0, 2)]},
            loss_on=loss_on,
        )


def test_plain_text_that_is_not_to_be_learned(bench: Any) -> None:
    """Its mask is there, and false."""
    from retune.data.tables import read_rows

    source = bench.source([{"question": "", "answer": "Era.", "learned": False}], "text")
    [row] = read_rows(bench.encode(source).folder / "chats.parquet")
    assert len(row["loss_mask"]) == len(row["prompt_ids"]) + len(row["answer_ids"])
    assert not any(row["loss_mask"])


def test_a_template_whose_turns_cannot_be_found_is_refused() -> None:
    """It writes earlier turns backwards: nothing says where they stand."""
    from retune.data.chats.encoding import RowEncoder

    encoder = make_encoder("chatml")
    encoder.tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}"
        "A: {{ m.content | reverse }}<|im_end|>{% else %}{{ m.role }}: {{ m.content }}<|im_end|>"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(ConfigError, match="does not mark what the assistant writes"):
        RowEncoder(
            encoder.tokenizer,
            list(encoder.end_ids),
            encoder.settings.model_copy(update={"loss_on": "assistant"}),
            schemas=encoder.schemas,
        )
