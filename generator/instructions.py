"""Instructions in Portuguese that even a tiny model can follow: small work on given words.

Each row has an instruction, an input and an output, as Alpaca's rows have. The answer follows from
the input alone, so that a model can be right or wrong. Training and test differ in their words.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

TRAIN_ROWS = 800
TEST_ROWS = 120

_TRAIN_WORDS = (
    *("casa", "livro", "gato", "praia", "janela", "cidade", "banana", "sapato", "noite", "barco"),
    *("mesa", "vento", "pedra", "escola", "fruta", "carta", "ponte", "rua", "verde", "amigo"),
)
_TEST_WORDS = (
    *("porta", "campo", "lago", "folha", "estrada", "tomate", "camisa", "manhã", "trem", "faca"),
    *("prato", "nuvem", "dente", "igreja", "planta"),
)


@dataclass(frozen=True)
class Instruction:
    """One row; ``kind`` is the name of its work."""

    id: str
    kind: str
    instruction: str
    input: str
    output: str


@dataclass(frozen=True)
class _Work:
    asked: tuple[str, ...]
    words: int
    do: Callable[[list[str]], str]


_WORKS = {
    "upper": _Work(
        ("Escreva em maiúsculas.", "Passe o texto para letras maiúsculas."),
        2,
        lambda words: " ".join(words).upper(),
    ),
    "first": _Work(
        ("Diga a primeira palavra.", "Qual é a primeira palavra do texto?"),
        3,
        lambda words: words[0],
    ),
    "last": _Work(
        ("Diga a última palavra.", "Qual é a última palavra do texto?"),
        3,
        lambda words: words[-1],
    ),
    "list": _Work(
        ("Faça uma lista.", "Escreva cada palavra em uma linha da lista."),
        3,
        lambda words: "\n".join(f"- {word}" for word in words),
    ),
    "count": _Work(
        ("Conte as palavras.", "Quantas palavras há no texto?"),
        0,
        lambda words: str(len(words)),
    ),
}
_MOST_WORDS = 6


def write_instructions_pt(folder: Path, seed: int) -> None:
    """Write ``train.jsonl`` and ``test.jsonl``.

    Args:
        folder: Where to write; made if absent.
        seed: Seed of everything in them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, words, rows in (
        ("train", _TRAIN_WORDS, TRAIN_ROWS),
        ("test", _TEST_WORDS, TEST_ROWS),
    ):
        drawn = draw_instructions(name, rows, words, seed=seed)
        lines = (json.dumps(asdict(row), ensure_ascii=False) for row in drawn)
        text = "".join(f"{line}\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8", newline="\n")


def draw_instructions(
    name: str, count: int, words: tuple[str, ...], *, seed: int
) -> list[Instruction]:
    """Draw instructions; no instruction comes twice with the same input.

    Args:
        name: Part of every id, and of the seed.
        count: Number of rows.
        words: What the inputs are made of.
        seed: Seed of everything in them.

    Returns:
        The rows, each kind of work as often as the others on average.
    """
    rng = random.Random(f"instructions-{name}-{seed}")
    drawn: dict[tuple[str, str], Instruction] = {}
    while len(drawn) < count:
        kind = rng.choice(sorted(_WORKS))
        work = _WORKS[kind]
        given = rng.sample(words, work.words or rng.randint(1, _MOST_WORDS))
        asked, text = rng.choice(work.asked), " ".join(given)
        if (asked, text) not in drawn:
            row_id = f"{name}-{len(drawn):03d}"
            drawn[asked, text] = Instruction(row_id, kind, asked, text, work.do(given))
    return list(drawn.values())
