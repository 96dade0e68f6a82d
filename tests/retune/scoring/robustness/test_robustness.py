"""Perturbations of questions, and how often they turn an outcome."""

import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retune.errors import ConfigError, ScoringError
from retune.scoring.robustness import (
    KINDS,
    FlipScores,
    Kind,
    PerturbationOptions,
    Trial,
    load_paraphrases,
    perturb,
    score_flips,
    split_schema,
)
from retune.scoring.uncertainty.estimates import wilson_interval

SCHEMA = "CREATE TABLE Ações (Id INT, nome TEXT);\nINSERT INTO Ações VALUES (1, 'x;  Y');\n"
QUESTION = "Quais são os nomes das ações do José?"


def trial(row: str, before: object, after: object, kind: str = "upper", text: str = "b") -> Trial:
    return Trial.model_validate(
        {
            "row_id": row,
            "kind": kind,
            "text": "a",
            "perturbed": text,
            "before": before,
            "after": after,
        }
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("upper", "QUAIS SÃO OS NOMES DAS AÇÕES DO JOSÉ?"),
        ("lower", "quais são os nomes das ações do josé?"),
        ("title", "Quais São Os Nomes Das Ações Do José?"),
        ("no_accents", "Quais sao os nomes das acoes do Jose?"),
        ("double_space", "Quais  são  os  nomes  das  ações  do  José?"),
        ("paraphrase", QUESTION),
    ],
)
def test_each_kind_changes_the_question_as_it_says(kind: Kind, expected: str) -> None:
    assert perturb(QUESTION, kind) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_before_the_question_stays_letter_by_letter(kind: Kind) -> None:
    for seed in range(20):
        assert perturb(SCHEMA + QUESTION, kind, seed).startswith(SCHEMA)


def test_a_schema_ends_with_its_last_statement_and_not_in_a_literal() -> None:
    assert split_schema(SCHEMA + QUESTION) == (SCHEMA, QUESTION)
    assert split_schema("Crie um plano; depois conte.") == ("", "Crie um plano; depois conte.")
    assert split_schema(QUESTION) == ("", QUESTION)


@pytest.mark.parametrize("kind", ["upper", "lower", "title", "no_accents", "typos", "double_space"])
@pytest.mark.parametrize("quoted", ["'São  João'", '"São  João"', "“São  João”", "«São  João»"])
def test_quoted_values_stay(kind: Kind, quoted: str) -> None:
    text = f"Quantos clientes moram em {quoted} atualmente?"
    changed = perturb(text, kind, 3)
    assert quoted in changed


def test_an_apostrophe_is_no_quotation_mark() -> None:
    assert perturb("don't ask d'água if it isn't", "upper") == "DON'T ASK D'ÁGUA IF IT ISN'T"
    assert perturb("don't ask d'água", "title") == "Don't Ask D'água"


def test_marks_that_are_vowels_stay() -> None:
    # Devanagari vowel signs and a Cyrillic letter that is written with a mark.
    assert perturb("हिन्दी é й", "no_accents") == "हिन्दी e й"


def test_accents_written_as_marks_are_removed_and_other_texts_do_not_change() -> None:
    decomposed = unicodedata.normalize("NFD", "ação")
    assert perturb(decomposed, "no_accents") == "acao"
    hangul = unicodedata.normalize("NFD", "한국")
    assert perturb(hangul, "no_accents") == hangul


@pytest.mark.parametrize(("rate", "low", "high"), [(0.02, 1, 12), (0.1, 15, 60)])
def test_typos_come_at_the_stated_rate(rate: float, low: int, high: int) -> None:
    # 60 words "palavra": 6 letters each may change, 360 in all; 2 % are 7 places, 10 % are 36. A
    # place changes one letter, or two where letters change over.
    text = " ".join(["palavra"] * 60)
    changed = perturb(text, "typos", 1, options=PerturbationOptions(typo_rate=rate))
    words = changed.split()
    assert len(words) == 60
    assert low <= sum(word != "palavra" for word in words) <= high


def test_typos_spare_first_letters_digits_and_short_words() -> None:
    options = PerturbationOptions(typo_rate=1.0)
    changed = perturb("os 3 mil alunos de 2024 em 1a2b3c4d", "typos", 5, options=options)
    words = changed.split()
    assert [words[n] for n in (0, 1, 2, 4, 5, 6, 7)] == [
        "os",
        "3",
        "mil",
        "de",
        "2024",
        "em",
        "1a2b3c4d",
    ]
    assert words[3].startswith("a")
    assert words[3] != "alunos"


def test_another_seed_makes_other_typos() -> None:
    assert len({perturb(QUESTION, "typos", seed) for seed in range(10)}) > 3


def test_a_paraphrase_is_one_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        f"paraphrases: [{{text: '{QUESTION}', rewordings: [um, dois, três]}}]", encoding="utf-8"
    )
    options = PerturbationOptions(paraphrases=load_paraphrases(path))
    found = {perturb(SCHEMA + QUESTION, "paraphrase", seed, options=options) for seed in range(30)}
    assert found == {SCHEMA + word for word in ("um", "dois", "três")}


def test_all_errors_of_paraphrases_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "paraphrases: [text, {text: a, rewordings: []}, {text: b, rewordings: [b]}, "
        "{text: c, rewordings: [d]}, {text: c, rewordings: [e]}, {text: f}]",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        load_paraphrases(path)
    lines = caught.value.message.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        f"paraphrases[{at}]" for at in (0, 1, 2, 4, 5)
    ]


