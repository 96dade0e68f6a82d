"""The triggers `drift` and `degraded` over a real job: rows, a tiny model, every stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from flows.preparing import prepare_job
from retune.data.quality.texts import write_hash
from retune.data.schemas import HISTORY_SCHEMA
from retune.data.tables import read_rows, write_table
from retune.errors import ConfigError, DataError
from retune.inputs import locate_inputs
from retune.model_records import ChampionRef
from retune.recipe.loading import load_recipe
from retune.score_records import ScoreReport
from retune.serving.request_log import RequestLog
from retune.watching import WATCHER, SilentWatcher
from tasks.estimating import plan_memory
from tasks.retrain import degrading
from tasks.retrain.degrading import choose_metric, find_degradation
from tasks.retrain.drifting import find_drift
from tasks.runs.job import Job
from tasks.runs.opening import prepare_run
from tasks.runs.run import open_run
from tests.flows.conftest import write_project
from tests.retune.serving.stand_in import Writer, make_server, talk
from tests.tasks.conftest import PENDING, MakeJob, locate
from tests.tiny_models import REPOSITORY

OpenJob = Callable[..., Job]

ASSETS = REPOSITORY / "assets" / "text_to_sql_pt"
ROWS = (ASSETS / "train.jsonl").read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of a small project; its store keeps what the tests compute."""
    return write_project(tmp_path_factory.mktemp("degrading") / "project")


@pytest.fixture
def open_job(project: Path) -> Iterator[OpenJob]:
    """Return a maker of jobs that compute right here."""
    token = WATCHER.set(SilentWatcher())
    # Closed in the opposite order: each run gives back the one that was current before it.
    with ExitStack() as opened:

        def make(*overrides: str) -> Job:
            loaded = load_recipe(project, overrides)
            run = opened.enter_context(open_run(prepare_run(loaded, direct=True)))
            return prepare_job(run, locate_inputs(loaded))

        yield make
    WATCHER.reset(token)


def champion_of(job: Job) -> ChampionRef:
    """Return the untrained base as a champion."""
    base = job.inputs.base
    return ChampionRef(digest=base.digest, version=1, weights=base.folder, tokenizer=base.folder)


def write_lines(project: Path, name: str, lines: list[Any]) -> str:
    texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    (project.parent / name).write_text("\n".join(texts) + "\n", "utf-8")
    return name


@pytest.mark.slow
def test_a_champion_on_newer_rows(project: Path, open_job: OpenJob) -> None:
    """Known rows are left out, the others are scored like any, and equal rows are no worse.

    Of sixty rows the first 48 are the recipe's: twelve are new.
    """
    rows = write_lines(project, "newer.jsonl", list(ROWS[:60]))
    asked = f"retrain.triggers.degraded={{rows: {rows}}}"
    job = open_job(asked, "gate.metric=perplexity")
    found = find_degradation(job, champion_of(job))
    assert found.trigger == "degraded"
    assert (found.figures["older_rows"], found.figures["newer_rows"]) == (8.0, 12.0)
    labels = [line.label for line in job.run.lines]
    assert labels[-6:] == [
        "leave_out_known",
        "format_chat (newer)",
        "prepare_sides (newer)",
        "measure_stages",
        "score_perplexity (champion)",
        "score_perplexity (champion, newer rows)",
    ]
    assert len(labels) == len(set(labels)) + 1  # `load_databases`, the same once more
    again = open_job(asked, "gate.metric=perplexity")
    assert find_degradation(again, champion_of(again)) == found
    assert {line.state for line in again.run.lines} == {"reused"}


def serve_and_correct(folder: Path, rows: list[str]) -> None:
    """Ask a server each row's question about its tables, and correct the answer to its query."""
    lines = (ASSETS / "databases.jsonl").read_text("utf-8").splitlines()
    scripts = {each["db_id"]: each["context"] for each in map(json.loads, lines)}
    server = make_server(Writer("SELECT 1"), log=RequestLog(folder, 1.0, 10**9, 2))

    async def use(web: httpx.AsyncClient) -> None:
        for row in map(json.loads, rows):
            body = {"prompt": row["question"], "schema": scripts[row["db_id"]]}
            answered = (await web.post("/generate", json=body)).json()
            said = {"id": answered["id"], "rating": "bad", "correction": row["query"]}
            assert (await web.post("/v1/feedback", json=said)).status_code == 200

    talk(server, use)


