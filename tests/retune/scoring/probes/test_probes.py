"""Probe files and how answers are judged."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from retune.errors import ConfigError, ScoringError
from retune.scoring.probes import ProbeCase, judge_probe, judge_probes, load_probes
from retune.scoring.uncertainty.estimates import wilson_interval

GOOD = """
categories:
  one:
    - {id: a, input: pergunta, required_words: [SELECT]}
"""


def write(folder: Path, text: str, name: str = "probes.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def case(**fields: object) -> ProbeCase:
    return ProbeCase.model_validate({"id": "a", "category": "one", "input": "x", **fields})


def test_cases_are_loaded_with_their_category(tmp_path: Path) -> None:
    (loaded,) = load_probes(write(tmp_path, GOOD))
    assert loaded == ProbeCase(id="a", category="one", input="pergunta", required_words=("SELECT",))


def test_all_errors_are_named_at_once_with_file_case_and_field(tmp_path: Path) -> None:
    bad = write(
        tmp_path,
        """
categories:
  empty: []
  one:
    - {id: a, input: x, forbiden_words: [y]}
    - {id: b, input: x}
    - {id: c, input: x, forbidden_words: [""]}
    - {id: d, required_words: [y]}
    - {id: e, input: x, required_words: [y]}
    - {id: e, input: x, required_words: [y]}
    - just text
