"""A run's report shows every figure, and is a page that stands alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from retune.data.prepared import PreparedData
from retune.model_records import AdapterRef, MergedRef, ModelRef, Role
from retune.pages.numbers import ABSENT, show_seconds
from retune.records import ChatRef, CleanRef, DatasetRef, SplitRef
from retune.release.curves import CurvePoint, draw_png, draw_svg
from retune.release.report import RunReport, render, write_pages, write_report
from retune.release.samples import Sample
from retune.release.summary import RunSummary
from retune.score_records import (
    Comparison,
    GateDecision,
    GuardFinding,
    Metric,
    RegisteredRef,
    SliceFinding,
    SmallSlice,
)
from retune.scoring.showing import (
    show_difference,
    show_metric,
    show_p_value,
    show_value,
)
from retune.watching import StageLine

VOID = {"meta", "img", "br", "link", "input", "hr"}


def metric(value: float | None, low: float | None, high: float | None, n: int = 348) -> Metric:
    return Metric(value=value, low=low, high=high, n=n)


def comparison(name: str, against: Any, difference: float, low: float, high: float) -> Comparison:
    lower_is_better = name == "perplexity"
    gain = -difference if lower_is_better else difference
    bound = -high if lower_is_better else low
    return Comparison(
        metric=name,
        against=against,
        difference=difference,
        low=low,
        high=high,
        p_value=0.00001 if bound > 0 else 0.31,
        n=348,
        verdict="better" if bound > 0 else "worse" if gain < bound else "undecided",
    )


def example_report() -> RunReport:
    models: dict[Role, dict[str, Metric]] = {
        "base": {
            "sql_execution_match": metric(0.0316, 0.0144, 0.0546),
            "sql_exact_match": metric(0.0287, 0.0129, 0.0517),
            "perplexity": metric(14.231, 12.918, 15.703),
            "probe_pass_rate": metric(0.25, 0.125, 0.4167, 24),
        },
        "adapter": {
            "sql_execution_match": metric(0.8736, 0.8362, 0.9080),
            "sql_exact_match": metric(0.8621, 0.8247, 0.8966),
            "perplexity": metric(1.0412, 1.0325, 1.0518),
            "probe_pass_rate": metric(0.875, 0.75, 1.0, 24),
        },
        "merged": {
            "sql_execution_match": metric(0.8707, 0.8333, 0.9052),
            "sql_exact_match": metric(0.8592, 0.8218, 0.8937),
            "perplexity": metric(1.0413, 1.0326, 1.0519),
            "probe_pass_rate": metric(0.875, 0.75, 1.0, 24),
        },
        "champion": {
            "sql_execution_match": metric(0.7989, 0.7557, 0.8391),
            "sql_exact_match": metric(0.7874, 0.7443, 0.8276),
            "perplexity": metric(1.0731, 1.0602, 1.0881),
            "probe_pass_rate": metric(None, None, None, 0),
        },
    }
    decision = GateDecision(
        digest="d",
        promote=True,
        reasons=(
            "SQL execution match is 83.9 points above base [79.9, 87.6], over the 0.0 asked for",
            "SQL execution match is 7.2 points above champion version 3 [3.7, 10.6]",
        ),
        comparisons=(
            comparison("sql_execution_match", "base", 0.8391, 0.7989, 0.8764),
            comparison("sql_exact_match", "base", 0.8305, 0.7902, 0.8678),
            comparison("perplexity", "base", -13.19, -14.66, -11.88),
            comparison("probe_pass_rate", "base", 0.625, 0.4167, 0.7917),
            comparison("sql_execution_match", "champion", 0.0718, 0.0374, 0.1063),
            comparison("sql_exact_match", "champion", 0.0718, 0.0374, 0.1063),
            comparison("perplexity", "champion", -0.0318, -0.0413, 0.0021),
        ),
    )
    questions = [
        ("Quantos clientes moram em Évora?", "SELECT COUNT(*) FROM cliente WHERE cidade = 'Évora'"),
        ("Mostra o nome e o preço dos produtos abaixo de 20", "SELECT nome, preco FROM produto"),
        ("Qual é o maior salário por departamento?", "SELECT dep, MAX(salario) FROM f GROUP BY 1"),
    ]
    samples = tuple(
        Sample(
            question=question,
            reference=reference,
            answers={
                "base": "SELECT | <b>nome</b> FROM `x`" if index else "",
                "adapter": reference,
                "merged": reference,
                "champion": reference,
            },
            right={"base": False, "adapter": True, "merged": True, "champion": None},
        )
        for index, (question, reference) in enumerate(questions)
    )
    names = ["load_rows", "split_rows", "format_chat", "quantize_model", "train_adapter"]
    names += ["merge_adapter", "score_sql", "decide", "register_model"]
    stages = tuple(
        StageLine(
            name=name,
            role="merged" if name.startswith("score") else None,
            state="reused" if index < 4 else "ran",
            reason="same inputs, settings and versions as on 2026-11-19T10:21Z"
            if index < 4
            else "training.learning_rate: 0.001 -> 0.002",
            seconds=[0.02, 0.01, 0.01, 0.03, 71.4, 3.2, 9.8, 0.4, 2.1][index],
            key="k" * 32,
        )
        for index, name in enumerate(names)
    )
    losses = [
        CurvePoint(name="train_loss", value=1.9 * 0.93 ** (step / 5) + 0.03, step=step)
        for step in range(5, 301, 5)
    ]
    held_out = [
        CurvePoint(name="validation_loss", value=2.0 * 0.93 ** (step / 5) + 0.05, step=step)
        for step in (0, 75, 150, 225, 300)
    ]
    return RunReport(
        recipe_name="text_to_sql_demo",
        made_at="2026-11-20 18:40 UTC",
        decision=decision,
        registered=RegisteredRef(
            digest="r",
            model_name="text-to-sql-pt",
            version=4,
            alias="champion",
            rows_checked=8,
            answers_equal=8,
        ),
        models=models,
        samples=samples,
        stages=stages,
        curves=(*losses, *held_out),
        dataset={"Rows": "2,348 (sha256 0123456789abcdef)", "Test rows": "348 (sha256 fedcba)"},
        figures={"Trainable parameters": "401,408 (10.42 %)", "Steps": "300, best at 300"},
        environment={"retune": "0.1.0", "python": "3.11.7", "torch": "2.13.0+cpu"},
    )


class Page(HTMLParser):
    """Checks that tags close in order, and gathers text, tags and addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def report() -> RunReport:
    return example_report()


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_every_figure_is_shown_with_its_interval_and_rows(name: str, report: RunReport) -> None:
    text = render(name, report) if name.endswith("md") else Page(render(name, report)).text

    for metrics in report.models.values():
        for metric_name, figure in metrics.items():
            parts = show_metric(metric_name, figure).replace(", n = ", "|n = ").split("|")
            value, _, interval = parts[0].partition(" [")
            assert value in text
            assert not interval or f"[{interval}" in text
            assert f"n = {figure.n}" in text


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_decision_comparisons_stages_samples_and_data_are_shown(
    name: str, report: RunReport
) -> None:
    text = render(name, report) if name.endswith("md") else Page(render(name, report)).text

    wanted = [*report.decision.reasons, report.recipe_name, "text-to-sql-pt"]
    wanted += [show_difference(each) for each in report.decision.comparisons]
    wanted += [line.label for line in report.stages] + [line.reason for line in report.stages[4:]]
    wanted += [sample.question for sample in report.samples]
    wanted += [sample.reference for sample in report.samples]
    wanted += [*report.dataset.values(), *report.figures.values(), *report.environment.values()]
    for part in wanted:
        assert part in text.replace("-&gt;", "->"), part


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_guards_and_parts_of_the_rows_are_shown(name: str, report: RunReport) -> None:
    """With margin, verdict and size; a part's name is a row's own text, and stays text."""
    found = {"low": -0.1, "high": 0.02, "p_value": 0.2, "n": 60, "verdict": "undecided"}
    guard = GuardFinding.model_validate(
        found | {"metric": "flip_rate", "difference": -0.04, "against": "champion"}
        | {"margin": 0.05, "holds": True}
    )  # fmt: skip
    part = SliceFinding.model_validate(
        found | {"metric": "accuracy", "difference": -0.3, "against": "champion", "by": "label"}
        | {"part": "<b>a|b</b>", "rows": 60, "lost": 21, "refuses": True, "alpha": 0.025}
    )  # fmt: skip
    small = SmallSlice(by="label", part="rare", rows=3)
    update = {"guards": (guard,), "slices": (part,), "small_slices": (small,), "notes": ("N1",)}
    decision = report.decision.model_copy(update=update)
    page = render(name, report.model_copy(update={"decision": decision}))
    for text in ("5.0 points", "worse: refuses", "21", "0.025", "label rare (3)", "Note: N1"):
        assert text in page, text
    assert ("label <b>a|b</b>" in page) is False