@pytest.mark.slow
def test_corrections_as_a_server_writes_them_are_newer_rows(
    project: Path, open_job: OpenJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve that the champion does not know, asked by `/generate` and corrected by a client.

    It is asked and scored on them as on the same rows of a file, though these name a database of
    the recipe and those bring their tables along.
    """
    serve_and_correct(project.parent / "served", list(ROWS[48:60]))
    rows = write_lines(project, "unknown.jsonl", list(ROWS[48:60]))
    scored: list[float | None] = []
    score = degrading._score

    def keep(*arguments: Any) -> ScoreReport:
        found = score(*arguments)
        scored.append(found.metrics["perplexity"].value)
        return found

    monkeypatch.setattr(degrading, "_score", keep)
    for path in ("served/corrections-sql.jsonl", rows):
        job = open_job(f"retrain.triggers.degraded={{rows: {path}}}", "gate.metric=perplexity")
        figures = find_degradation(job, champion_of(job)).figures
        assert (figures["older_rows"], figures["newer_rows"]) == (8.0, 12.0)

    older, served, again, filed = scored
    assert older == again != served
    assert served == pytest.approx(filed, rel=1e-6)


@pytest.mark.slow
def test_newer_rows_are_scored_in_the_form_of_those_that_promoted(
    project: Path, open_job: OpenJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the run that promoted it held the champion: by the same stage key."""
    rows = write_lines(project, "newer.jsonl", list(ROWS[:60]))
    asked: list[str] = []
    of = lambda _: lambda *_, model, **__: asked.append(model.digest) or PENDING  # noqa: E731
    monkeypatch.setattr(degrading, "score_perplexity", SimpleNamespace(of=of))
    job = open_job(
        f"retrain.triggers.degraded={{rows: {rows}}}", "gate.metric=perplexity", "scoring.form=nf4"
    )
    find_degradation(job, champion_of(job))
    promoted = plan_memory(job).hold(champion_of(job).as_scored(), adapted=False)
    assert promoted.form == "nf4" and asked == [promoted.digest] * 2


@pytest.mark.slow
def test_rows_that_the_champion_knows_are_no_newer_rows(project: Path, open_job: OpenJob) -> None:
    """Nothing is scored. So are copies whose answers are others, or whose accents are."""
    copies = [
        {**json.loads(row), "question": json.loads(row)["question"].upper(), "id": f"c{at}"}
        for at, row in enumerate(ROWS[:5])
    ]
    rows = write_lines(project, "known.jsonl", copies)
    job = open_job(f"retrain.triggers.degraded={{rows: {rows}}}")
    found = find_degradation(job, champion_of(job))
    assert not found.fires and "knows all of the 5 newer rows" in found.reason


@pytest.mark.slow
def test_the_manifest_says_what_the_champion_knows(
    project: Path, open_job: OpenJob, tmp_path: Path
) -> None:
    """Not the recipe, which may have rows of later: of its test rows six were in the promotion.

    The newer rows are the recipe's own training rows, of which the manifest names ten.
    """
    rows = write_lines(project, "later.jsonl", list(ROWS[:48]))
    job = open_job(f"retrain.triggers.degraded={{rows: {rows}}}", "gate.metric=perplexity")
    names = [
        {"side": side, "row_id": "x", "content": write_hash(row["folded"]), "group": "g"}
        for side, count in (("train", 10), ("test", 6))
        for row in read_rows(job.data.split.folder / f"{side}.parquet")[:count]
    ]
    write_table(tmp_path / "1.rows.parquet", names, HISTORY_SCHEMA)
    job = replace(job, data=replace(job.data, earlier=tmp_path / "1.rows.parquet"))
    found = find_degradation(job, champion_of(job))
    assert (found.figures["older_rows"], found.figures["newer_rows"]) == (6.0, 38.0)


@pytest.mark.slow
def test_newer_rows_have_to_be_of_the_kind_that_decides(project: Path, open_job: OpenJob) -> None:
    """Plain text has no query; a file that is not there is told with its key."""
    rows = write_lines(project, "texts.jsonl", [{"text": "Era uma vez."}] * 3)
    job = open_job(f"retrain.triggers.degraded={{rows: {rows}}}")
    with pytest.raises((ConfigError, DataError), match=r"retrain\.triggers\.degraded\.rows"):
        find_degradation(job, champion_of(job))
    job = open_job("retrain.triggers.degraded={rows: none.jsonl}")
    with pytest.raises(DataError, match=r"retrain\.triggers\.degraded\.rows.*none\.jsonl does not"):
        find_degradation(job, champion_of(job))


@pytest.mark.slow
def test_served_requests_are_compared_up_to_the_champions_losses(
    project: Path, open_job: OpenJob
) -> None:
    """The training prompts as they were served are no drift, in lengths, tokens and losses."""
    job = open_job()
    rows = read_rows(job.data.chat.side("train").folder / "rows.parquet")
    log = write_lines(project, "log.jsonl", [{"prompt": row["prompt"]} for row in rows])
    job = open_job(f"retrain.triggers.drift={{log: {log}, min_rows: 10}}")
    found = find_drift(job, champion_of(job))
    assert not found.fires
    assert found.figures["prompt_loss_rise"] == pytest.approx(0.0, abs=1e-9)
    assert found.figures["prompt_losses"] == found.figures["tokens"] == 0.0


@pytest.mark.parametrize(
    ("gate", "kind", "metric"),
    [
        (None, "text_to_sql", "sql_execution_match"),
        (None, "text_label", "macro_f1"),
        ("accuracy", "text_label", "accuracy"),
        ("probe_pass_rate", "text", "perplexity"),
        ("perplexity", "text_to_sql", "perplexity"),
        ("judge_win_rate", "text", "perplexity"),
    ],
)
def test_the_figure_that_decides_over_rows(
    make_job: MakeJob, gate: str | None, kind: Any, metric: str
) -> None:
    """The gate's, unless that is over other things than rows, or of two models together."""
    judge = {"local": "judge", "human_verdicts": "verdicts.jsonl"}
    job = make_job(
        locate(format_name=kind),
        gate={"metric": gate},
        probes={"file": "probes.yaml"},
        scoring={"text_metrics": ["chrf"]},
        judge=judge,
    )
    assert choose_metric(job) == metric


def test_without_the_trigger_nothing_is_scored(make_job: MakeJob, tmp_path: Path) -> None:
    """Its section is null."""
    champion = ChampionRef(digest="c", version=1, weights=tmp_path, tokenizer=tmp_path)
    assert find_degradation(make_job(), champion).reason == "degradation is not asked for"
