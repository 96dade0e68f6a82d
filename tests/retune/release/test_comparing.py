"""Models side by side: what the pages show, and what is compared with what."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from retune.modeling.tokenizer_identity import Likeness
from retune.release.comparing import (
    ComparedModel,
    Figure,
    ModelComparison,
    ScoredCandidate,
    compare_models,
    group_parts,
    metric_names,
    render_comparison,
    write_comparison,
)
from retune.release.samples import SideBySide
from retune.release.side_by_side import PairedComparison
from retune.score_records import Metric, ModelScores, ScoreReport
from retune.scoring.outcomes import read_outcomes, write_outcomes

ROWS = 40
WHOLE: dict[str, Any] = {"low": None, "high": None, "n": ROWS}
HOSTILE = "<script>alert('x')</script> | `a` [b](c)"


def report(folder: Path, rows: list[dict[str, Any]], **metrics: Metric) -> ScoreReport:
    folder.mkdir(parents=True)
    write_outcomes(folder, rows)
    return ScoreReport(
        digest=str(folder), folder=folder, metrics=metrics, rows=len(rows), unscored={}
    )


def scores(
    folder: Path, right: int, nats: float = 4.0, tokens: int = 4, rows: int = ROWS
) -> ModelScores:
    """A model that gets the first `right` rows right, each answer of 8 bytes."""
    sql = [
        {
            "row_id": f"r{at}",
            "group": f"g{at}",
            "question": f"Question {at}?",
            "reference": "SELECT 1",
            "prediction": "SELECT 1" if at < right else "",
            "sql_execution_match": at < right,
            "sql_exact_match": at < right,
        }
        for at in range(rows)
    ]
    losses = [
        {
            "row_id": f"r{at}",
            "group": f"g{at}",
            "nll_sum_nats": nats + at / 100,
            "text_nll_nats": nats + at / 100,
            "tokens": tokens,
            "answer_bytes": 8,
        }
        for at in range(rows)
    ]
    whole = {"low": None, "high": None, "n": rows}
    return ModelScores.of(
        {
            "perplexity": report(
                folder / "perplexity",
                losses,
                perplexity=Metric(value=math.exp(nats / tokens), **whole),
                bits_per_byte=Metric(value=nats / 8 / math.log(2), **whole),
            ),
            "sql": report(
                folder / "sql",
                sql,
                sql_execution_match=Metric(value=right / rows, **whole),
                sql_exact_match=Metric(value=right / rows, **whole),
            ),
        }
    )


def candidate(name: str, of: ModelScores, likeness: Likeness = "alike") -> ScoredCandidate:
    return ScoredCandidate(
        name=name, kind="snapshot", place=name, digest="d", likeness=likeness, scores=of
    )


def compare(folder: Path, *candidates: ScoredCandidate) -> ModelComparison:
    return compare_models(
        candidates, recipe="small", folder=folder / "page", resamples=200, samples=3
    )


def example(folder: Path) -> ModelComparison:
    """A comparison as a real one looks, with answers that a page must not obey."""

    def figure(value: float | None, low: float | None, high: float | None, n: int = 348) -> Figure:
        return Figure(value=value, low=low, high=high, n=n, unscored=348 - n if n > 300 else 0)

    def model(name: str, kind: str, level: float, likeness: Likeness = "alike") -> ComparedModel:
        hardness = {
            f"sql_execution_match.{part}": figure(level - cut, level - cut - 0.06, level - cut, 87)
            for part, cut in (("easy", 0.0), ("medium", 0.01), ("hard", 0.02), ("extra", 0.03))
        }
        return ComparedModel(
            name=name,
            kind=kind,
            place=f"/projects/text-to-sql/{name}",
            digest="0123456789abcdef" * 4,
            likeness=likeness,
            metrics={
                "sql_execution_match": figure(level, level - 0.03, level + 0.03, 340),
                "sql_exact_match": figure(level - 0.01, level - 0.03, level + 0.02),
                "bits_per_byte": figure(1.4 - level, 1.3 - level, 1.5 - level),
                "general_text_bits_per_byte": figure(2.1, 1.9, 2.3, 24),
                "probe_pass_rate": figure(None, None, None, 0),
                "sql_executable_rate": figure(0.97, 0.95, 0.99),
                "mcc": figure(0.412, 0.31, 0.52),
                **hardness,
                "probe_pass_rate.personal_data": figure(0.75, 0.5, 0.92, 24),
            },
            unscored={"sql": {"gold_failed": 5, "gold_reads_clock": 3}},
            files={"sql/rows.jsonl": "../../score_sql/0123/rows.jsonl"},
        )

    def pair(name: str, metric: str, difference: float, verdict: Any) -> PairedComparison:
        return PairedComparison(
            model=name,
            against="base",
            metric=metric,
            difference=difference,
            low=difference - 0.04,
            high=difference + 0.04,
            p_value=0.00001 if verdict != "undecided" else 0.4,
            n=340,
            verdict=verdict,
        )

    names = ("base", "merge_adapter/1a2b3c4d", "models:/text-to-sql@champion", "acme/other-1b")
    reference = "SELECT COUNT(*) FROM cliente WHERE cidade = 'Évora'"
    return ModelComparison(
        recipe="text_to_sql_demo",
        made_at="2026-11-20 18:40 UTC",
        rows=348,
        comparable_tokens=False,
        models=(
            model(names[0], "base", 0.08),
            model(names[1], "snapshot", 0.87),
            model(names[2], "registered", 0.80),
            model(names[3], "snapshot", 0.31, "other_tokens"),
        ),
        comparisons=(
            pair(names[1], "sql_execution_match", 0.79, "better"),
            pair(names[1], "bits_per_byte", -0.79, "better"),
            pair(names[1], "general_text_bits_per_byte", 0.012, "undecided"),
            pair(names[2], "sql_execution_match", 0.72, "better"),
            pair(names[3], "probe_pass_rate", -0.23, "worse"),
        ),
        samples=(
            SideBySide(
                row_id="r1",
                question="Quantos clientes moram em Évora?",
                prompt="CREATE TABLE cliente (id INTEGER, cidade TEXT)\nQuantos clientes?",
                reference=reference,
                answers={
                    names[0]: "",
                    names[1]: reference,
                    names[2]: reference,
                    names[3]: "SELECT",
                },
                right={names[0]: False, names[1]: True, names[2]: True, names[3]: False},
            ),
            SideBySide(
                row_id="r2",
                question=HOSTILE,
                prompt=None,
                reference=HOSTILE,
                answers=dict.fromkeys(names, HOSTILE),
                right=dict.fromkeys(names),
            ),
        ),
        notes=("Another tokenizer than the recipe's base: acme/other-1b.",),
        environment={"python": "3.11", "torch": "2.13.0"},
        folder=folder,
    )


class Page(HTMLParser):
    """Collects tags, ids, and the cells of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def test_a_model_is_compared_with_the_first_on_the_same_rows(tmp_path: Path) -> None:
    """30 of 40 right against 10 of 40: +0.5, better, and exact 95 % bounds lie around it."""
    found = compare(
        tmp_path,
        candidate("base", scores(tmp_path / "base", 10)),
        candidate("tuned", scores(tmp_path / "tuned", 30)),
    )
    pair = next(each for each in found.comparisons if each.metric == "sql_execution_match")
    assert (pair.model, pair.against, pair.difference, pair.n) == ("tuned", "base", 0.5, 40)
    assert pair.low is not None and pair.high is not None and pair.low < 0.5 < pair.high
    assert pair.verdict == "better"


