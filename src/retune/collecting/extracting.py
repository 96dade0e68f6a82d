"""Pages to documents, each page on its own: what one gives or lacks never touches another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from retune.collecting.decoding import decode_page
from retune.collecting.failures import EXTRACTOR, TOO_LARGE, UNREADABLE, PageFailed
from retune.collecting.fetching import FetchResult, Progress
from retune.collecting.html_pages import read_html
from retune.collecting.markdown_pages import read_markdown
from retune.collecting.page_cache import PageCache
from retune.collecting.records import CollectSettings, Document, Outcome
from retune.collecting.sourcing import HTML_SUFFIXES, is_address

_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_HTML_STARTS = ("<!doctype html", "<html", "<?xml")


class Extraction:
    """Documents, and the outcomes of the pages that gave none.

    A plain class and no record: Prefect walks through every record that a task takes.

    Args:
        documents: With whether each page came from the cache.
        outcomes: Of all other pages.
    """

    def __init__(
        self, documents: Sequence[tuple[Document, bool]], outcomes: Sequence[Outcome]
    ) -> None:
        self.documents = tuple(documents)
        self.outcomes = tuple(outcomes)


def extract_documents(
    pages: Sequence[FetchResult], settings: CollectSettings, progress: Progress
) -> Extraction:
    """Read the main content of pages.

    Args:
        pages: Fetched pages and local files.
        settings: Cache and largest size.
        progress: Told after each page.

    Returns:
        Documents and the outcomes of the other pages.
    """
    documents: list[tuple[Document, bool]] = []
    outcomes: list[Outcome] = []
    for done, page in enumerate(pages, start=1):
        for result in _extract(page, settings):
            if isinstance(result, Outcome):
                outcomes.append(result)
            else:
                documents.append((result, page.reused))
        progress(done, len(pages))
    return Extraction(documents, outcomes)


def _extract(page: FetchResult, settings: CollectSettings) -> Iterator[Document | Outcome]:
    if page.failure is not None:
        yield page.failure
        return
    try:
        yield read_document(page.url, settings)
    except PageFailed as failure:
        unread = failure.reason in {UNREADABLE, TOO_LARGE, EXTRACTOR}
        yield Outcome(
            source=page.url,
            status="failed" if unread else "empty",
            reason=failure.reason,
            detail=failure.detail,
            letters=sum(failure.left_out.values()),
            left_out=failure.left_out,
            reused=page.reused,
        )


def read_document(source: str, settings: CollectSettings) -> Document:
    """Read the main content of one page.

    Args:
        source: Address of a page in the cache, or path of a file.
        settings: Cache and largest size.

    Returns:
        The document.

    Raises:
        PageFailed: The page cannot be read or has nothing to give.
    """
    if is_address(source):
        page = PageCache(settings.cache).load(source)
        if page is None:
            raise PageFailed(UNREADABLE, "the cached page is damaged; run again to fetch it")
        text = decode_page(page.body, page.charset)
        as_html = page.media_type in _HTML_TYPES
        # Without a stated type, the page has to say it.
        as_html |= not page.media_type and text.lstrip()[:15].lower().startswith(_HTML_STARTS)
    else:
        text = decode_page(_read_file(Path(source), settings.max_page_bytes), None)
        as_html = Path(source).suffix.lower() in HTML_SUFFIXES
    return read_html(source, text) if as_html else read_markdown(source, text)


def _read_file(path: Path, max_bytes: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise PageFailed(TOO_LARGE, f"{size:,} bytes, {max_bytes:,} are allowed")
        return path.read_bytes()
    except OSError as error:
        raise PageFailed(UNREADABLE, error.strerror or str(error)) from error
