"""Tasks that collect pages; each one tells the watcher and calls the domain."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from retune.collecting import extracting, rows, sourcing, writing
from retune.collecting.extracting import Extraction
from retune.collecting.fetching import fetcher as fetching
from retune.collecting.fetching.fetcher import FetchResult
from retune.collecting.losses import name_pages
from retune.collecting.records import CollectSettings
from retune.collecting.rows import Rows
from retune.collecting.sourcing import PageList, is_address
from retune.collecting.writing import Collected
from retune.watching import StageLine
from tasks.runs.prefect_api import show
from tasks.runs.watchers import current_watcher

_MOST_SHOWN = 100

refuse_clobber = writing.refuse_clobber


class Pages:
    """Pages of a run, in order. No record: Prefect walks through every record that a task takes.

    Args:
        listing: What the source names.
        results: What came of fetching; local files need none.
    """

    def __init__(self, listing: PageList, results: list[FetchResult]) -> None:
        self.listing = listing
        self.results = results


@task(cache_policy=NO_CACHE, persist_result=False)
def list_pages(source: str, settings: CollectSettings) -> Pages:
    """Find the pages that the source names."""
    with _told("list_pages") as tell:
        listing = sourcing.list_pages(source, settings)
        tell(f"{len(listing.pages)} pages in {source}")
        return Pages(listing, [FetchResult(url=page) for page in listing.pages])


@task(cache_policy=NO_CACHE, persist_result=False)
def fetch_pages(pages: Pages, settings: CollectSettings) -> Pages:
    """Fetch those that do not lie on this machine."""
    with _told("fetch_pages") as tell:
        urls = [page for page in pages.listing.pages if is_address(page)]
        fetched = fetching.fetch_pages(urls, settings, _progress("fetch_pages")) if urls else []
        failed = sum(each.failure is not None for each in fetched)
        reused = sum(each.reused for each in fetched)
        told = f"{len(fetched) - failed} fetched, of them {reused} earlier, {failed} failed"
        tell(told if urls else "nothing to fetch")
        by_url = {each.url: each for each in fetched}
        return Pages(pages.listing, [by_url.get(each.url, each) for each in pages.results])


@task(cache_policy=NO_CACHE, persist_result=False)
def extract_documents(pages: Pages, settings: CollectSettings) -> Extraction:
    """Read the main content of each page."""
    with _told("extract_documents") as tell:
        found = extracting.extract_documents(
            pages.results, settings, _progress("extract_documents")
        )
        tell(f"{len(found.documents)} documents of {len(pages.results)} pages")
        return found


@task(cache_policy=NO_CACHE, persist_result=False)
def make_rows(extraction: Extraction, pages: Pages, settings: CollectSettings) -> Rows:
    """Turn documents into the rows that are asked for."""
    with _told("make_rows") as tell:
        made = rows.make_rows(extraction, pages.listing.refused, settings)
        tell(f"{len(made.rows)} rows as {settings.rows}")
        return made


@task(cache_policy=NO_CACHE, persist_result=False)
def write_rows(made: Rows, out: Path, settings: CollectSettings, *, force: bool) -> Collected:
    """Write rows and outcomes, and show reasons and pages to look at in Prefect's dashboard."""
    show(
        create_table_artifact,
        key="collected-pages",
        description=f"Pages by outcome; {len(made.rows)} rows",
        table=[
            {"status": status, "reason": reason, "pages": pages}
            for status, reason, pages in made.reasons()
        ],
    )
    named = name_pages(made.outcomes, settings.most_lost)
    if named:
        show(
            create_table_artifact,
            key="pages-to-look-at",
            description="Pages that lose much of their text or give nothing",
            table=[page.model_dump(mode="json") for page in named[:_MOST_SHOWN]],
        )
    return writing.write_rows(made, out, settings, force=force)


@contextmanager
def _told(name: str) -> Iterator[Callable[[str], None]]:
    watcher, start = current_watcher(), time.monotonic()
    watcher.started(name, "")
    said: list[str] = []
    yield said.append
    seconds = time.monotonic() - start
    reason = " ".join(said)
    watcher.finished(StageLine(name=name, state="ran", reason=reason, seconds=seconds, key=""))


def _progress(name: str) -> fetching.Progress:
    watcher = current_watcher()

    def tell(done: int, total: int) -> None:
        watcher.progress(name, "pages", done, total)

    return tell