def test_bits_per_byte_are_compared_row_by_row(tmp_path: Path) -> None:
    """1.6 nats less on answers of 8 bytes: -1.6 / 8 / ln 2 = -0.2885 bits per byte."""
    found = compare(
        tmp_path,
        candidate("base", scores(tmp_path / "base", 10, nats=4.0)),
        candidate("tuned", scores(tmp_path / "tuned", 10, nats=2.4)),
    )
    pair = next(each for each in found.comparisons if each.metric == "bits_per_byte")
    assert pair.difference == pytest.approx(-0.2 / math.log(2))
    assert pair.verdict == "better"


def test_perplexity_is_not_shown_where_tokens_differ(tmp_path: Path) -> None:
    """Neither as a figure nor as a comparison; bits per byte are, and a note says why."""
    found = compare(
        tmp_path,
        candidate("base", scores(tmp_path / "base", 10)),
        candidate("other", scores(tmp_path / "other", 10, tokens=2), "other_tokens"),
    )
    assert not found.comparable_tokens
    figures, further = metric_names(found)
    assert "perplexity" not in [*figures, *further] and "bits_per_byte" in figures
    assert {each.metric for each in found.comparisons} == {
        "sql_execution_match",
        "sql_exact_match",
        "bits_per_byte",
    }
    assert any("bits per byte" in note and "other" in note for note in found.notes)


