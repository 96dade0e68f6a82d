"""Which label a generated text names, and when it names none."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retune.errors import ConfigError
from retune.scoring.classification.extraction import check_labels, read_label

SENTIMENTS = ("negativo", "neutro", "positivo")


def test_the_reference_cases_are_decided_as_stated(
    read_jsonl: Callable[[str], list[dict[str, Any]]],
) -> None:
    """All 15 agree, without an exception: the denied label of l011 does not count."""
    cases = read_jsonl("probe_cases/label_extraction_cases.jsonl")
    differing = [
        case["id"]
        for case in cases
        if read_label(case["generated"], case["labels"]).label != case["expected"]
    ]
    assert len(cases) == 15
    assert differing == []


@pytest.mark.parametrize(
    ("generated", "label"),
    [
        ("positivo, positivo mesmo", "positivo"),
        ("positivos", None),  # another word
        ("não-positivo", None),
        ("Não é positivo nem negativo.", None),
        ("Positivo, não negativo.", "positivo"),
        ("Não tenho dúvida: neutro", "neutro"),
        ("**Sentimento:**\n\nneutro", "neutro"),
        ("Não sei.\nTexto: outro\nSentimento: negativo", None),
        ("```\nneutro\n```", "neutro"),
        ("```text\nneutro\n```", "neutro"),
        ('{\n  "label": "neutro"\n}', "neutro"),
        ("po\u200bsitivo", "positivo"),
        ("", None),
        ("***", None),
    ],
)
def test_a_text_must_name_exactly_one_label(generated: str, label: str | None) -> None:
    """Another word, a denial, two labels or an invented next example are no answer."""
    assert read_label(generated, SENTIMENTS).label == label


@pytest.mark.parametrize(
    ("labels", "generated", "label"),
    [
        (("spam", "not spam"), "It is not spam.", "not spam"),
        (("spam", "not spam"), "spam", "spam"),
        (("tóxico", "não-tóxico"), "Nao-toxico", "não-tóxico"),
        (("sim", "não"), "Não.", "não"),
        (("-1", "0", "1"), "-1", "-1"),
        (("0", "1"), "0.5", None),
        (("0", "1"), "1.", "1"),
        (("a b", "b c"), "a b c", None),
        (("c++", ".*", "a|b"), "C++", "c++"),
        (("c++", ".*", "a|b"), "a", None),
        (("c++", ".*", "a|b"), "qualquer coisa", None),
        (("(", "[x"), "[x", "[x"),
    ],
)
def test_labels_are_literal_and_the_longest_counts(
    labels: tuple[str, ...], generated: str, label: str | None
) -> None:
    """Signs mean nothing to the pattern, and a label inside another is not named."""
    assert read_label(generated, labels).label == label


@pytest.mark.parametrize(
    ("labels", "message"),
    [((), "no labels"), (("a", " "), "empty label"), (("Ótimo", "otimo"), "equal without accents")],
)
def test_labels_that_cannot_be_told_apart_are_refused(
    labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_labels(labels)


@pytest.mark.parametrize("piece", ["positivo ", "não ", "muito ", " ", "\n", "1.", "```\n", "a:"])
def test_a_megabyte_is_read_in_linear_time(piece: str) -> None:
    """No pattern goes back over what it has read: seconds would be minutes."""
    labels = ("positivo", "muito positivo", "1", "muito  muito")
    start = time.process_time()
    read_label(piece * (1_000_000 // len(piece)), labels)
    assert time.process_time() - start < 10


@settings(deadline=None)
@given(st.text(), st.sampled_from(SENTIMENTS))
def test_a_label_alone_is_itself_whatever_follows_on_other_lines(rest: str, label: str) -> None:
    assert read_label(f"{label}\n{rest}", SENTIMENTS).label == label


@settings(deadline=None)
@given(st.text())
def test_any_text_gives_a_label_or_none(text: str) -> None:
    assert read_label(text, SENTIMENTS).label in (*SENTIMENTS, None)
