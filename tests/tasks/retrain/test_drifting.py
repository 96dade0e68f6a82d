"""The trigger `drift` as a flow asks it: what is computed, in which order, and what is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retune.model_records import ChampionRef
from retune.modeling.head_files import HEAD_FILE
from retune.recipe.sections.data import FormatName
from retune.retraining.drift_records import Bin, DriftIndex, DriftReport, PromptLosses, RequestsRef
from tasks.retrain import drifting
from tasks.runs.job import Job
from tests.tasks.conftest import PENDING, MakeJob, Told, locate, make_data


def make_index(value: float) -> DriftIndex:
    bins = (
        Bin(label="up to 3", rows=0.5, requests=0.5),
        Bin(label="over 3", rows=0.5, requests=0.5),
    )
    return DriftIndex(
        name="prompt_tokens", label="tokens", value=value, chance=0.1, requests=300, bins=bins
    )


class Stages:
    """Stands for the three stages, and remembers what each was given."""

    def __init__(self, folder: Path) -> None:
        self.given: dict[str, dict[str, Any]] = {}
        self.requests: Any = RequestsRef(digest="r", folder=folder, rows=300, bad_lines=0)
        self.report: Any = self._report(folder, 0.01)
        self.losses = PromptLosses(
            digest="l",
            folder=folder,
            requests=300,
            rows=100,
            unscored=0,
            requests_loss=3.0,
            rows_loss=2.0,
            chance=0.1,
            index=make_index(0.5),
        )

    def _report(self, folder: Path, value: float) -> DriftReport:
        return DriftReport(
            digest="d" * 20,
            folder=folder,
            requests=300,
            unwritten=0,
            rows=100,
            level=0.0125,
            indices=(make_index(value),),
        )

    def drift_by(self, value: float) -> None:
        self.report = self._report(self.report.folder, value)

    def of(self, role: str) -> Any:
        self.role = role
        return lambda run, **given: self._give("score_prompts", given, self.losses)

    def read(self, run: Any, **given: Any) -> Any:
        return self._give("read_requests", given, self.requests)

    def compare(self, run: Any, **given: Any) -> Any:
        return self._give("compare_requests", given, self.report)

    def _give(self, name: str, given: dict[str, Any], record: Any) -> Any:
        self.given[name] = given
        return record


@pytest.fixture
def stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stages:
    found = Stages(tmp_path)
    monkeypatch.setattr(drifting, "read_requests", found.read)
    monkeypatch.setattr(drifting, "compare_requests", found.compare)
    monkeypatch.setattr(drifting, "score_prompts", found)
    return found


@pytest.fixture
def ask(tmp_path: Path, make_job: MakeJob) -> Any:
    """Return a maker of jobs whose recipe asks for drift, with a line in the log."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "tokenizer.json").write_text("{}")
    (tmp_path / "log.jsonl").write_text('{"prompt": "Hi"}\n')

    def make(
        drift: dict[str, Any] | None = None, format_name: FormatName = "text_to_sql", **more: Any
    ) -> Job:
        section = {"triggers": {"drift": {"log": "log.jsonl", **(drift or {})}}}
        job = make_job(locate(format_name=format_name), retrain=section, **more)
        return replace(job, data=make_data(tmp_path))

    return make


@pytest.fixture
def champion(tmp_path: Path) -> ChampionRef:
    """A version with the base's tokenizer."""
    return ChampionRef(
        digest="champion", version=3, weights=tmp_path / "base", tokenizer=tmp_path / "base"
    )


def test_without_the_trigger_nothing_is_asked(make_job: MakeJob, champion: ChampionRef) -> None:
    """Its section is null."""
    assert drifting.find_drift(make_job(), champion).reason == "drift is not asked for"


