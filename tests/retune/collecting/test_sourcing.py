"""What SOURCE means."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import httpx
import pytest

from retune.collecting.fetching.providers import HttpProvider, http_client
from retune.collecting.fetching.sitemaps import parse_sitemap, walk_sitemaps
from retune.collecting.records import CollectSettings
from retune.collecting.sourcing import list_pages, sort_addresses
from retune.errors import DataError
from tests.retune.collecting.conftest import Web, page

SITEMAP = """<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
<url><loc> https://a.example/1 </loc></url><url><loc>https://a.example/2?x=1&amp;y=2</loc></url>
</urlset>"""
PAGES = ["https://a.example/1", "https://a.example/2?x=1&y=2"]


def _index(*urls: str) -> str:
    maps = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in urls)
    return f"<sitemapindex>{maps}</sitemapindex>"


def test_a_list_gives_each_address_once_without_comments_and_fragments(tmp_path: Path) -> None:
    """A byte-order mark, comments, blank lines, a repeated page by fragment, a bare host name."""
    path = tmp_path / "urls.txt"
    path.write_text(
        "\ufeff# pages\nhttps://a.example/1\n\nhttps://a.example/1#part  # twice\nfoo.example/x\n",
        "utf-8",
    )
    listing = list_pages(str(path), CollectSettings())
    assert listing.pages == ("https://a.example/1",)
    assert [(each.source, each.reason) for each in listing.refused] == [
        ("foo.example/x", "not an http(s) address")
    ]


@pytest.mark.parametrize(
    "line",
    ["http://[::1", "http://a.example:99999/", "http://xn--.example/", "http://", "ftp://a/b"],
)
def test_an_address_that_nobody_can_ask_is_refused_and_no_error(line: str) -> None:
    """An open bracket, a port too high, a host name that only looks international, none."""
    listing = sort_addresses([line, "https://a.example/ação"])
    assert listing.pages == ("https://a.example/ação",)
    assert [each.source for each in listing.refused] == [line]


def test_a_folder_gives_its_pages_and_no_hidden_ones(tmp_path: Path) -> None:
    """HTML and Markdown at any depth, sorted, as paths below the folder as it was given."""
    for name in ("b/2.md", "1.HTML", ".git/3.html", "b/.4.md", "5.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listing = list_pages(str(tmp_path), CollectSettings())
    assert listing.pages == (f"{tmp_path}/1.HTML", f"{tmp_path}/b/2.md")


def test_a_glob_gives_the_pages_that_match(tmp_path: Path) -> None:
    """`**` goes into folders."""
    for name in ("a/1.html", "a/2.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listing = list_pages(f"{tmp_path}/**/*.html", CollectSettings())
    assert listing.pages == (f"{tmp_path}/a/1.html",)


def test_a_single_page_is_a_source(tmp_path: Path) -> None:
    """A file of HTML, and an address."""
    (tmp_path / "1.html").touch()
    for source in (f"{tmp_path}/1.html", "https://a.example/1"):
        assert list_pages(source, CollectSettings()).pages == (source,)


@pytest.mark.parametrize("name", ["sitemap.xml", "sitemap.xml.gz"])
def test_a_sitemap_file_gives_its_pages(tmp_path: Path, name: str) -> None:
    """With name space, entities, white space; packed or not."""
    content = SITEMAP.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert list_pages(f"{tmp_path}/{name}", CollectSettings()).pages == tuple(PAGES)


def test_a_sitemap_index_is_followed_once_per_sitemap(web: Web) -> None:
    """An index that lists itself, a packed sitemap, and the same one again."""
    top, packed = "https://a.example/index.xml", "https://a.example/1.xml.gz"
    web.say(top, page(_index(top, packed, packed), "application/xml"))
    web.say(packed, page(gzip.compress(SITEMAP.encode()), "application/x-gzip"))

    async def walk() -> list[str]:
        async with http_client(httpx.MockTransport(web)) as client:
            provider = HttpProvider(client, timeout_seconds=5, max_bytes=9999, media_types=None)
            return [each async for each in walk_sitemaps([top], provider, CollectSettings())]

    assert asyncio.run(walk()) == PAGES
    assert (web.asked[top], web.asked[packed]) == (1, 1)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"<html><body/></html>", "outermost element is <html>"),
        (b"not XML", "is not a sitemap"),
        (b"\x1f\x8bxx", "damaged gzip"),
        (b"", "is not a sitemap"),
    ],
)
def test_what_is_no_sitemap_is_named(content: bytes, complaint: str) -> None:
    """The message says which file and what was found."""
    with pytest.raises(DataError, match=complaint) as caught:
        parse_sitemap(content, "map.xml")
    assert "map.xml" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + SITEMAP.encode(),
        b"\n " + SITEMAP.encode(),
        b"\xef\xbb\xbf\n" + SITEMAP.encode(),
        SITEMAP.replace("&amp;", "&").encode(),
        SITEMAP.replace("UTF-8", "UTF-16").encode("utf-16"),
        SITEMAP.replace("?x=1&amp;y=2", "")
        .replace("</loc></url>\n", "?x=1&amp;y=2</loc></url>\n")
        .replace(
            "<loc>https://a.example/2?x=1&amp;y=2", "<loc><![CDATA[https://a.example/2?x=1&y=2]]>"
        )
        .encode(),
        SITEMAP.replace("<loc>", "<s:loc>")
        .replace("</loc>", "</s:loc>")
        .replace("xmlns=", "xmlns:s=")
        .encode(),
        SITEMAP.replace(
            "</loc></url>",
            "</loc><i:image xmlns:i='urn:i'><i:loc>https://a.example/i.png</i:loc></i:image></url>",
        ).encode(),
    ],
)
def test_sitemaps_that_are_not_quite_right_are_read(content: bytes) -> None:
    """Marks, blanks before the declaration, a bare ampersand, CDATA, prefixes, pictures."""
    assert parse_sitemap(content, "map.xml") == (PAGES, [])
    assert parse_sitemap(gzip.compress(content), "map.xml.gz") == (PAGES, [])


def test_a_sitemap_reads_no_other_file(tmp_path: Path) -> None:
    """An entity that names a file stays empty."""
    secret = tmp_path / "secret"
    secret.write_text("https://secret.example/")
    content = (
        f'<!DOCTYPE u [<!ENTITY e SYSTEM "file://{secret}">]>'
        "<urlset><url><loc>&e;</loc></url></urlset>"
    )
    assert parse_sitemap(content.encode(), "map.xml") == ([], [])


@pytest.mark.parametrize("kind", ["missing", "empty folder", "only comments"])
def test_a_source_without_pages_is_an_error(tmp_path: Path, kind: str) -> None:
    """Each says what was given and what is expected."""
    source = tmp_path / "source.txt"
    if kind == "empty folder":
        source.mkdir()
    elif kind == "only comments":
        source.write_text("# nothing\n")
    with pytest.raises(DataError, match=r"source\.txt (does not exist|names no page)"):
        list_pages(str(source), CollectSettings())


def test_a_folder_gives_its_pages_whatever_they_are_called(tmp_path: Path) -> None:
    """Blanks, accents, signs of globs; .mdx too; hidden files and pictures are no pages."""
    names = ["a b.md", "c[1].html", "d.mdx", "é/ü.xhtml", "#1?.htm"]
    for name in [*names, ".hidden.md", "p.png", ".git/x.md"]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x", "utf-8")
    found = list_pages(str(tmp_path), CollectSettings()).pages
    assert sorted(found) == sorted(f"{tmp_path}/{name}" for name in names)