def test_the_page_closes_every_tag_and_asks_for_nothing_outside(report: RunReport) -> None:
    html = render("report.html", report)

    page = Page(html)

    assert page.addresses == []
    assert not {"script", "link", "iframe", "img"} & set(page.seen)
    assert "@import" not in html
    assert "url(http" not in html
    assert len(html) < 150_000


def test_a_figure_that_one_model_lacks_is_a_dash(report: RunReport) -> None:
    """A head has no perplexity, and its base has."""
    models = dict(report.models)
    models["merged"] = {k: v for k, v in models["merged"].items() if k != "perplexity"}
    lacking = report.model_copy(update={"models": models})
    for name in ("report.md", "report.html"):
        assert render(name, lacking).count(ABSENT) == render(name, report).count(ABSENT) + 1


def test_an_answer_with_markup_stays_text(report: RunReport) -> None:
    assert "<b>nome</b>" not in render("report.html", report)
    assert "<b>nome</b>" in Page(render("report.html", report)).text


def test_an_answer_with_backticks_and_bars_stays_in_its_place(report: RunReport) -> None:
    assert "`` SELECT | <b>nome</b> FROM `x` ``" in render("report.md", report)


def test_a_rejected_model_is_said_to_be_rejected(report: RunReport) -> None:
    decision = report.decision.model_copy(update={"promote": False})
    rejected = report.model_copy(update={"decision": decision})

    assert "Not promoted" in Page(render("report.html", rejected)).text
    assert "not promoted" in render("report.md", rejected)