def test_another_template_leaves_perplexity_comparable(tmp_path: Path) -> None:
    """Answers have the same tokens then; the page says that the prompt is another."""
    found = compare(
        tmp_path,
        candidate("base", scores(tmp_path / "base", 10)),
        candidate("chat", scores(tmp_path / "chat", 10), "other_template"),
    )
    assert "perplexity" in metric_names(found)[0]
    assert any(each.metric == "perplexity" for each in found.comparisons)
    assert any("chat template" in note for note in found.notes)


def test_models_with_other_rows_are_compared_on_those_that_all_have(tmp_path: Path) -> None:
    """Of 40 and 36 rows, 36 are shared: 10 right of both, so no difference, and a note."""
    found = compare(
        tmp_path,
        candidate("base", scores(tmp_path / "base", 10)),
        candidate("other", scores(tmp_path / "other", 10, rows=36), "other_tokens"),
    )
    assert found.rows == 36
    pair = next(each for each in found.comparisons if each.metric == "sql_execution_match")
    assert (pair.difference, pair.n) == (0.0, 36)
    assert any("base 40, other 36" in note for note in found.notes)


def test_samples_show_every_models_answer_to_the_same_row(tmp_path: Path) -> None:
    """Of 40 rows, 3 are taken at 6, 20 and 33: the first model knows 10, the second 30."""
    found = compare(
        tmp_path,
        candidate("base", scores(tmp_path / "base", 10)),
        candidate("tuned", scores(tmp_path / "tuned", 30)),
    )
    assert [each.row_id for each in found.samples] == ["r6", "r20", "r33"]
    assert found.samples[1].answers == {"base": "", "tuned": "SELECT 1"}
    assert found.samples[1].right == {"base": False, "tuned": True}


def test_one_model_alone_is_compared_with_nobody(tmp_path: Path) -> None:
    """The page then has figures and no comparisons."""
    found = compare(tmp_path, candidate("base", scores(tmp_path / "base", 10)))
    assert found.comparisons == () and found.notes == ()
    assert "Comparisons" not in render_comparison("comparison.html", found)


def test_rows_without_a_score_are_counted_at_each_figure(tmp_path: Path) -> None:
    """40 rows of which 38 have a verdict: 2 unscored, beside n = 38."""
    model = scores(tmp_path / "base", 10)
    sql = model.reports["sql"]
    metrics = sql.metrics | {"sql_execution_match": Metric(value=0.5, low=0.4, high=0.6, n=38)}
    sql = sql.model_copy(update={"metrics": metrics, "unscored": {"gold_failed": 2}})
    found = compare(tmp_path, candidate("base", ModelScores.of({**model.reports, "sql": sql})))
    assert found.models[0].metrics["sql_execution_match"].unscored == 2
    for name in ("comparison.md", "comparison.html"):
        page = render_comparison(name, found)
        assert "n = 38, 2 unscored" in page and "gold_failed 2" in page


def test_a_report_that_no_table_knows_is_shown_all_the_same(tmp_path: Path) -> None:
    """A scorer of one's own: its figure stands among the further ones, and its rows are linked."""
    other = report(tmp_path / "rouge", [{"row_id": "r0"}], rouge_2=Metric(value=0.25, **WHOLE))
    model = ModelScores.of({**scores(tmp_path / "base", 10).reports, "rouge": other})
    found = compare(tmp_path, candidate("base", model))
    assert "rouge/rows.jsonl" in found.models[0].files
    page = render_comparison("comparison.md", found)
    assert "| Rouge 2 | 25.0 %, n = 40 |" in page.partition("## Further figures")[2]


