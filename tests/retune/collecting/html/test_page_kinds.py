"""What is served as a page and is none, and pages whose text is elsewhere or oddly written."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from retune.collecting.decoding import decode_page
from retune.collecting.extracting import extract_documents
from retune.collecting.failures import PageFailed
from retune.collecting.fetching.fetcher import FetchResult
from retune.collecting.html.pages import read_html
from retune.collecting.records import CollectSettings, Document, Outcome
from retune.collecting.rows import make_rows

ARTICLE = (
    "<html><body><main><h1>Coração</h1><p>O coração não é só um músculo: é uma bomba (dupla), e "
    "bate mais de cem mil vezes por dia sem descanso algum.</p></main></body></html>"
)


def _outcome(folder: Path, name: str, body: bytes) -> Outcome:
    (folder / name).write_bytes(body)
    pages = [FetchResult(url=str(folder / name))]
    settings = CollectSettings()
    found = extract_documents(pages, settings, lambda done, total: None)
    (outcome,) = make_rows(found, [], settings).outcomes
    return outcome


@pytest.mark.parametrize(
    ("body", "reason", "detail"),
    [
        (b"%PDF-1.7\n1 0 obj", "not a page", "a PDF file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(90), "not a page", "a PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(90), "not a page", "a JPEG picture"),
        (b"PK\x03\x04" + bytes(90), "not a page", "a ZIP archive"),
        (gzip.compress(ARTICLE.encode(), mtime=0), "not a page", "gzipped"),
        (bytes(range(256)) * 4, "not a page", "are no text"),
        (b"<?xml version='1.0'?><rss><channel/></rss>", "not a page", "XML with <rss>"),
        (b"<urlset><url><loc>https://a.b/</loc></url></urlset>", "not a page", "give it as SOURCE"),
        (
            b"<frameset><frame src='menu.html'><frame src='text.html'></frameset>",
            "page of frames",
            "menu.html, text.html",
        ),
        (
            b"<meta http-equiv='Refresh' content='0; URL=https://a.b/new'><p>Moved.",
            "page that only redirects",
            "to https://a.b/new",
        ),
        (
            b"<div id='root'></div><script src='app.js'></script>",
            "page written by scripts",
            "its <div id=root> is empty",
        ),
        (
            b"<div id='app'>Loading...</div><script src='app.js'></script>",
            "page written by scripts",
            "its <div id=app> is empty",
        ),
        (
            b"<noscript>You need to enable JavaScript.</noscript><script></script><p>Hi",
            "page written by scripts",
            "asks for JavaScript",
        ),
        (b"", "no main content", "the page is empty"),
        (b"  \n\t", "no main content", "the page is empty"),
        (b"<!-- nothing -->", "no main content", "the page is empty"),
        (b"\x00\x00", "no main content", ""),
    ],
)
def test_a_page_without_text_says_what_it_is(
    tmp_path: Path, body: bytes, reason: str, detail: str
) -> None:
    """Read, and nothing in it; frames and redirects say where the text is."""
    outcome = _outcome(tmp_path, "page.html", body)
    assert (outcome.status, outcome.reason) == ("empty", reason)
    assert detail in outcome.detail


def test_a_page_with_text_of_its_own_is_one_whatever_else_it_does() -> None:
    """It reloads itself now and then, and holds a place for an application."""
    long = "<p>Words that stand here and go on for a while longer. " * 8
    text = (
        f"<meta http-equiv=refresh content='300; url=x'><script></script><div id=app></div>{long}"
    )
    assert read_html("p", text).characters > 300


@pytest.mark.parametrize(
    "body",
    [
        ARTICLE.encode(),
        b"\xef\xbb\xbf" + ARTICLE.encode(),
        ARTICLE.encode("utf-16"),
        ARTICLE.encode("utf-16-le"),
        ARTICLE.encode("utf-16-be"),
        b"\xff\xfe\x00\x00" + ARTICLE.encode("utf-32-le"),
        ARTICLE.encode("cp1252"),
        b"<meta charset=utf-8>" + ARTICLE.encode("cp1252"),
        b"<meta charset='iso-8859-1'>" + ARTICLE.encode(),
        b"<meta http-equiv='Content-Type' content='text/html; charset = iso-8859-1'>"
        + ARTICLE.encode("latin-1"),
        b"<meta charset=unicode_escape>" + ARTICLE.encode("cp1252"),
        b"<meta charset=undefined>" + ARTICLE.encode("cp1252"),
        b"<meta charset=base64>" + ARTICLE.encode("cp1252"),
        ARTICLE.encode("ascii", "xmlcharrefreplace"),
    ],
)
def test_letters_survive_every_charset(tmp_path: Path, body: bytes) -> None:
    """Marks, lies, codecs of Python that are no charsets, entities."""
    (tmp_path / "p.html").write_bytes(body)
    found = extract_documents(
        [FetchResult(url=f"{tmp_path}/p.html")], CollectSettings(), lambda done, total: None
    )
    ((document, _),) = found.documents
    assert document.title == "Coração"
    assert "não é só um músculo: é uma bomba" in document.sections[0].text


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        ("日本語のページ".encode("iso-2022-jp"), "iso-2022-jp", "日本語のページ"),
        ("日本語のページ".encode("cp932"), "x-sjis", "日本語のページ"),
        ("ação e coração não são".encode() + b"\xff.", None, "ação e coração não são\ufffd."),
        ("ação e coração não são".encode() + b"\xc3", "iso-8859-1", "ação e coração não são\ufffd"),
        (b"caf\xe9", "a\x00b", "café"),
        (b"caf\xe9", "idna", "café"),
    ],
)
def test_one_broken_byte_does_not_make_another_charset(
    body: bytes, charset: str | None, text: str
) -> None:
    """It is replaced alone; charsets that are switched by escapes are read as stated."""
    assert decode_page(body, charset) == text


def _only_section(text: str, *, as_xml: bool = False) -> tuple[tuple[str, ...], str]:
    document: Document = read_html("p", text, as_xml=as_xml)
    (section,) = document.sections
    return section.path, section.text


@pytest.mark.parametrize(
    "text",
    [
        "<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><head><title>T</title>"
        "<script src='a.js'/></head><body><h1>T</h1><p>Some&nbsp;<b>words</b>.</p></body></html>",
        "<?xml version='1.0'?><h:html xmlns:h='http://www.w3.org/1999/xhtml'><h:body><h:h1>T</h:h1>"
        "<h:p>Some&#160;<h:b>words</h:b>.</h:p></h:body></h:html>",
        "<?xml version='1.0'?><html><body><h1>T</h1><p>Some&nbsp;<b>words</b>.<br></body>",
    ],
)
def test_xhtml_is_read_with_prefixes_and_when_it_is_none(text: str) -> None:
    """An empty <script/> does not swallow the page; what is no XML is read as HTML."""
    path, body = _only_section(text)
    assert path == ("T",)
    assert body.startswith("Some\u00a0**words**.")


def test_entities_of_a_page_are_not_expanded() -> None:
    """They may read files and fill the memory, so such a page is read as HTML."""
    text = (
        "<?xml version='1.0'?><!DOCTYPE html [<!ENTITY w SYSTEM 'file:///etc/passwd'>"
        "<!ENTITY v 'JUNK'>]><html><body><h1>T</h1><p>Some words &v; &w; here.</p></body></html>"
    )
    document = read_html("p", text, as_xml=True)
    assert document.sections[-1].text == "Some words &v; &w; here."


def test_a_page_nested_beyond_reach_counts_what_is_not_read() -> None:
    """The parser stops at 2048 levels: of 3000 letters x about 950 are not read, all counted."""
    text = f"<main><h1>T</h1><p>Some words.</p>{'<div>x' * 3000}</main>"
    document = read_html("p", text)
    unread = document.left_out["nested too deeply to be read"]
    assert 900 < unread < 1100
    assert sum(part.letters for part in document.sections) + unread == len("TSomewords.") + 3000


def test_an_error_of_a_library_ends_one_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is named with the error; the next one is read."""

    def fail(source: str, text: str, *, as_xml: bool = False) -> Document:
        if source.endswith("bad.html"):
            raise RecursionError("too deep")
        return read_html(source, text, as_xml=as_xml)

    monkeypatch.setattr("retune.collecting.extracting.read_html", fail)
    for name in ("bad", "good"):
        (tmp_path / f"{name}.html").write_text(ARTICLE, "utf-8")
    pages = [FetchResult(url=f"{tmp_path}/{name}.html") for name in ("bad", "good")]
    found = extract_documents(pages, CollectSettings(), lambda done, total: None)
    assert [document.source for document, _ in found.documents] == [f"{tmp_path}/good.html"]
    (outcome,) = found.outcomes
    assert (outcome.status, outcome.reason) == ("failed", "extractor failed")
    assert outcome.detail == "RecursionError: too deep"


@pytest.mark.parametrize(
    "name", ["uma página.html", "a b.md", "日本.htm", "c%20d.markdown", "e#f.html", "g?h.html"]
)
def test_names_of_files_may_hold_any_letter(tmp_path: Path, name: str) -> None:
    """Blanks, accents, signs that mean something in an address."""
    text = ARTICLE if "htm" in name else f"# T\n\n{'Some words of text. ' * 9}"
    assert _outcome(tmp_path, name, text.encode()).status == "kept"


def test_a_failed_page_can_travel_between_processes() -> None:
    """Reason and detail come along."""
    make, values = PageFailed("reason", "detail", left_out={"a": 1}).__reduce__()
    assert str(make(*values)) == "reason: detail"
