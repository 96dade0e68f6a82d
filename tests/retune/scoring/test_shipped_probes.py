"""The probe files that ship: they load, and each case is a test that can fail and can be passed."""

import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from retune.scoring.counterfactual import expand_pairs, load_counterfactuals
from retune.scoring.probes import ProbeCase, judge_probe, load_probes
from retune.scoring.robustness import load_paraphrases
from retune.scoring.words import fold_text

SHIPPED = Path(__file__).resolve().parents[3] / "conf" / "probes"
LANGUAGES = ("pt", "en")


def assistant(language: str) -> tuple[ProbeCase, ...]:
    return load_probes(SHIPPED / f"assistant_{language}.yaml")


def passing(cases: tuple[ProbeCase, ...], answer: str) -> int:
    return sum(bool(judge_probe(case, answer).passed) for case in cases)


def test_all_files_load_together() -> None:
    assert len(load_probes(SHIPPED)) == 60 + 84 + 84


def test_the_assistant_cases_have_at_least_eight_categories_in_both_languages() -> None:
    categories = [{case.category for case in assistant(language)} for language in LANGUAGES]
    assert categories[0] == categories[1]
    assert len(categories[0]) >= 8
    assert sum(len(assistant(language)) for language in LANGUAGES) >= 150


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_case_names_its_language_and_has_its_own_input(language: str) -> None:
    cases = assistant(language)
    assert {case.language for case in cases} == {language}
    assert all(case.id.startswith(f"{language}-") for case in cases)
    inputs = Counter(fold_text(case.input) for case in cases)
    assert max(inputs.values()) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_expected_answer_passes(language: str) -> None:
    outcomes = [judge_probe(case, case.expected) for case in assistant(language)]
    assert [outcome for outcome in outcomes if not outcome.passed] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_neither_silence_nor_the_echoed_question_passes(language: str) -> None:
    cases = assistant(language)
    assert passing(cases, "") == 0
    assert [case.id for case in cases if judge_probe(case, case.input).passed] == []


@pytest.mark.parametrize(
    "answer",
    ["Desculpe, mas não posso ajudar com isso.", "I'm sorry, but I can't help with that."],
)
def test_one_refusal_for_everything_passes_few_cases(answer: str) -> None:
    # Refusing is right somewhere, so not none; a model that always refuses must look bad.
    for language in LANGUAGES:
        cases = assistant(language)
        assert passing(cases, answer) <= 0.15 * len(cases)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_case_both_requires_and_forbids(language: str) -> None:
    for case in assistant(language):
        assert case.required_words, case.id
        assert case.forbidden_words, case.id


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_answers_to_other_cases_do_not_pass(language: str) -> None:
    """Words that any text holds would test nothing: each case refuses most other good answers."""
    cases = assistant(language)
    for case in cases:
        wrong = [other.expected for other in cases if other is not case]
        passed = sum(bool(judge_probe(case, answer).passed) for answer in wrong)
        assert passed <= 0.35 * len(wrong), case.id  # a plain "não" is in a third of them


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_paraphrases_reword_questions_of_the_same_file(language: str) -> None:
    inputs = {case.input for case in assistant(language)}
    paraphrases = load_paraphrases(SHIPPED / f"assistant_{language}.yaml")
    assert len(paraphrases) == 10
    assert set(paraphrases) <= inputs


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_counterfactual_set_has_the_templates_to_show_a_difference(language: str) -> None:
    sets = load_counterfactuals(SHIPPED / f"counterfactual_{language}.yaml")
    assert len(sets) == 4
    # Whole templates are flipped: 2 / 2**6 = 0.031 is the first p-value that can be under 0.05.
    assert all(len(one.templates) >= 6 for one in sets)
    assert {one.language for one in sets} == {language}


def test_counterfactual_ids_are_unique_over_both_languages() -> None:
    pairs = expand_pairs(*load_counterfactuals(SHIPPED))
    assert len({pair.id for pair in pairs}) == len(pairs)


def test_the_sql_cases_load_and_their_schemas_build() -> None:
    cases = load_probes(SHIPPED / "text_to_sql_pt.yaml")
    assert len(cases) == 60
    assert len({probe.category for probe in cases}) == 9
    for probe in cases:
        schema, question = probe.input.rsplit("\n", 1)
        sqlite3.connect(":memory:").executescript(schema)
        assert question.strip()


def test_gender_pairs_of_the_sql_cases_ask_for_the_same_but_for_the_name() -> None:
    by_id = {probe.id: probe for probe in load_probes(SHIPPED / "text_to_sql_pt.yaml")}
    pairs = [(p, by_id[p.id[:-1] + "f"]) for p in by_id.values() if p.id.endswith("-m")]
    assert len(pairs) == 4
    for one, other in pairs:
        names = {"João", "Joana"}
        assert set(one.required_words) - names == set(other.required_words) - names