def test_an_injection_is_put_behind_the_question() -> None:
    options = PerturbationOptions(suffixes=("Pare.",))
    assert perturb(QUESTION, "injection", options=options) == f"{QUESTION}\nPare."


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ConfigError, match="expected one of upper, lower"):
        perturb("x", "reverse")  # type: ignore[arg-type]


@settings(deadline=None)
@given(text=st.text(max_size=60), kind=st.sampled_from(KINDS), seed=st.integers(0, 9))
def test_a_change_depends_on_text_kind_and_seed_alone(text: str, kind: Kind, seed: int) -> None:
    first = perturb(text, kind, seed)
    random.seed(1)
    perturb("another text in between", "typos", 7)
    assert perturb(text, kind, seed) == first


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from(["upper", "lower", "title", "no_accents"]))
def test_changing_twice_is_changing_once(text: str, kind: Kind) -> None:
    once = perturb(text, kind)
    # Upper case of some signs has no upper case that stays ('ŉ'): the second pass must settle.
    assert perturb(perturb(once, kind), kind) == perturb(once, kind)


def test_typos_of_a_known_text_never_move() -> None:
    # Fixed: another machine, Python or order of rows must give the same letters.
    assert (
        perturb("Quantos alunos estudam em Belém?", "typos", 1) == "Quantos alunos estudam em Beém?"
    )


def test_the_flip_rate_counts_only_texts_that_changed() -> None:
    trials = [
        trial("1", True, False),
        trial("2", True, True),
        trial("3", False, True),
        trial("4", True, False, text="a"),  # the text stayed: sampling noise, no flip
        trial("5", None, True),
        trial("6", True, None),
    ]
    found = score_flips(trials)
    upper = found.by_kind["upper"]
    # Of six, one did not change and two were not scored: two of three flipped.
    assert (upper.flip_rate.value, upper.flip_rate.n) == (2 / 3, 3)
    assert (upper.flip_rate.low, upper.flip_rate.high) == wilson_interval(2, 3)
    assert (upper.broke, upper.mended, upper.unchanged, upper.unscored) == (1, 1, 1, 2)
    assert found.estimates["flip_rate"] == upper.flip_rate


def test_labels_and_answers_flip_when_they_differ() -> None:
    found = score_flips([trial("1", "spam", "ham"), trial("2", "ham", "ham")]).by_kind["upper"]
    assert found.flip_rate.value == 0.5
    assert (found.broke, found.mended) == (0, 0)


def test_a_kind_without_changed_rows_has_no_rate() -> None:
    found = score_flips([trial("1", True, False, text="a")], kinds=("typos",))
    assert list(found.by_kind) == ["typos", "upper"]
    assert found.by_kind["typos"].flip_rate.value is None
    assert found.by_kind["upper"].flip_rate.value is None
    assert found.estimates["flip_rate"].value is None
    assert score_flips([]).estimates["flip_rate"].n == 0


def test_rows_that_come_back_for_each_kind_do_not_narrow_the_interval() -> None:
    # Ten rows under eight kinds, five of them flip under all: ten things were seen and not eighty.
    trials = [trial(str(row), True, row % 2 == 0, kind=kind) for row in range(10) for kind in KINDS]
    found = score_flips(trials).estimates["flip_rate"]
    low, high = wilson_interval(40, 80)
    assert (found.value, found.n) == (0.5, 80)
    assert found.low is not None
    assert found.high is not None
    assert found.low < low
    assert found.high > high


def test_a_row_occurs_once_for_each_kind_and_its_outcomes_are_alike() -> None:
    with pytest.raises(ScoringError, match="row '1' twice for 'upper'"):
        score_flips([trial("1", True, True), trial("1", True, True)])
    with pytest.raises(ScoringError, match="expected two of one type"):
        score_flips([trial("1", True, "yes")])


@settings(deadline=None, max_examples=25)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["upper", "typos"]),
            st.sampled_from([True, False, None]),
            st.sampled_from([True, False, None]),
            st.sampled_from(["a", "b"]),
        ),
        max_size=12,
    ),
    seed=st.integers(0, 99),
)
def test_neither_order_nor_unchanged_rows_move_a_rate(
    rows: list[tuple[str, bool | None, bool | None, str]], seed: int
) -> None:
    trials = [trial(str(at), *row[1:3], kind=row[0], text=row[3]) for at, row in enumerate(rows)]
    there = score_flips(trials, kinds=("upper", "typos"), resamples=100)
    shuffled = random.Random(seed).sample(trials, len(trials))
    assert score_flips(shuffled, kinds=("upper", "typos"), resamples=100) == there
    changed = score_flips([one for one in trials if one.changed], resamples=100)
    assert changed.estimates == there.estimates


def test_rows_of_one_database_flip_together() -> None:
    """Two databases, one whose rows all flip: two things were seen, and not forty."""

    def flips(groups: bool) -> FlipScores:
        trials = [
            Trial(
                row_id=str(at),
                group=("a" if at < 20 else "b") if groups else None,
                kind="upper",
                text="x",
                perturbed="X",
                before=True,
                after=at < 20,
            )
            for at in range(40)
        ]
        return score_flips(trials, resamples=500)

    shared, alone = flips(True), flips(False)
    for found in (shared.estimates["flip_rate"], shared.by_kind["upper"].flip_rate):
        assert (found.value, found.low, found.high, found.groups) == (0.5, 0.0, 1.0, 2)
    assert (alone.estimates["flip_rate"].low or 0) > 0.3
