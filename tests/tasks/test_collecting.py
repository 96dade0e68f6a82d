"""Pages become rows: each task tells what came of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect import flow

from retune.collecting.records import CollectSettings
from tasks.collecting import extract_documents, fetch_pages, list_pages, make_rows, write_rows
from tests.tasks.conftest import Told

PAGE = "# Rivers\n\n## How long is the Douro?\n\n" + "The Douro is 897 kilometres long. " * 6


@pytest.mark.usefixtures("server")
def test_a_local_page_becomes_rows_without_a_fetch(tmp_path: Path, told: Told) -> None:
    """Four lines for the watcher, and the file that was asked for."""
    (tmp_path / "page.md").write_text(PAGE)
    settings = CollectSettings()

    @flow(persist_result=False)
    def collect() -> None:
        pages = fetch_pages(list_pages(str(tmp_path / "page.md"), settings), settings)
        made = make_rows(extract_documents(pages, settings), pages, settings)
        write_rows(made, tmp_path / "rows.jsonl", settings, force=False)

    collect()
    assert [(line.name, line.state) for line in told.lines] == [
        ("list_pages", "ran"),
        ("fetch_pages", "ran"),
        ("extract_documents", "ran"),
        ("make_rows", "ran"),
    ]
    assert told.lines[1].reason == "nothing to fetch"
    assert told.lines[3].reason == "1 rows as pairs"
    assert "897 kilometres" in (tmp_path / "rows.jsonl").read_text()