def test_three_files_are_written(report: RunReport, tmp_path: Path) -> None:
    write_pages(tmp_path / "new" / "folder", report)

    written = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert written == {"report.md", "report.html", "curves.png"}


def test_a_training_without_curves_still_has_a_report(report: RunReport, tmp_path: Path) -> None:
    write_pages(tmp_path, report.model_copy(update={"curves": ()}))

    assert "no losses were recorded" in (tmp_path / "report.html").read_text("utf-8")


def test_equal_points_give_equal_pictures(report: RunReport) -> None:
    assert draw_svg(report.curves) == draw_svg(report.curves)
    assert draw_png(report.curves) == draw_png(report.curves)


def test_the_svg_takes_its_colours_from_the_page(report: RunReport) -> None:
    svg = draw_svg(report.curves)

    assert {"var(--train)", "var(--validation)", "currentColor"} <= set(
        re.findall(r"var\(--\w+\)|currentColor", svg)
    )
    assert "#01010" not in svg


def test_a_loss_that_is_not_finite_is_left_out() -> None:
    points = [CurvePoint(name="train_loss", value=float("nan"), step=1)]

    assert "no losses were recorded" in draw_svg(points)


def test_rates_are_percentages_and_perplexity_is_not() -> None:
    assert show_value("sql_exact_match", 0.8621) == "86.2 %"
    assert show_value("perplexity", 1.0412) == "1.041"
    assert show_value("perplexity", None) == "–"


def test_what_could_not_be_scored_is_not_zero() -> None:
    assert show_metric("sql_exact_match", metric(None, None, None, 0)) == "not scored, n = 0"


def test_differences_of_rates_are_points() -> None:
    # 0.0718 of the rows is 7.18 percentage points.
    each = comparison("sql_exact_match", "base", 0.0718, -0.0374, 0.1063)

    assert show_difference(each) == "+7.2 points [−3.7, +10.6]"


def test_small_numbers_are_not_rounded_to_nothing() -> None:
    assert show_p_value(0.00001) == "< 0.0001"
    assert show_seconds(0.04) == "0.0 s"
    assert show_seconds(3725) == "62 min 5 s"


def test_a_report_is_written_from_records_alone(report: RunReport, tmp_path: Path) -> None:
    place: dict[str, Any] = {"digest": "ab" * 32, "folder": tmp_path}
    curves = tmp_path / "metrics.jsonl"
    curves.write_text('{"name": "train_loss", "value": 0.5, "step": 5}\n{"name": "cut sho')
    assert report.registered is not None
    summary = RunSummary(
        recipe="demo",
        models=report.models,
        stages=report.stages,
        decision=report.decision,
        registered=report.registered,
        samples=report.samples,
        mlflow_run_id="run",
        tracking_uri="sqlite:///x",
        report=tmp_path,
    )
    rows = DatasetRef(**place, format="text_to_sql", rows=2348, bad_rows=2, labels=(), databases=0)
    clean = CleanRef(**place, rows=2348, test_rows=348, faults={})
    split = SplitRef(**place, train=1800, validation=200, test=348, groups_shared=0)
    chat = ChatRef(
        **place,
        train=1800,
        validation=200,
        test=348,
        side_digests={"train": "11" * 32, "validation": "22" * 32, "test": "33" * 32},
        tokenizer_digest="t",
        train_tokens=300_000,
        answer_tokens=60_000,
        longest_tokens=250,
        faults={},
    )
    data = PreparedData(rows=(rows,), clean=clean, split=split, chat=chat)
    model = ModelRef(
        **place,
        quantization="nf4",
        parameters=3_400_000,
        footprint_bytes=4 * 2**20,
        base_footprint_bytes=13 * 2**20,
        reference_perplexity=5.2,
        base_reference_perplexity=5.1,
    )
    adapter = AdapterRef(
        **place,
        trainable_parameters=340_000,
        total_parameters=3_400_000,
        steps=300,
        best_step=225,
        resumed_from_step=50,
        train_loss=0.1,
        validation_loss=0.05,
        base_validation_loss=2.5,
    )
    merged = MergedRef(
        **place, rows_checked=16, max_logit_difference=0.01, logit_spread=4.0, answers_equal=16
    )

    models = (model, adapter, merged)
    write_report(summary, curves, data=data, models=models, estimated=None, folder=tmp_path)

    text = (tmp_path / "report.md").read_text("utf-8")
    # 340,000 of 3,400,000 parameters are a tenth.
    for part in (
        "340,000 (10.00 %)",
        "300, best at 225, resumed from 50",
        "16 of 16 answers equal",
    ):
        assert part in text
    for part in (
        "4.0 MiB instead of 13.0 MiB",
        "348 (sha256 3333333333333333)",
        "2,350 from 1 source",
        "60,000 carry loss",
    ):
        assert part in text
