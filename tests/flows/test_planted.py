"""A run over rows that hold secrets, personal data and hostile text, with secrets around it.

What it writes for others (terminal, reports, MLflow, Prefect, manifests, the ledger) is scanned,
and its pages are opened in a browser. The store keeps the rows as they are, since they are what a
model learns; `docs/reliability.md` says where.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.browser import Browser, listen, open_browser
from tests.flows.conftest import environment, write_project
from tests.flows.planted import IN_ROWS, MARK, PERSONAL, SECRETS, payload
from tests.preloading import run_command
from tests.waiting import GUARD_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.service]
_KEPT = re.compile(
    r"project/data/.*|project/\.retune/(load_rows|format_chat|prepare_sides|score_sql)/\w+/.*"
)
"""Rows as a model learns and answers them: in the recipe's own files, and in the store."""
_STEERING = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x9b\u202a-\u202e\u2066-\u2069]")
"""All of a terminal's controls but rich's own colours and line ends."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser, and the server that nothing may load from."""
    with listen() as server:
        yield open_browser(tmp_path_factory.mktemp("browser"), server)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of all that the run wrote; stdout and stderr are files of it."""
    folder = tmp_path_factory.mktemp("planted")
    recipe = write_project(folder / "project")
    said = " ".join([*PERSONAL.values(), *IN_ROWS.values(), payload("http://127.0.0.1:9")])
    for side in ("train", "test"):
        path = folder / "project" / "data" / f"{side}.jsonl"
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for number, row in enumerate(rows):
            row["question"] += f" {number} {said}"
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    settings = yaml.safe_load(recipe.read_text("utf-8"))
    # By itself a run over such rows would be refused.
    settings |= {"limits": {"secrets": None}, "prompt": {"max_length": 1000}}
    recipe.write_text(yaml.safe_dump(settings), "utf-8")
    around = {**environment(recipe.parent, own_server=True), **SECRETS}
    around["XDG_CACHE_HOME"] = str(folder / "cache")
    done = run_command(
        "retune.cli",
        ["run", str(recipe)],
        folder=recipe.parent,
        environment=around,
        timeout=GUARD_SECONDS,
        cold=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "stdout").write_text(done.stdout, "utf-8")
    (folder / "stderr").write_text(done.stderr, "utf-8")
    return folder


def find(folder: Path, needles: dict[str, str]) -> set[tuple[str, str]]:
    """Return which files below a folder hold which of some texts, compressed ones aside."""
    found = set()
    for path in (each for each in folder.rglob("*") if each.is_file()):
        content = path.read_bytes()
        found |= {
            (path.relative_to(folder).as_posix(), name)
            for name, text in needles.items()
            # A key of several lines is as bad by its last one.
            if text.strip().split("\n")[-1].encode() in content
        }
    return found


def test_no_secret_of_the_environment_is_written(planted: Path) -> None:
    """Fifteen kinds, over every file: no folder is left out, not even the store's."""
    assert find(planted, SECRETS) == set()


def test_no_secret_and_no_person_of_a_row_leaves_the_store(planted: Path) -> None:
    """Neither as data of MLflow and Prefect, nor in a page, nor in what the terminal showed."""
    found = find(planted, {**IN_ROWS, **PERSONAL})
    assert {each for each in found if not _KEPT.fullmatch(each[0])} == set()
    # The scan has eyes: the rows themselves are there.
    assert {name for path, name in found if path == "project/data/test.jsonl"} == {
        *IN_ROWS,
        *PERSONAL,
    }


def test_the_report_shows_what_was_taken_out(planted: Path) -> None:
    [page] = planted.glob("project/.retune/reports/*/report.html")
    assert "[e-mail] [CPF] [telephone] [card number] [AWS key] [GitHub token]" in page.read_text()


def test_no_row_steers_the_terminal(planted: Path) -> None:
    said = (planted / "stdout").read_text("utf-8")
    assert r"\x1b[31mred\x1b]0;title\x9b2J\u202ederettamer" in "".join(said.split())
    assert _STEERING.findall(said) == []
    assert _STEERING.findall((planted / "stderr").read_text("utf-8")) == []


def test_no_page_runs_what_a_row_says(planted: Path, browser: Browser) -> None:
    """Every page of the run, each opened: nothing is loaded, no script runs, the text is there."""
    pages = sorted(planted.glob("project/.retune/reports/**/*.html"))
    assert len(pages) >= 2
    for page in pages:
        opened = browser.open(page.read_text("utf-8").replace("http://127.0.0.1:9", browser.server))
        assert (opened.title == MARK, opened.loaded) == (False, []), page
        if page.name == "report.html":
            assert f"<script>document.title='{MARK}'" in opened.text
