"""The flow `collect`: pages of the web or of this machine become rows to train on.

It fetches politely, extracts the main content, pairs headings with their sections, and says for
every page what became of it. A page that fails never stops it; pages already fetched are kept.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from retune.collecting.records import CollectSettings
from retune.collecting.writing import Collected
from tasks.collecting import (
    extract_documents,
    fetch_pages,
    list_pages,
    make_rows,
    refuse_clobber,
    write_rows,
)


@flow(name="collect", persist_result=False)
def collect(
    source: str, out: Path, settings: CollectSettings | None = None, force: bool = False
) -> Collected:
    """Collect pages into a JSON Lines file.

    Args:
        source: File of addresses, sitemap, address, HTML or Markdown file, folder or glob.
        out: The file that is written; the outcome of each page lies beside it.
        settings: How pages are fetched and what becomes of them.
        force: Write over an earlier file.

    Returns:
        What was collected.

    Raises:
        RetuneError: The source names no page, or no page gave a row.
    """
    settings = settings or CollectSettings()
    refuse_clobber(out, force=force)
    pages = list_pages(source, settings)
    fetched = fetch_pages(pages, settings)
    documents = extract_documents(fetched, settings)
    rows = make_rows(documents, fetched, settings)
    return write_rows(rows, out, settings, force=force)
