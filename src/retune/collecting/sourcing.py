"""What SOURCE means: an address list, a sitemap, one address, or local files."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urldefrag, urlsplit

import httpx

from retune.collecting.failures import BAD_ADDRESS
from retune.collecting.fetching.sitemaps import read_sitemap, read_sitemap_file
from retune.collecting.records import CollectSettings, Outcome
from retune.errors import DataError
from retune.records import Record
from retune.text_files import read_text_file

HTML_SUFFIXES = frozenset({".html", ".htm", ".xhtml", ".xht", ".shtml"})
MARKDOWN_SUFFIXES = frozenset({".md", ".markdown", ".mdown", ".mkd", ".mdx"})
_PAGE_SUFFIXES = HTML_SUFFIXES | MARKDOWN_SUFFIXES
_SITEMAP_ENDINGS = (".xml", ".xml.gz", ".gz")
_COMMENT = re.compile(r"(^|\s)#.*")


class PageList(Record):
    """The pages that a source names."""

    pages: tuple[str, ...]
    """Addresses and paths, each once, in the order of the source."""
    refused: tuple[Outcome, ...] = ()
    """What the source names and is not a page."""


def is_address(page: str) -> bool:
    """Return whether a page is to be fetched, and does not lie on this machine."""
    return page.lower().startswith(("http://", "https://"))


def list_pages(source: str, settings: CollectSettings) -> PageList:
    """Find the pages that a source names.

    Args:
        source: An address, a sitemap's address or file, a file of addresses, a page's file, a
            folder of pages, or a glob.
        settings: How a sitemap is fetched.

    Returns:
        The pages.

    Raises:
        DataError: The source does not exist, cannot be read, or names no page.
        ConfigError: The provider cannot work.
    """
    listing = _list(source, settings)
    if not listing.pages and not listing.refused:
        raise DataError(
            f"{source} names no page. Expected addresses (one per line), a sitemap with "
            f"<loc> entries, or files that end in {', '.join(sorted(_PAGE_SUFFIXES))}."
        )
    return listing


def _list(source: str, settings: CollectSettings) -> PageList:
    if is_address(source):
        if urlsplit(source).path.lower().endswith(_SITEMAP_ENDINGS):
            return sort_addresses(read_sitemap(source, settings))
        return sort_addresses([source])
    path = Path(source)
    if path.is_dir():
        return _local(path.rglob("*"), below=path)
    if path.is_file():
        if path.name.lower().endswith(_SITEMAP_ENDINGS):
            return sort_addresses(read_sitemap_file(path, settings))
        if path.suffix.lower() in _PAGE_SUFFIXES:
            return PageList(pages=(source,))
        return sort_addresses(_read_list(path))
    if glob.has_magic(source):
        return _local(Path(each) for each in glob.glob(source, recursive=True))
    raise DataError(
        f"{source} does not exist. Give a file of addresses, a sitemap, HTML or Markdown files, a "
        "folder of them, or an address that starts with https://."
    )


def sort_addresses(lines: Iterable[str]) -> PageList:
    """Separate addresses from what is none.

    Args:
        lines: Addresses, possibly repeated.

    Returns:
        Each address once, without its fragment, which names a place inside the page.
    """
    pages: dict[str, None] = {}
    refused: dict[str, Outcome] = {}
    for line in lines:
        if _has_host(line):
            pages[urldefrag(line).url] = None
        else:
            refused[line] = Outcome(source=line, status="failed", reason=BAD_ADDRESS)
    return PageList(pages=tuple(pages), refused=tuple(refused.values()))


def _has_host(line: str) -> bool:
    try:
        # Both look: httpx knows host names, and the standard library the range of ports.
        return is_address(line) and bool(httpx.URL(line).host) and urlsplit(line).port != 0
    except (httpx.InvalidURL, ValueError):
        return False


def _read_list(path: Path) -> list[str]:
    try:
        text = read_text_file(path)
    except DataError as error:
        raise DataError(
            f"{error}. Expected a list of addresses: UTF-8 text, one per line, comments after #."
        ) from error
    lines = (_COMMENT.sub("", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


def _local(paths: Iterable[Path], below: Path | None = None) -> PageList:
    def is_page(path: Path) -> bool:
        inner = path.relative_to(below).parts if below else path.parts[-1:]
        hidden = any(part.startswith(".") for part in inner)
        return path.suffix.lower() in _PAGE_SUFFIXES and not hidden and path.is_file()

    return PageList(pages=tuple(sorted(path.as_posix() for path in paths if is_page(path))))