def test_nothing_is_compared_before_there_are_requests(
    tmp_path: Path, ask: Any, stages: Stages, champion: ChampionRef
) -> None:
    """No log yet: no stage is called. Too few requests: they are read, and no more."""
    (tmp_path / "log.jsonl").unlink()
    found = drifting.find_drift(ask(), champion)
    assert "no requests yet" in found.reason and not found.fires and not stages.given
    (tmp_path / "log.jsonl").write_text('{"prompt": "Hi"}\n')
    found = drifting.find_drift(ask({"min_rows": 301}), champion)
    assert "300 requests" in found.reason and not found.fires
    assert list(stages.given) == ["read_requests"]


def test_the_champion_is_loaded_only_where_nothing_cheaper_has_drifted(
    ask: Any, stages: Stages, champion: ChampionRef
) -> None:
    """And only where its loss is asked for; then its loss is a reason by itself.

    It is asked in the form that it is scored in.
    """
    stages.drift_by(0.5)
    assert drifting.find_drift(ask(), champion).fires
    assert "score_prompts" not in stages.given
    stages.drift_by(0.01)
    drifting.find_drift(ask(scoring={"form": "nf4"}), champion)
    assert stages.given.pop("score_prompts")["model"].form == "nf4"
    assert not drifting.find_drift(ask({"loss": False}), champion).fires
    assert "score_prompts" not in stages.given
    found = drifting.find_drift(ask(), champion)
    assert found.fires and "the champion's loss" in found.reason
    given = stages.given["score_prompts"]
    assert (stages.role, given["model"].digest, given["level"]) == ("champion", "champion", 0.0125)


def test_a_champion_with_a_head_has_no_loss(
    tmp_path: Path, ask: Any, stages: Stages, champion: ChampionRef, told: Told
) -> None:
    """It is told, and the cheap indices decide."""
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / HEAD_FILE).write_text(json.dumps({"labels": ["a", "b"]}))
    headed = champion.model_copy(update={"adapter": tmp_path / "head"})
    assert not drifting.find_drift(ask(), headed).fires
    assert "score_prompts" not in stages.given and "head" in told.notes[-1]


@pytest.mark.parametrize(
    ("drift", "format_name", "more", "view", "side"),
    [
        ({}, "text_to_sql", {}, "prompt", "x"),
        ({"column": "question"}, "text_to_sql", {}, "question", "x"),
        (
            {"column": "pergunta"},
            "text_to_sql",
            {"data": {"train": "rows.jsonl", "columns": {"question": "pergunta"}}},
            "question",
            "x",
        ),
        ({"column": "sent"}, "text_to_sql", {}, "prompt", "x"),
        ({}, "text_to_sql", {"prompt": {"loss_on": "all"}}, "prompt", "y"),
        ({}, "text", {}, "text", "y"),
    ],
)
def test_what_of_a_row_is_compared(
    ask: Any,
    stages: Stages,
    champion: ChampionRef,
    drift: dict[str, Any],
    format_name: FormatName,
    more: dict[str, Any],
    view: str,
    side: str,
) -> None:
    """Whole prompts, unless the log holds questions; texts where nothing is asked.

    Losses are compared with the training side (x), and with validation rows (y) where the prompts
    themselves were learned.
    """
    drifting.find_drift(ask(drift, format_name, **more), champion)
    compared, scored = stages.given["compare_requests"], stages.given["score_prompts"]
    assert compared["view"] == scored["view"] == view
    assert (compared["rows"].digest, scored["rows"].digest) == ("x", side)


def test_a_plan_says_what_it_cannot_know(ask: Any, stages: Stages, champion: ChampionRef) -> None:
    """Requests or figures that a run would compute first."""
    stages.report = PENDING
    assert "not known before" in drifting.find_drift(ask(), champion).reason
    stages.requests = PENDING
    assert "not known before" in drifting.find_drift(ask(), champion).reason


def test_the_page_lies_among_the_reports(
    tmp_path: Path, ask: Any, stages: Stages, champion: ChampionRef
) -> None:
    """Under the digest of what was found."""
    drifting.find_drift(ask(), champion)
    pages = list((tmp_path / ".retune" / "reports").glob("drift-*/drift.md"))
    assert [page.parent.name for page in pages] == ["drift-dddddddddddd"]
