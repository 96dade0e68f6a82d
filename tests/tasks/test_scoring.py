"""Which scorers a model goes through, by its rows, its head and what is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ConfigError
from retune.model_records import EngineRef, ScoredModel
from retune.modeling.head_files import HEAD_FILE
from retune.records import Source
from tasks.scoring import score_label_baselines, score_model
from tests.tasks.conftest import PENDING, MakeJob, labels_of, locate, with_rows

PROBES = Source(digest="p", path=Path("probes.yaml"))
ROBUST = {"probes": {"file": "probes.yaml", "robustness": {}}}


def test_a_writer_is_scored_on_all_that_the_rows_and_the_recipe_ask(make_job: MakeJob) -> None:
    """Text-to-SQL rows and three kinds of probes: each stage once, with the model's role."""
    job = make_job(given={"probes": PROBES, "counterfactuals": PROBES}, **ROBUST)
    score_model(job, "merged", PENDING)
    assert labels_of(job) == [
        "score_perplexity (merged)",
        "score_general_text (merged)",
        "score_sql (merged)",
        "probe_model (merged)",
        "probe_counterfactuals (merged)",
        "probe_robustness (merged)",
    ]


@pytest.mark.parametrize(
    ("format_name", "own"),
    [
        ("text_to_sql", ["score_sql (x)"]),
        ("text_label", ["score_labels (x)"]),
        ("instruction", ["sample_answers (x)"]),
        ("text", []),
    ],
)
def test_rows_choose_the_scorer_of_answers(
    make_job: MakeJob, format_name: str, own: list[str]
) -> None:
    """Queries, classes, samples to look at; plain text has no answers."""
    job = make_job(locate(format_name=format_name))
    score_model(job, "x", PENDING)
    assert labels_of(job) == ["score_perplexity (x)", "score_general_text (x)", *own]


def test_answers_that_are_scored_are_the_samples_too(make_job: MakeJob) -> None:
    """A model is not asked twice; the metrics are given to the stage, folders by their figure."""
    own = {"own_metric.house": PROBES}
    metrics = {"text_metrics": ["chrf", {"folder": "house", "result": "words"}]}
    job = make_job(locate(format_name="instruction"), given={"own_metrics": own}, scoring=metrics)
    score_model(job, "x", PENDING)
    assert labels_of(job)[2:] == ["score_text (x)"]


def test_questions_of_the_recipe_are_answered_after_all_that_is_scored(make_job: MakeJob) -> None:
    job = make_job(locate(format_name="instruction"), probes={"show": ["Quem és tu?"]})
    score_model(job, "x", PENDING)
    assert labels_of(job)[2:] == ["sample_answers (x)", "show_answers (x)"]


def test_rules_are_checked_on_the_answers_that_are_scored(make_job: MakeJob) -> None:
    """Without a metric of text the model is asked all the same, and once."""
    rules = {"rubrics": [{"kind": "json"}]}
    job = make_job(locate(format_name="instruction"), scoring=rules)
    score_model(job, "x", PENDING)
    assert labels_of(job)[2:] == ["score_text (x)", "check_rubrics (x)"]


def test_some_reports_can_be_left_out(make_job: MakeJob) -> None:
    """Those that the rows do not have do not matter, and the recipe stays as it is."""
    job = make_job(given={"probes": PROBES, "counterfactuals": PROBES}, **ROBUST)
    score_model(job, "x", PENDING, without=("counterfactuals", "robustness", "sql", "labels"))
    assert labels_of(job) == [
        "score_perplexity (x)",
        "score_general_text (x)",
        "probe_model (x)",
    ]
    assert job.inputs.counterfactuals is PROBES


def test_a_planned_head_is_scored_by_its_classes_alone(make_job: MakeJob) -> None:
    """What is not trained yet has the head that the recipe says; the base writes."""
    job = make_job(locate(format_name="text_label"), head={}, probes={"robustness": {}})
    score_model(job, "adapter", PENDING)
    assert labels_of(job) == ["score_labels (adapter)", "probe_robustness (adapter)"]
    score_model(job, "base", PENDING)
    assert labels_of(job)[2] == "score_perplexity (base)"


def test_a_head_without_labels_to_name_is_refused(make_job: MakeJob, tmp_path: Path) -> None:
    """A champion of other rows: said by its role, before anything is scored."""
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / HEAD_FILE).write_text(json.dumps({"labels": ["a", "b"]}))
    model: dict[str, Any] = {"weights": tmp_path, "tokenizer": tmp_path}
    job = make_job()
    with pytest.raises(ConfigError, match="the champion has a classification head"):
        score_model(job, "champion", ScoredModel(digest="m", adapter=tmp_path / "head", **model))
    assert not job.run.lines


def test_baselines_are_for_rows_with_labels(make_job: MakeJob, tmp_path: Path) -> None:
    """There is nothing to guess elsewhere."""
    assert score_label_baselines(make_job()) is None
    job = with_rows(make_job(locate(format_name="text_label")), tmp_path, ("a", "b"))
    score_label_baselines(job)
    assert labels_of(job) == ["score_baselines"]


def at_engine(folder: Path) -> ScoredModel:
    """Return a model whose answers an engine elsewhere writes."""
    engine = EngineRef(address="http://127.0.0.1:9/v1", model="m")
    return ScoredModel(digest="d", weights=folder, tokenizer=folder).asked_at(engine)


def test_what_an_engine_writes_is_scored_and_no_likelihood(
    make_job: MakeJob, tmp_path: Path
) -> None:
    """It tells none: perplexity, general text and continuations are left out."""
    job = make_job(given={"probes": PROBES, "counterfactuals": PROBES}, **ROBUST)
    score_model(job, "x", at_engine(tmp_path))
    assert labels_of(job) == ["score_sql (x)", "probe_model (x)", "probe_robustness (x)"]


def test_an_engine_names_classes_by_writing_them(make_job: MakeJob, tmp_path: Path) -> None:
    """By likelihood there is nothing to score, and the setting that would is named."""
    rows, robust = locate(format_name="text_label"), {"probes": {"robustness": {}}}
    with pytest.raises(ConfigError, match=r"x: an engine .*scoring\.classify_by=generation"):
        score_model(make_job(rows, **robust), "x", at_engine(tmp_path))

    job = make_job(rows, scoring={"classify_by": "generation"}, **robust)
    score_model(job, "x", at_engine(tmp_path))
    assert labels_of(job) == ["score_labels (x)", "probe_robustness (x)"]


def test_rows_of_plain_text_are_refused_for_an_engine(make_job: MakeJob, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing that is written is scored"):
        score_model(make_job(locate(format_name="text")), "x", at_engine(tmp_path))


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7}])
def test_an_engine_answers_questions_to_show_and_draws_none(
    make_job: MakeJob, tmp_path: Path, sampling: dict[str, float]
) -> None:
    """Drawn answers have a penalty and a seed that engines honour each in its own way."""
    shown = {"show": ["Quem és tu?"], **({"sampling": sampling} if sampling else {})}
    job = make_job(locate(format_name="instruction"), probes=shown)
    score_model(job, "x", at_engine(tmp_path))
    assert labels_of(job) == ["sample_answers (x)", *([] if sampling else ["show_answers (x)"])]