""",
    )
    absent = tmp_path / "absent.yaml"
    with pytest.raises(ConfigError) as caught:
        load_probes(bad, absent)
    lines = caught.value.message.splitlines()
    assert [line.startswith((str(bad), str(absent))) for line in lines] == [True] * len(lines)
    for expected in (
        "categories.empty: has no cases",
        "categories.one[0] (a): forbiden_words: Extra inputs are not permitted",
        "categories.one[1] (b): has neither forbidden_words nor required_words",
        "categories.one[2] (c): forbidden_words: Found an empty word",
        "categories.one[3] (d): input: Field required",
        "categories.one (e): id: occurs before",
        "categories.one[6]: found str; expected a case",
        "absent.yaml: cannot be read",
    ):
        assert any(expected in line for line in lines), expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the key `categories`"),
        ("- a", "expected the key `categories`"),
        ("categories: {}", "expected categories by name"),
        ("categories: {one: {id: a}}", "has no cases"),
        ("categories: [", "is not YAML"),
        ("cases: []", "expected the key `categories`"),
    ],
)
def test_a_file_that_holds_no_cases_says_so(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_probes(write(tmp_path, text))


def test_an_id_may_not_occur_in_two_files(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.yaml")
    write(tmp_path, GOOD, "b.yaml")
    with pytest.raises(ConfigError, match=r"occurs before, in .*a\.yaml"):
        load_probes(tmp_path)


def test_an_answer_passes_with_all_required_and_no_forbidden_words() -> None:
    probe = case(required_words=["COUNT", "livros"], forbidden_words=["DROP", "DELETE"])
    texts = ["SELECT count(*) FROM livros", "DROP livros", "SELECT count(*) FROM livros; delete"]
    outcomes = [judge_probes([probe], [text]).outcomes[0] for text in texts]
    assert [outcome.passed for outcome in outcomes] == [True, False, False]
    assert outcomes[1].found_forbidden == ("DROP",)
    assert outcomes[1].missing_required == ("COUNT",)
    assert outcomes[2].found_forbidden == ("DELETE",)


def test_pass_rates_count_scored_answers_only() -> None:
    cases = [case(id=str(n), category=c, required_words=["x"]) for n, c in enumerate("aabb")]
    scores = judge_probes(cases, ["x", "y", None, None])
    overall = scores.estimates["probe_pass_rate"]
    assert (overall.value, overall.n) == (0.5, 2)
    assert (overall.low, overall.high) == wilson_interval(1, 2)
    assert scores.by_category["a"].value == 0.5
    assert scores.by_category["b"].value is None
    assert scores.unscored_by_reason == {"no_answer": 2}


def test_answers_are_expected_for_all_cases() -> None:
    with pytest.raises(ScoringError, match="1 probe cases and 0 answers"):
        judge_probes([case(required_words=["x"])], [])
    with pytest.raises(ScoringError, match="at least one case"):
        judge_probes([], [])


def test_of_a_list_inside_required_words_one_is_enough() -> None:
    probe = case(required_words=["sim", ["carro", "ônibus"]])
    outcomes = [judge_probe(probe, text) for text in ("Sim, de onibus.", "Sim, a pé.", "carro")]
    assert [outcome.passed for outcome in outcomes] == [True, False, False]
    assert outcomes[1].missing_required == ("carro | ônibus",)
    assert outcomes[2].missing_required == ("sim",)


def test_plain_values_are_words_whatever_yaml_makes_of_them(tmp_path: Path) -> None:
    (loaded,) = load_probes(
        write(
            tmp_path,
            "categories: {one: [{id: 7, input: x, expected: , "
            "required_words: [no, 192, 2026-08-03], forbidden_words: [yes, null_, 1.50]}]}",
        )
    )
    assert loaded.id == "7"
    assert loaded.expected is None
    assert loaded.required_words == ("no", "192", "2026-08-03")
    assert loaded.forbidden_words == ("yes", "null_", "1.50")


def test_a_category_that_stands_twice_is_an_error(tmp_path: Path) -> None:
    text = GOOD + "  one:\n    - {id: b, input: x, required_words: [y]}\n"
    with pytest.raises(ConfigError, match="the key 'one' stands twice"):
        load_probes(write(tmp_path, text))


@pytest.mark.parametrize(
    ("required", "forbidden", "possible"),
    [
        (["DROP TABLE"], ["drop"], False),
        ([["não", "nao"]], ["não"], False),
        ([["não", "jamais"]], ["não"], True),
        (["drops"], ["drop"], True),
    ],
)
def test_a_case_that_no_answer_can_pass_is_an_error(
    required: list[str], forbidden: list[str], possible: bool
) -> None:
    if possible:
        case(required_words=required, forbidden_words=forbidden)
    else:
        with pytest.raises(ValidationError, match="no answer can pass"):
            case(required_words=required, forbidden_words=forbidden)


def test_a_list_without_alternatives_is_an_error() -> None:
    with pytest.raises(ValidationError, match="list without words"):
        case(required_words=[[]])


def test_a_case_speaks_the_files_language_unless_it_says_otherwise(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "language: pt\ncategories:\n  one:\n    - {id: a, input: x, required_words: [y]}\n"
        "    - {id: b, input: x, required_words: [y], language: en-GB}\n",
    )
    cases = load_probes(path)
    assert [probe.language for probe in cases] == ["pt", "en-GB"]
    rates = judge_probes(cases, ["y", "z"]).by_language
    assert {name: rate.value for name, rate in rates.items()} == {"pt": 1.0, "en-GB": 0.0}


@pytest.mark.parametrize("language", ["Portuguese", "[pt]", "p", "pt_BR"])
def test_a_language_that_is_no_code_is_an_error(tmp_path: Path, language: str) -> None:
    with pytest.raises(ConfigError, match="language: found"):
        load_probes(write(tmp_path, f"language: {language}{GOOD}"))


def test_cases_without_a_language_are_in_no_language_rate() -> None:
    assert judge_probes([case(required_words=["x"])], ["x"]).by_language == {}


def test_the_order_of_cases_does_not_change_a_rate() -> None:
    cases = [case(id=str(n), category=c, required_words=["x"]) for n, c in enumerate("aabbb")]
    texts = ["x", "y", None, "x", "x"]
    there, back = judge_probes(cases, texts), judge_probes(cases[::-1], texts[::-1])
    assert there.estimates == back.estimates
    assert there.by_category == back.by_category
