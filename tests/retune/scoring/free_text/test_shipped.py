"""The text metrics that ship: equal to the reference packages, and defined on any text."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from retune.data.jsonl import read_jsonl
from retune.scoring.free_text.corpus_bleu import bleu_of_sums
from retune.scoring.free_text.shipped import (
    BY_ROW,
    Text,
    chrf,
    count_ngrams,
    exact_match,
    rouge_l,
    token_f1,
)
from retune.scoring.shipped_texts import GENERAL_TEXT

ROWS = 200
SQUAD = ("case", "punctuation", "articles_en")
EDGES = [
    Text("", ["a praia"]),
    Text("a praia", [""]),
    Text("", [""]),
    Text("praia", ["praia"]),
    Text("😀", ["😀"]),
    Text("😀 ok", ["ok"]),
    Text("日本語です", ["日本語"]),
    Text("o avião", ["o aviao", "O avião!"]),
]
NO_LONG_RUN = Text("o gato dorme hoje cedo", ["o gato come bem agora"])
"""Two words in a row are shared, and neither three nor four of the three and two that there are."""
ACCENTED = {sign: f"zq{at}q" for at, sign in enumerate("áàâãéêíóôõúüç")}


def rows() -> list[Text]:
    """200 answers in both languages that differ from one or two references by a few words."""
    chance = random.Random(5)
    sentences = [
        sentence.split()
        for text in texts()
        for sentence in re.split(r"(?<=[.!?]) ", text)
        if sentence.split()
    ]
    found = []
    for at in range(ROWS):
        words = sentences[at % len(sentences)]
        answer = [word for word in words if chance.random() > 0.2]
        if at % 5 == 0:
            chance.shuffle(answer)
        others = [" ".join(chance.sample(words, len(words)))] if at % 3 == 0 else []
        found.append(Text(" ".join(answer), [" ".join(words), *others]))
    return found


def texts() -> Iterator[str]:
    for _, row in read_jsonl(GENERAL_TEXT):
        yield row["text"]


def test_the_rows_are_in_both_languages() -> None:
    """Otherwise what follows would say less than it seems to."""
    answers = " ".join(each.answer for each in rows())
    assert len(rows()) == ROWS
    assert " não " in answers and " the " in answers


def test_chrf_is_that_of_sacrebleu() -> None:
    """Of each row on its own, with several references, as it writes it: of 100."""
    for each in [*rows(), *EDGES]:
        expected = sacrebleu.sentence_chrf(each.answer, each.references).score
        assert 100 * chrf(each) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "taken", [[each] for each in (*EDGES, NO_LONG_RUN)] + [rows(), EDGES, rows()[:3]]
)
def test_bleu_of_the_sums_of_rows_is_sacrebleus_of_the_corpus(taken: list[Text]) -> None:
    """Sums are all that it needs, so that drawn rows need not be counted again."""
    sums = np.array([list(count_ngrams(each).values()) for each in taken], dtype=float).sum(axis=0)
    most = max(len(each.references) for each in taken)
    references = [
        [each.references[at] if at < len(each.references) else None for each in taken]
        for at in range(most)
    ]
    expected = sacrebleu.corpus_bleu([each.answer for each in taken], references).score
    assert 100 * float(bleu_of_sums(sums)) == pytest.approx(expected, abs=1e-9)


def test_bleu_is_computed_of_many_sums_at_once() -> None:
    """As a bootstrap asks for it: each line of the table as if it stood alone."""
    table = np.array([list(count_ngrams(each).values()) for each in rows()[:9]], dtype=float)
    assert bleu_of_sums(table).tolist() == [float(bleu_of_sums(each)) for each in table]


def test_rouge_l_is_that_of_rouge_score() -> None:
    """Its own tokenizer knows ASCII alone, so letters with accents are spelled for it."""
    reference = RougeScorer(["rougeL"])
    spelled = str.maketrans(ACCENTED)
    for each in [*rows(), *EDGES[:6]]:
        if "😀" in each.answer:
            continue
        answer, *references = (
            text.lower().translate(spelled).replace("_", " ")
            for text in (each.answer, *each.references)
        )
        expected = reference.score_multi(references, answer)["rougeL"].fmeasure
        assert rouge_l(each) == pytest.approx(expected, abs=1e-9), each


def test_token_f1_is_that_of_squad() -> None:
    """Written once more after its paper: words in common, by sorting and not by counting."""
    for each in [*rows(), *EDGES[:6], EDGES[7]]:
        expected = max(squad_f1(each.answer, right) for right in each.references)
        assert token_f1(each, SQUAD) == pytest.approx(expected, abs=1e-9), each


def squad_f1(answer: str, reference: str) -> float:
    ours, theirs = (sorted(squad_words(text)) for text in (answer, reference))
    if not ours or not theirs:
        return float(ours == theirs)
    left, shared = list(theirs), 0
    for word in ours:
        if word in left:
            left.remove(word)
            shared += 1
    if not shared:
        return 0.0
    precision, recall = shared / len(ours), shared / len(theirs)
    return 2 * precision * recall / (precision + recall)


def squad_words(text: str) -> list[str]:
    kept = "".join(sign for sign in text.lower() if sign not in string.punctuation + "“”‘’–—…«»")
    return [word for word in kept.split() if word not in ("a", "an", "the")]


@pytest.mark.parametrize(
    ("metric", "answer", "reference", "expected"),
    [
        (token_f1, "", "", 1.0),
        (token_f1, "praia", "", 0.0),
        (token_f1, "日本", "日本語", 0.8),  # 2 of 2 and of 3 characters
        (token_f1, "😀", "😀", 1.0),
        (exact_match, " A  praia. ", "a praia", 1.0),
        (exact_match, "a praia", "o mar", 0.0),
    ],
)
def test_words_are_compared_on_any_text(
    metric: Callable[..., float], answer: str, reference: str, expected: float
) -> None:
    """White space alone is no word, and scripts without blanks have words all the same."""
    assert metric(Text(answer, [reference]), ("case", "punctuation")) == pytest.approx(expected)


def test_rouge_l_does_not_break_a_word_at_its_accent() -> None:
    """`avião` and `aviões` share `avi` by the tokenizer of rouge_score, and no word by ours."""
    assert rouge_l(Text("avião", ["aviões"])) == 0.0
    assert RougeScorer(["rougeL"]).score("aviões", "avião")["rougeL"].fmeasure > 0


@pytest.mark.parametrize("name", BY_ROW)
def test_of_several_references_the_best_counts(name: str) -> None:
    """An answer that is one of them is as good as if it stood alone."""
    assert BY_ROW[name](Text("a praia azul", ["o mar", "a praia azul"]), ()) == pytest.approx(1)
