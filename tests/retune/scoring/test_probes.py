"""Probe files and how answers are judged."""

import sqlite3
from pathlib import Path

import pytest

from retune.errors import ConfigError, ScoringError
from retune.scoring.probes import ProbeCase, judge_probes, load_probes
from retune.scoring.uncertainty import wilson_interval

SHIPPED = Path(__file__).resolve().parents[3] / "conf" / "probes"
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
        ("", "expected the one key `categories`"),
        ("- a", "expected the one key `categories`"),
        ("categories: {}", "expected categories by name"),
        ("categories: {one: {id: a}}", "has no cases"),
        ("categories: [", "is not YAML"),
        ("cases: []", "expected the one key `categories`"),
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


def test_the_shipped_cases_load_and_their_schemas_build() -> None:
    cases = load_probes(SHIPPED)
    assert len(cases) == 60
    assert len({probe.category for probe in cases}) == 9
    for probe in cases:
        schema, question = probe.input.rsplit("\n", 1)
        sqlite3.connect(":memory:").executescript(schema)
        assert question.strip()


def test_pairs_of_the_shipped_cases_ask_for_the_same_but_for_the_name() -> None:
    by_id = {probe.id: probe for probe in load_probes(SHIPPED)}
    pairs = [(p, by_id[p.id[:-1] + "f"]) for p in by_id.values() if p.id.endswith("-m")]
    assert len(pairs) == 4
    for one, other in pairs:
        names = {"João", "Joana"}
        assert set(one.required_words) - names == set(other.required_words) - names
