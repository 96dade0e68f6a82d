"""The flow `collect` and its command, on local pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.collect import collect
from retune.collecting.records import CollectSettings
from retune.errors import ConfigError, DataError
from tests.flows.conftest import environment
from tests.preloading import run_command
from tests.serving import prefect_address
from tests.waiting import GUARD_SECONDS

ARTICLE = """<html lang="pt-BR"><body><nav><a href="/">Início</a></nav><main><h1>Coração</h1>
<p>O coração não é só um músculo: é uma bomba (dupla) que não pára.</p><h2>Ação</h2>
<p>Ele bate — sem descanso — mais de “cem mil” vezes por dia, e nunca se cansa disso.</p>
<pre>&gt;&gt;&gt; 2 + 2
4</pre></main></body></html>"""
LICENCE = (
    "<main><h1>License</h1><p>Permission is hereby granted without warranty of any kind; in no "
    "event shall the licensor be liable.</p></main>"
)

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def prefect() -> Iterator[None]:
    """The Prefect server that tests share."""
    with temporary_settings({PREFECT_API_URL: prefect_address()}):
        yield


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """A folder with an article and a licence."""
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "article.html").write_text(ARTICLE, "utf-8")
    (folder / "license.html").write_text(LICENCE, "utf-8")
    return folder


@pytest.mark.usefixtures("prefect")
def test_the_flow_writes_pairs_and_outcomes(pages: Path, tmp_path: Path) -> None:
    """One pair from the article (its first section has 65 characters), none from the licence."""
    out = tmp_path / "pairs.jsonl"
    collected = collect(source=str(pages), out=out)
    (row,) = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert (row["question"], row["source"]) == ("Coração: Ação", f"{pages}/article.html")
    assert row["answer"] == (
        "Ele bate — sem descanso — mais de “cem mil” vezes por dia, e nunca se cansa disso.\n\n"
        "```\n>>> 2 + 2\n4\n```"
    )
    assert collected.reasons == (("kept", "pairs", 1), ("empty", "licence page", 1))


@pytest.mark.usefixtures("prefect")
def test_an_earlier_file_stops_the_flow_before_it_reads_anything(
    pages: Path, tmp_path: Path
) -> None:
    """The error arrives as itself through Prefect."""
    (tmp_path / "pairs.jsonl").touch()
    with pytest.raises(ConfigError, match="exists already"):
        collect(source=str(pages), out=tmp_path / "pairs.jsonl")


@pytest.mark.usefixtures("prefect")
def test_no_pair_stops_the_flow(pages: Path, tmp_path: Path) -> None:
    """A limit that no section reaches."""
    settings = CollectSettings(min_characters=2000)
    with pytest.raises(DataError, match="2 pages gave no pairs: licence page 1, section too short"):
        collect(source=str(pages), out=tmp_path / "pairs.jsonl", settings=settings)


def test_the_command_prints_reasons_and_one_json_object(pages: Path, tmp_path: Path) -> None:
    """Standard output holds the JSON alone; the table goes to standard error."""
    options = ("--out", "pairs.jsonl", "--as", "sentences", "--json")
    done = run_command(
        "retune.cli",
        ["collect", str(pages), *options],
        folder=tmp_path,
        environment=environment(tmp_path),
        timeout=GUARD_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["rows"] == 1
    assert "licence page" in done.stderr
