"""The shipped reviews and instructions: what the generator gives, right, and without leaks."""

import json
from pathlib import Path
from typing import Any

import pytest

from generator.instructions import write_instructions_pt
from generator.reviews import TEST, TRAIN, write_reviews_pt

ASSETS = Path(__file__).parents[2] / "assets"
SEED = 0


def load(name: str) -> list[dict[str, Any]]:
    text = (ASSETS / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("folder", "write"),
    [("reviews_pt", write_reviews_pt), ("instructions_pt", write_instructions_pt)],
)
def test_what_ships_is_what_the_generator_draws(folder, write, tmp_path):
    """Byte for byte, on every machine."""
    write(tmp_path, SEED)
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_bytes() == (ASSETS / folder / name).read_bytes()


def test_reviews_of_one_product_are_on_one_side():
    """And no text stands on both."""
    train, test = load("reviews_pt/train.jsonl"), load("reviews_pt/test.jsonl")
    for key in ("product", "text"):
        assert not {row[key] for row in train} & {row[key] for row in test}
    assert len(test) == len({row["text"] for row in test}) == 200


def test_a_review_has_the_label_of_what_it_says_of_the_product():
    """The last opinion decides after "mas", the first one before "embora"."""
    found = {(row["text"], row["label"]) for row in load("reviews_pt/test.jsonl")}
    turned = (
        "O acabamento deixou muito a desejar, mas a bicicleta vale o que custa.",
        "O notebook me surpreendeu muito bem, embora digam que a bateria é um desastre.",
    )
    assert all((text, "positivo") in found for text in turned)
    assert ("O violão: não funciona bem.", "negativo") in found


def test_halves_praise_and_blame_in_other_words():
    """A classifier that learned only the words of training misses those of the test."""
    assert not set(TRAIN.good + TRAIN.bad) & set(TEST.good + TEST.bad)


def test_instructions_are_answered_right():
    """Each output follows from the input by the row's kind of work."""
    for row in load("instructions_pt/test.jsonl"):
        words = row["input"].split()
        expected = {
            "upper": " ".join(words).upper(),
            "first": words[0],
            "last": words[-1],
            "list": "- " + "\n- ".join(words),
            "count": str(len(words)),
        }
        assert row["output"] == expected[row["kind"]], row["id"]
