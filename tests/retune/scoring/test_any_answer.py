"""Whatever a model writes is judged: it ends no stage, and no row but its own."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

from retune.scoring.classification.extraction import read_label
from retune.scoring.classification.records import ClassificationRow
from retune.scoring.classification.score import score_classification
from retune.scoring.counterfactual import PairSide, judge_hit
from retune.scoring.probes import ProbeCase, judge_probes
from retune.scoring.robustness import KINDS, Trial, perturb, score_flips
from retune.scoring.words import find_words, fold_text

COUNT = 5_000
PIECES = (
    *("não", "not ", "nem", "never", "?", "!", ":", ";", ",", "\n", "\r\n", " - ", "—", "−1", "½"),
    *("tóxico", "não tóxico", "spam", "positivo", "isn’t ", '"', "“", "”", "«", "'", "`", "```\n"),
    *("~~", "**", "_", "(", ")", "[", "]", "{", "}", "\\", "|", ".*", "(?:", "[^", "+", "$", "^"),
    *("\x00", "\x1b[31m", "\x7f", "\u200b", "\u202e", "\ufeff", "\ufffd", "\ufffe", "\u2028"),
    *(
        "\ud800",
        "\udfff",
        "\ue000",
        "\ue001",
        "🚫",
        "👩🏽‍💻",
        "❌",
        "a\u0301\u0302\u0303",
        "İ",
        "ß",
        "ﷺ",
    ),
    *("i.d.i.o.t.a", "CREATE TABLE x (", "'; DROP", "%s", "{0}", "<think>", "</s>", "1e999", "NaN"),
)
LABELS = (
    ("tóxico", "não tóxico"),
    ("spam", "not_spam"),
    ("sim", "não"),
    ("-1", "0", "1"),
    (".*", "(", "[x", "a|b", "\\d+", "c++", "$1"),
    ("\ud800", "é", "naïve\u0301", "\U0001f6ab"),
)
WORDS = ("idiota", "d'água", "c++", ".*", "(", "a b", "\\", "5", "não", "[", "\ud800", "☐")


def make_answers(seed: int) -> Iterator[str]:
    """Texts of pieces that readers look for, of any code points, and a few long ones."""
    chance = random.Random(seed)
    for at in range(COUNT):
        length = chance.choice((0, 1, 2, 3, 5, 9, 20))
        if at % 1_000 == 999:
            length = 20_000
        if at % 3:
            yield "".join(chance.choice(PIECES) for _ in range(length))
        else:
            yield "".join(chr(chance.randrange(sys.maxunicode + 1)) for _ in range(length))


@pytest.fixture(scope="module")
def answers() -> list[str]:
    found = list(make_answers(20240601))
    assert len(found) == COUNT and "" in found and max(map(len, found)) >= 20_000
    return found


def test_any_answer_has_a_label_or_a_reason(answers: list[str]) -> None:
    for at, answer in enumerate(answers):
        labels = LABELS[at % len(LABELS)]
        found = read_label(answer, labels)
        assert (found.label in labels) is (found.reason is None), (answer, labels)


def test_any_answers_are_scored(answers: list[str]) -> None:
    labels = LABELS[0]
    rows = [ClassificationRow(row_id=str(at), gold=labels[at % 2]) for at in range(COUNT)]
    read = [read_label(answer, labels).label for answer in answers]
    scores = score_classification(rows, read, labels=labels, resamples=20)
    assert len(scores.outcomes) == COUNT
    assert scores.estimates["unparsable_rate"].value == read.count(None) / COUNT


def test_any_answer_is_searched_for_words(answers: list[str]) -> None:
    case = ProbeCase(
        id="x",
        category="c",
        input="?",
        required_words=(WORDS[0], WORDS[1:4]),
        forbidden_words=("(",),
    )
    judged = judge_probes([case] * COUNT, answers)
    assert all(outcome.passed is not None for outcome in judged.outcomes)
    side = PairSide(group="g", input="?", hit_words=WORDS)
    for answer in answers:
        assert judge_hit(side, answer) is bool(find_words(WORDS, answer))
        assert fold_text(fold_text(answer)) == fold_text(answer)


def test_any_question_can_be_perturbed_and_any_answer_be_a_flip(answers: list[str]) -> None:
    trials = []
    for at, (answer, other) in enumerate(pairwise(answers)):
        kind = KINDS[at % len(KINDS)]
        perturbed = perturb(answer, kind, seed=at)
        trials.append(
            Trial(
                row_id=str(at),
                kind=kind,
                text=answer,
                perturbed=perturbed,
                before=answer,
                after=other,
            )
        )
    rate = score_flips(trials, resamples=20).estimates["flip_rate"]
    assert rate.value is not None and 0 < rate.value <= 1