def test_figures_over_parts_of_the_rows_have_tables_of_their_own(tmp_path: Path) -> None:
    """By hardness, by class, by category."""
    tables = group_parts(example(tmp_path).models)
    assert [line for _, line in tables["SQL execution match by hardness of the query"]] == [
        "easy",
        "medium",
        "hard",
        "extra",
    ]
    labelled = (
        example(tmp_path)
        .models[0]
        .model_copy(
            update={"metrics": {"label.v1.0.f1": Figure(value=1.0, low=None, high=None, n=2)}}
        )
    )
    assert group_parts([labelled]) == {"Figures by class": [("label.v1.0.f1", "v1.0: f1")]}


def test_pages_obey_no_text_that_a_model_wrote(tmp_path: Path) -> None:
    """Questions, answers and names are shown as they are: no tag of theirs, no line broken."""
    comparison = example(tmp_path)
    first = comparison.models[0].model_copy(update={"name": HOSTILE})
    comparison = comparison.model_copy(update={"models": (first, *comparison.models[1:])})
    page = Page(render_comparison("comparison.html", comparison))
    assert "script" not in page.tags
    lines = render_comparison("comparison.md", comparison).splitlines()
    heads = [line for line in lines if line.startswith("| Metric")]
    assert heads and all(line.replace("\\|", "").count("|") == 6 for line in heads)
    assert not any("<script" in line for line in lines if "`" not in line)


def test_a_page_stands_alone(tmp_path: Path) -> None:
    """Nothing is loaded from anywhere; links lead to files beside it."""
    page = Page(render_comparison("comparison.html", example(tmp_path)))
    assert "img" not in page.tags and "link" not in page.tags
    assert page.links and not any("//" in link.replace("../", "") for link in page.links)


def test_what_is_written_can_be_read_again(tmp_path: Path) -> None:
    """The JSON beside the pages is the comparison, and its links lead to the rows."""
    found = compare(tmp_path, candidate("base", scores(tmp_path / "base", 10)))
    write_comparison(found)
    text = (found.folder / "comparison.json").read_text("utf-8")
    assert ModelComparison.model_validate_json(json.dumps(json.loads(text))) == found
    assert all((found.folder / path).is_file() for path in found.models[0].files.values())
    assert {path.name for path in found.folder.iterdir()} == {
        "comparison.json",
        "comparison.md",
        "comparison.html",
    }


def test_models_that_share_no_row_cannot_be_compared_but_shown(tmp_path: Path) -> None:
    """Every row is too long in the other's tokens: differences are None, and nothing fails."""
    found = compare(
        tmp_path,
        candidate("base", scores(tmp_path / "base", 10)),
        candidate("other", scores(tmp_path / "other", 0, rows=1), "other_tokens"),
        candidate("third", renamed(scores(tmp_path / "third", 10))),
    )
    assert found.rows == 0
    assert {(each.difference, each.n, each.verdict) for each in found.comparisons} == {
        (None, 0, "undecided")
    }


def renamed(of: ModelScores) -> ModelScores:
    for each in of.reports.values():
        rows = [{**row, "row_id": f"other-{row['row_id']}"} for row in read_outcomes(each)]
        write_outcomes(each.folder, rows)
    return of


def test_a_prompt_that_was_not_asked_has_no_answer(tmp_path: Path) -> None:
    """It is shown as none, and not as an empty answer."""
    model = scores(tmp_path / "base", 40)
    sql = model.reports["sql"]
    rows = read_outcomes(sql)
    rows[20] |= {"prediction": "", "sql_execution_match": None, "reason": "prompt_too_long"}
    write_outcomes(sql.folder, rows)
    found = compare(tmp_path, candidate("base", model))
    assert [each.answers["base"] for each in found.samples] == ["SELECT 1", None, "SELECT 1"]
    for name in ("comparison.md", "comparison.html"):
        assert "None" not in render_comparison(name, found)


def test_bits_per_byte_count_the_rows_that_have_none(tmp_path: Path) -> None:
    """38 of 40 rows have a loss."""
    model = scores(tmp_path / "base", 10)
    bits = {"bits_per_byte": Metric(value=1.0, low=0.9, high=1.1, n=38)}
    losses = model.reports["perplexity"]
    losses = losses.model_copy(update={"metrics": losses.metrics | bits})
    changed = ModelScores.of({**model.reports, "perplexity": losses})
    found = compare(tmp_path, candidate("base", changed))
    assert found.models[0].metrics["bits_per_byte"].unscored == 2
