"""Sitemaps and sitemap indexes (https://www.sitemaps.org/protocol.html), also gzipped."""

from __future__ import annotations

import asyncio
import io
import re
import zlib
from collections.abc import AsyncIterator
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import Any

from lxml import etree

from retune.collecting.failures import PageFailed
from retune.collecting.fetching.fetcher import Fetcher
from retune.collecting.fetching.provider_choice import open_provider
from retune.collecting.fetching.providers import PageProvider
from retune.collecting.records import CollectSettings
from retune.errors import DataError

_MOST_BYTES = 50 * 1024 * 1024
"""The protocol's own limit, unpacked."""
_MOST_SITEMAPS = 1000
_GZIP = b"\x1f\x8b"
_MARK = b"\xef\xbb\xbf"
_BARE_AMPERSAND = re.compile(rb"&(?!(?:#\d+|#x[0-9a-fA-F]+|\w+);)")


def read_sitemap(url: str, settings: CollectSettings) -> list[str]:
    """Fetch a sitemap and those that it lists.

    Args:
        url: Its address.
        settings: How it is fetched.

    Returns:
        Addresses of pages.

    Raises:
        DataError: A sitemap does not come or is none.
        ConfigError: The provider cannot work.
    """
    return asyncio.run(_collect([url], [], settings))


def read_sitemap_file(path: Path, settings: CollectSettings) -> list[str]:
    """Read a sitemap's file, and fetch those that it lists.

    Args:
        path: The file.
        settings: How listed sitemaps are fetched.

    Returns:
        Addresses of pages.

    Raises:
        DataError: A sitemap cannot be read or is none.
        ConfigError: The provider cannot work.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    pages, sitemaps = parse_sitemap(content, str(path))
    return asyncio.run(_collect(sitemaps, pages, settings)) if sitemaps else pages


async def _collect(urls: list[str], pages: list[str], settings: CollectSettings) -> list[str]:
    limits = settings.model_copy(update={"max_page_bytes": _MOST_BYTES})
    async with open_provider(limits, media_types=None) as provider:
        return [*pages, *[page async for page in walk_sitemaps(urls, provider, limits)]]


async def walk_sitemaps(
    urls: list[str], provider: PageProvider, settings: CollectSettings
) -> AsyncIterator[str]:
    """Yield the pages of sitemaps and of those that they list.

    Args:
        urls: Where to begin.
        provider: Fetches XML of any media type.
        settings: Attempts and waits.

    Yields:
        Addresses of pages.

    Raises:
        DataError: A sitemap does not come, is none, or lists too many others.
    """
    fetcher = Fetcher(provider, settings)
    waiting, seen = list(urls), set(urls)
    while waiting:
        url = waiting.pop(0)
        try:
            page = await fetcher.fetch_allowed(url)
        except PageFailed as failure:
            raise DataError(
                f"The sitemap {url} could not be fetched: {failure}. Check the address and the "
                "connection, or save the sitemap and give its file."
            ) from failure
        pages, sitemaps = parse_sitemap(page.body, url)
        for page_url in pages:
            yield page_url
        # An index may list itself.
        waiting += [each for each in dict.fromkeys(sitemaps) if each not in seen]
        seen.update(sitemaps)
        if len(seen) > _MOST_SITEMAPS:
            raise DataError(
                f"{urls[0]} lists more than {_MOST_SITEMAPS} sitemaps. Give one of them instead."
            )


def parse_sitemap(content: bytes, name: str) -> tuple[list[str], list[str]]:
    """Read one sitemap.

    Args:
        content: XML, possibly gzipped.
        name: For messages.

    Returns:
        Addresses of pages, and of further sitemaps.

    Raises:
        DataError: It is no sitemap.
    """
    root = _parse(_unpack(content, name), name)
    kind = etree.QName(root).localname
    if kind not in {"urlset", "sitemapindex"}:
        raise DataError(
            f"{name} is not a sitemap: its outermost element is <{kind}>, expected <urlset> or "
            "<sitemapindex>. An address list is a .txt file; a page ends in .html or .md."
        )
    found = root.xpath("./*/*[local-name()='loc']/text()")
    addresses = [str(text).strip() for text in found if str(text).strip()]
    return (addresses, []) if kind == "urlset" else ([], addresses)


def _parse(content: bytes, name: str) -> Any:
    # Entities off: a sitemap needs none, and they can read files and fill the memory.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        return etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        try:
            return etree.fromstring(_repaired(content), parser)
        except etree.XMLSyntaxError:
            raise DataError(
                f"{name} is not a sitemap: {error.msg}. Expected XML with <urlset> or "
                "<sitemapindex>."
            ) from error


def _repaired(content: bytes) -> bytes:
    """Without what writers of sitemaps get wrong: blanks before the declaration, a bare ``&``."""
    stripped = content.lstrip().removeprefix(_MARK).lstrip()
    # In CDATA it is right, and in UTF-16 it is none.
    if b"CDATA" in stripped or b"\x00" in stripped:
        return stripped
    return _BARE_AMPERSAND.sub(b"&amp;", stripped)


def _unpack(content: bytes, name: str) -> bytes:
    if not content.startswith(_GZIP):
        return content
    try:
        with GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(_MOST_BYTES + 1)
    except (BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{name} is a damaged gzip file ({error}). Fetch it again.") from error
    if len(unpacked) > _MOST_BYTES:
        raise DataError(f"{name} unpacks to more than {_MOST_BYTES:,} bytes; no sitemap does.")
    return unpacked
