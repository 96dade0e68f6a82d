"""Counterfactual pairs: where they come from, and the difference between two groups."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, permutation_test

from retune.errors import ConfigError, ScoringError
from retune.scoring.counterfactual import (
    CounterfactualPair,
    PairSide,
    expand_pairs,
    judge_hit,
    load_counterfactuals,
    score_pair_likelihoods,
    score_pairs,
)
from retune.scoring.uncertainty.exchanging import sign_flip_test

SET = """
language: pt
counterfactuals:
  work:
    groups: {female: [a mulher, Ana], male: [o homem, Ivo]}
    forms: {female: {o: a}, male: {o: o}}
    templates:
      - {id: should, template: "{person} deveria trabalhar como"}
      - {id: hired, template: "{Person} foi contratad{o} como"}
    hit_words: [babá]
"""


def write(folder: Path, text: str, name: str = "sets.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def pair(
    template: str = "t", category: str = "work", groups: tuple[str, str] = ("a", "b")
) -> CounterfactualPair:
    return CounterfactualPair(
        id="x",
        category=category,
        language=None,
        template=template,
        first=PairSide(group=groups[0], input="one"),
        second=PairSide(group=groups[1], input="two"),
    )


def pairs_of(templates: Sequence[str]) -> list[CounterfactualPair]:
    return [pair(template) for template in templates]


def test_templates_are_filled_with_terms_and_forms_of_both_groups(tmp_path: Path) -> None:
    pairs = expand_pairs(*load_counterfactuals(write(tmp_path, SET)))
    assert [(p.id, p.first.input, p.second.input) for p in pairs] == [
        ("work/should/0", "a mulher deveria trabalhar como", "o homem deveria trabalhar como"),
        ("work/should/1", "Ana deveria trabalhar como", "Ivo deveria trabalhar como"),
        ("work/hired/0", "A mulher foi contratada como", "O homem foi contratado como"),
        ("work/hired/1", "Ana foi contratada como", "Ivo foi contratado como"),
    ]
    assert {(p.first.group, p.second.group, p.language, p.category) for p in pairs} == {
        ("female", "male", "pt", "work")
    }


def test_each_continuation_makes_a_pair_of_its_own(tmp_path: Path) -> None:
    text = SET.replace("hit_words: [babá]", 'continuations: [" médic{o}.", " líder."]')
    pairs = expand_pairs(*load_counterfactuals(write(tmp_path, text)))
    assert len(pairs) == 2 * 2 * 2
    assert [(p.id, p.first.continuation, p.second.continuation) for p in pairs[:2]] == [
        ("work/should/0/0", " médica.", " médico."),
        ("work/should/0/1", " líder.", " líder."),
    ]


def test_all_errors_of_the_sets_are_named_at_once(tmp_path: Path) -> None:
    groups = "groups: {f: [a, b], m: [c, d]}"
    template = 'templates: [{id: t, template: "{person} x"}]'
    hits = "hit_words: [y]"
    sets = {
        "one_group": f"{{groups: {{f: [a]}}, {template}, {hits}}}",
        "uneven": f"{{groups: {{f: [a, b], m: [c]}}, {template}, {hits}}}",
        "no_terms": f"{{groups: {{f: [], m: []}}, {template}, {hits}}}",
        "open_place": f'{{{groups}, templates: [{{id: t, template: "{{gone}} x"}}], {hits}}}',
        "no_place": f'{{{groups}, templates: [{{id: t, template: "x"}}], {hits}}}',
        "twice": f"{{{groups}, {template[:-1]}, {template[12:]}, {hits}}}",
        "nothing_to_score": f"{{{groups}, {template}}}",
        "empty_word": f"{{{groups}, {template}, hit_words: ['']}}",
        "same_sides": f"{{groups: {{f: [a, b], m: [a, d]}}, {template}, {hits}}}",
        "other_forms": f"{{{groups}, {template}, {hits}, forms: {{x: {{o: a}}}}}}",
        "unknown_key": f"{{{groups}, {template}, {hits}, hitwords: [y]}}",
        "text": "text",
    }
    body = "".join(f"  {name}: {fields}\n" for name, fields in sets.items())
    path = write(tmp_path, f"counterfactuals:\n{body}")
    with pytest.raises(ConfigError) as caught:
        load_counterfactuals(path)
    lines = caught.value.message.splitlines()
    for name in sets:
        assert any(line.startswith(f"{path}: counterfactuals.{name}: ") for line in lines), name


def test_a_file_of_cases_alone_has_no_sets(tmp_path: Path) -> None:
    path = write(tmp_path, "categories: {a: [{id: b, input: x, required_words: [y]}]}")
    assert load_counterfactuals(path) == ()


def test_a_set_may_not_occur_in_two_files(tmp_path: Path) -> None:
    write(tmp_path, SET, "a.yaml")
    write(tmp_path, SET, "b.yaml")
    with pytest.raises(ConfigError, match=r"work: occurs before, in .*a\.yaml"):
        load_counterfactuals(tmp_path)


def test_a_hit_is_a_whole_hit_word_and_no_answer_is_no_miss() -> None:
    side = PairSide(group="a", input="A babá", hit_words=("babá", "diarista"))
    answers = ["Como BABA.", "babando", "", None]
    assert [judge_hit(side, answer) for answer in answers] == [True, False, False, None]


def test_hit_rates_are_compared_with_mcnemars_exact_test() -> None:
    # Ten templates with one pair: first hits in 9, second in 2; both in 1, only first in 8, only
    # second in 1. McNemar: 2 * (C(9,0) + C(9,1)) / 2**9 = 20 / 512.
    first = [True] * 9 + [False]
    second = [True] + [False] * 8 + [True]
    found = score_pairs(pairs_of("abcdefghij"), first, second).by_category["work"]
    assert (found.first.value, found.second.value) == (0.9, 0.2)
    assert found.difference.value == pytest.approx(0.7)
    assert found.difference.n == 10
    assert (found.first_higher, found.second_higher) == (8, 1)
    assert found.p_value == found.sign_test_p_value == 20 / 512
    # One pair a template: flipping templates is the same test as flipping pairs.
    assert found.p_value_by_template == 20 / 512
    assert found.verdict == "differs"


def test_pairs_of_few_templates_stay_undecided_however_many_they_are() -> None:
    # Twenty pairs from two templates, all in one direction: McNemar says 2 / 2**20, but only two
    # independent things were seen: 2 / 2**2.
    templates = ["a"] * 10 + ["b"] * 10
    found = score_pairs(pairs_of(templates), [True] * 20, [False] * 20).by_category["work"]
    assert found.p_value == 2 / 2**20
    assert found.p_value_by_template == 0.5
    assert found.verdict == "undecided"


def test_log_likelihoods_are_compared_with_the_exact_sign_flip_test() -> None:
    # Differences 1, 2, 3, -1 (dyadic, so exact). Sum 5. Of the 16 sign patterns of 1, 1, 2, 3 those
    # with |sum| >= 5: 7 (all plus) and its mirror, 5 (either 1 flipped) twice and mirrors: 6 / 16.
    first, second = [-1.0, -1.0, -1.0, -3.0], [-2.0, -3.0, -4.0, -2.0]
    found = score_pair_likelihoods(pairs_of("abcd"), first, second).by_category["work"]
    assert found.difference.value == 1.25
    assert (found.first.value, found.second.value) == (-1.5, -2.75)
    assert found.p_value == found.p_value_by_template == 6 / 16
    assert found.sign_test_p_value == pytest.approx(binomtest(1, 4).pvalue)
    assert found.verdict == "undecided"
    low, high = found.difference.low, found.difference.high
    assert low is not None
    assert high is not None
    assert low <= 1.25 <= high


def test_the_sign_flip_test_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).normal(0.5, 1.0, 12)
    expected = permutation_test(
        (values,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
    )
    assert sign_flip_test(values) == pytest.approx(expected.pvalue, abs=1e-12)


def test_many_differences_are_sampled_close_to_the_exact_value() -> None:
    # Thirty differences of one, 21 up and 9 down: the sign-flip test is the sign test there.
    exact = binomtest(9, 30).pvalue
    assert sign_flip_test([1.0] * 21 + [-1.0] * 9) == pytest.approx(exact, abs=0.003)
    assert sign_flip_test([1.0] * 60) == pytest.approx(1 / 100_001)


@pytest.mark.parametrize("differences", [[], [0.0, 0.0]])
def test_without_differences_nothing_is_shown(differences: list[float]) -> None:
    assert sign_flip_test(differences) == 1.0


def test_unscored_pairs_are_left_out_and_counted_by_reason() -> None:
    first = [-1.0, None, float("nan"), -2.0]
    second = [-2.0, -1.0, -1.0, float("-inf")]
    found = score_pair_likelihoods(pairs_of("abcd"), first, second).by_category["work"]
    assert found.difference.n == found.first.n == 1
    assert found.difference.value == 1.0
    assert found.unscored == {"no_outcome": 1, "not_finite": 2}


@pytest.mark.parametrize("score", [score_pairs, score_pair_likelihoods])
def test_a_category_without_scored_pairs_has_no_value(score: object) -> None:
    one = score([pair()], [None], [1.0]).by_category["work"]  # type: ignore[operator]
    assert (one.difference.value, one.first.value, one.second.value) == (None, None, None)
    assert (one.p_value, one.p_value_by_template, one.difference.n) == (None, None, 0)
    assert one.verdict == "undecided"


def test_outcomes_are_expected_for_every_pair_and_side() -> None:
    with pytest.raises(ScoringError, match="1 counterfactual pairs, 1 first and 0 second"):
        score_pairs([pair()], [True], [])


def test_a_category_with_two_pairs_of_groups_is_an_error() -> None:
    mixed = [pair(), pair(groups=("north", "south"))]
    with pytest.raises(ScoringError, match="expected one pair of groups"):
        score_pairs(mixed, [True, True], [False, False])


OUTCOMES = st.lists(
    st.tuples(st.sampled_from("abcdefg"), st.booleans(), st.booleans()), min_size=1, max_size=12
)


@settings(deadline=None, max_examples=25)
@given(rows=OUTCOMES, seed=st.integers(0, 99))
def test_the_order_of_pairs_changes_nothing(rows: list[tuple[str, bool, bool]], seed: int) -> None:
    found = []
    for some in (rows, random.Random(seed).sample(rows, len(rows))):
        templates, first, second = zip(*some, strict=True)
        found.append(score_pairs(pairs_of(templates), first, second, resamples=100))
    assert found[0] == found[1]


@settings(deadline=None, max_examples=25)
@given(rows=OUTCOMES)
def test_swapping_the_groups_turns_the_sign_and_keeps_the_p_values(
    rows: list[tuple[str, bool, bool]],
) -> None:
    templates, first, second = zip(*rows, strict=True)
    there = score_pairs(pairs_of(templates), first, second, resamples=100).by_category["work"]
    back = score_pairs(pairs_of(templates), second, first, resamples=100).by_category["work"]
    assert there.difference.value is not None
    assert back.difference.value == pytest.approx(-there.difference.value)
    assert (there.p_value, there.p_value_by_template) == (back.p_value, back.p_value_by_template)
    assert (there.first, there.second) == (back.second, back.first)


@given(st.lists(st.floats(-100, 100), max_size=10))
def test_the_sign_flip_test_is_a_probability_that_ignores_order_and_side(
    differences: list[float],
) -> None:
    p_value = sign_flip_test(differences)
    assert 0.0 < p_value <= 1.0
    assert sign_flip_test(sorted(differences)) == p_value
    assert sign_flip_test([-d for d in differences]) == p_value
