"""Pages to documents, each page on its own: what one gives or lacks never touches another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from retune.collecting.decoding import decode_page
from retune.collecting.failures import EXTRACTOR, TOO_LARGE, UNREADABLE, PageFailed
from retune.collecting.fetching.fetcher import FetchResult, Progress
from retune.collecting.fetching.page_cache import PageCache
from retune.collecting.html.page_kinds import refuse_other_files
from retune.collecting.html.pages import read_html
from retune.collecting.losses import lost_share
from retune.collecting.markdown.pages import read_markdown
from retune.collecting.records import CollectSettings, Document, Outcome
from retune.collecting.sourcing import HTML_SUFFIXES, is_address

_XHTML = "application/xhtml+xml"
_HTML_TYPES = frozenset({"text/html", _XHTML})
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
        letters = sum(failure.left_out.values())
        unread = failure.reason in {UNREADABLE, TOO_LARGE, EXTRACTOR}
        yield Outcome(
            source=page.url,
            status="failed" if unread else "empty",
            reason=failure.reason,
            detail=failure.detail,
            letters=letters,
            left_out=failure.left_out,
            lost=lost_share(letters, failure.left_out),
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
    body, charset, media_type = _load(source, settings)
    refuse_other_files(body)
    try:
        text = decode_page(body, charset)
        if not _is_html(source, media_type, text):
            return read_markdown(source, text)
        as_xml = media_type == _XHTML or source.lower().endswith(".xhtml")
        return read_html(source, text, as_xml=as_xml)
    except (PageFailed, MemoryError):
        raise
    except Exception as error:
        # Pages are stranger than any library foresees, and one must not cost the others.
        raise PageFailed(EXTRACTOR, f"{type(error).__name__}: {error}") from error


def _load(source: str, settings: CollectSettings) -> tuple[bytes, str | None, str]:
    """Body, charset as stated, and media type, empty where none is stated."""
    if not is_address(source):
        return _read_file(Path(source), settings.max_page_bytes), None, ""
    page = PageCache(settings.cache).load(source)
    if page is None:
        raise PageFailed(UNREADABLE, "the cached page is damaged; run again to fetch it")
    return page.body, page.charset, page.media_type


def _is_html(source: str, media_type: str, text: str) -> bool:
    if not is_address(source):
        return Path(source).suffix.lower() in HTML_SUFFIXES
    if media_type in {"", "text/plain"}:
        # Servers that state nothing, or plain text for whatever they do not know.
        return text.lstrip()[:15].lower().startswith(_HTML_STARTS)
    return media_type in _HTML_TYPES


def _read_file(path: Path, max_bytes: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise PageFailed(TOO_LARGE, f"{size:,} bytes, {max_bytes:,} are allowed")
        return path.read_bytes()
    except OSError as error:
        raise PageFailed(UNREADABLE, error.strerror or str(error)) from error
