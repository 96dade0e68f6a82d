"""Reviews in Portuguese with a label: rows for a classifier, made as those of text-to-SQL are.

A review says one or two things about a product. With "mas" the second thing decides, with "embora"
the main clause does, and "não" turns an opinion round: a bag of words gets most rows right, and not
all. Training and test differ in products and in half of the opinions.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

TRAIN_ROWS = 800
TEST_ROWS = 200
POSITIVE, NEGATIVE = "positivo", "negativo"
_POSITIVE_SHARE = 0.7
"""Real reviews are seldom balanced either."""


@dataclass(frozen=True)
class Review:
    """A text and what it says; rows of one product lie on one side of a split."""

    id: str
    product: str
    text: str
    label: str


@dataclass(frozen=True)
class Vocabulary:
    """The words that reviews are made of.

    Attributes:
        products: What is reviewed, with the article.
        good: Praise of a product, of either gender.
        bad: Blame of one.
    """

    products: tuple[str, ...]
    good: tuple[str, ...]
    bad: tuple[str, ...]


_ASPECTS = ("a entrega", "o acabamento", "o preço", "a bateria", "o atendimento", "a embalagem")
_PRAISE = ("é excelente", "superou o que eu esperava", "me surpreendeu muito bem")
_BLAME = ("é um desastre", "deixou muito a desejar", "me decepcionou")
"""What can be said of an aspect as well as of a product, in both halves."""

TRAIN = Vocabulary(
    products=(
        *("o celular", "a cafeteira", "o fone", "a mochila", "o teclado", "a panela", "o relógio"),
        *("a cadeira", "o livro", "a lanterna", "o tênis", "a camisa", "o monitor", "a chaleira"),
    ),
    good=("vale cada centavo", "me deixa feliz", "chegou em perfeito estado", "funciona muito bem"),
    bad=("não vale o que custa", "me deixa triste", "chegou com defeito", "parou de funcionar"),
)
TEST = Vocabulary(
    products=("o notebook", "a mesa", "o ventilador", "a bicicleta", "o violão", "a impressora"),
    good=("vale o que custa", "chegou antes do prazo", "é uma maravilha"),
    bad=("não funciona bem", "chegou depois do prazo", "é uma porcaria"),
)

_PLAIN = (
    "Comprei {product} e {opinion}.",
    "{Product}: {opinion}.",
    "Sobre {product}: {aspect} {said}.",
    "Depois de um mês, {product} {opinion}.",
    "{Product} {opinion}, {verdict}.",
)
_TURNED = (
    "{Aspect} {other}, mas {product} {opinion}.",
    "{Product} {opinion}, embora digam que {aspect} {other}.",
    "Disseram que {product} {other}, mas {opinion}.",
    "Há quem diga que {product} {other}; para mim, {opinion}.",
)
_VERDICTS = {
    POSITIVE: ("recomendo", "compraria de novo", "não me arrependo"),
    NEGATIVE: ("não recomendo", "não compraria de novo", "me arrependo"),
}


def write_reviews_pt(folder: Path, seed: int) -> None:
    """Write ``train.jsonl`` and ``test.jsonl``.

    Args:
        folder: Where to write; made if absent.
        seed: Seed of everything in them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, vocabulary, rows in (("train", TRAIN, TRAIN_ROWS), ("test", TEST, TEST_ROWS)):
        reviews = draw_reviews(name, rows, vocabulary, seed=seed)
        lines = (json.dumps(asdict(review), ensure_ascii=False) for review in reviews)
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8", newline="\n")


def draw_reviews(name: str, count: int, vocabulary: Vocabulary, *, seed: int) -> list[Review]:
    """Draw reviews; no text comes twice.

    Args:
        name: Part of every id, and of the seed.
        count: Number of rows.
        vocabulary: Words that they are made of.
        seed: Seed of everything in them.

    Returns:
        The reviews, 70 % of them positive on average.
    """
    rng = random.Random(f"reviews-{name}-{seed}")
    drawn: dict[str, Review] = {}
    while len(drawn) < count:
        product = rng.choice(vocabulary.products)
        label = POSITIVE if rng.random() < _POSITIVE_SHARE else NEGATIVE
        text = _write(rng, product, label, vocabulary)
        if text not in drawn:
            row_id = f"{name}-{len(drawn):03d}"
            drawn[text] = Review(row_id, product.partition(" ")[2], text, label)
    return list(drawn.values())


def _write(rng: random.Random, product: str, label: str, vocabulary: Vocabulary) -> str:
    said, other, opinions = _PRAISE, _BLAME, vocabulary.good
    if label == NEGATIVE:
        said, other, opinions = _BLAME, _PRAISE, vocabulary.bad
    words = {
        "product": product,
        "aspect": rng.choice(_ASPECTS),
        "opinion": rng.choice(said + opinions),
        "said": rng.choice(said),
        "other": rng.choice(other),
        "verdict": rng.choice(_VERDICTS[label]),
    }
    # A sentence begins with a capital, and keeps those that stand further on.
    capital = {name.title(): text[:1].upper() + text[1:] for name, text in words.items()}
    return rng.choice(_PLAIN + _TURNED).format(**words, **capital)
