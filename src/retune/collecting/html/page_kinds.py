"""What is served as a page and is none, or has its text elsewhere: each with what to do."""

from __future__ import annotations

import codecs
import re
from typing import Any

from retune.collecting.failures import (
    FRAMES,
    NEEDS_SCRIPTS,
    NOT_A_PAGE,
    REDIRECT,
    PageFailed,
)
from retune.collecting.html.elements import names, text_of
from retune.collecting.page_text import letters

_KINDS = (
    (b"%PDF-", "a PDF file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"RIFF", "a picture or a sound (RIFF)"),
    (b"BM\x00", "a BMP picture"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"{\\rtf", "an RTF document"),
    (b"%!PS", "a PostScript file"),
    (b"\x1f\x8b", "gzipped; unpack it"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"SQLite format 3", "a database"),
    (b"wOF", "a font"),
    (b"OggS", "a sound"),
    (b"ID3", "a sound"),
)
_XML_OF_OTHER_KIND = re.compile(
    r"\A\s*(?:<\?xml[^>]*>\s*)?(?:<!DOCTYPE[^>]*>\s*|<!--.*?-->\s*)*"
    r"<(rss|feed|urlset|sitemapindex|svg|rdf:RDF|opml|plist|wsdl:definitions)\b",
    re.S | re.I,
)
_LOOKED_AT = 4096
_MOST_CONTROLS = 0.02
# Tab, line feed, form feed, carriage return, escape (of Japanese charsets) are text.
_CONTROLS = bytes([*range(9), 11, *range(14, 27), *range(28, 32)])
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF8)

_ROOTS = frozenset(
    {"root", "app", "__next", "__nuxt", "main-app", "react-root", "app-root", "svelte", "gatsby"}
    | {"___gatsby", "q-app", "ember-app", "redoc-container", "swagger-ui"}
)
_ASKS_FOR_SCRIPTS = re.compile(r"java\s?script", re.I)
_WAITS = re.compile(r"(loading|carregando|please wait|aguarde)\b.{0,40}", re.I | re.S)
_URL = re.compile(r"url\s*=\s*['\"]?([^'\"\s>]+)", re.I)
_FEW = 200
"""Letters; a page with more of them has a text of its own."""


def refuse_other_files(body: bytes) -> None:
    """Refuse what is no text at all.

    Args:
        body: As it came.

    Raises:
        PageFailed: It is a picture, an archive or the like.
    """
    start = body[:_LOOKED_AT]
    for mark, kind in _KINDS:
        if start.startswith(mark):
            raise PageFailed(NOT_A_PAGE, f"it is {kind}, whatever its name or type says")
    # Text of two or four bytes a letter is full of NULs, in places that repeat.
    if start.startswith(_MARKS) or looks_wide(start):
        return
    controls = len(start) - len(start.translate(None, _CONTROLS))
    if controls > _MOST_CONTROLS * len(start) + 8:
        raise PageFailed(NOT_A_PAGE, f"{controls} of its first {len(start)} bytes are no text")


def looks_wide(body: bytes) -> bool:
    """Return whether text seems to be UTF-16 without a mark."""
    even, odd = body[0:_LOOKED_AT:2], body[1:_LOOKED_AT:2]
    few, many = sorted([even.count(0), odd.count(0)])
    return len(body) > 3 and many > 0.4 * len(odd) and few <= 0.1 * many


def refuse_other_markup(text: str) -> None:
    """Refuse feeds, sitemaps and drawings.

    Args:
        text: The page.

    Raises:
        PageFailed: It is XML of another kind.
    """
    found = _XML_OF_OTHER_KIND.match(text[:_LOOKED_AT])
    if found:
        advice = "give it as SOURCE" if found.group(1).lower() in {"urlset", "sitemapindex"} else ""
        raise PageFailed(NOT_A_PAGE, f"XML with <{found.group(1)}> {advice}".strip())


def refuse_text_elsewhere(tree: Any, kept: int) -> None:
    """Say where the text of a page is that has hardly any.

    Args:
        tree: The parsed page.
        kept: Letters that were found.

    Raises:
        PageFailed: It is a page of frames, a redirect, or an application.
    """
    if kept > _FEW:
        return
    frames = [each.get("src") or "" for each in tree.iter("frame")]
    if frames or next(tree.iter("frameset"), None) is not None:
        raise PageFailed(FRAMES, f"its text lies in {_listed(frames)}")
    target = _refresh(tree)
    if target:
        raise PageFailed(REDIRECT, f"to {target}")
    why = _needs_scripts(tree, kept)
    if why:
        raise PageFailed(NEEDS_SCRIPTS, why)
    embedded = [each.get("src") or "" for each in tree.iter("iframe") if each.get("src")]
    if not kept and embedded:
        raise PageFailed(FRAMES, f"its text lies in {_listed(embedded)}")


def _listed(addresses: list[str]) -> str:
    return ", ".join(each for each in addresses[:5] if each) or "other pages"


def _refresh(tree: Any) -> str | None:
    for meta in tree.iter("meta"):
        if (meta.get("http-equiv") or "").strip().lower() == "refresh":
            found = _URL.search(meta.get("content") or "")
            if found:
                return found.group(1)
    return None


def _needs_scripts(tree: Any, kept: int) -> str | None:
    if next(tree.iter("script"), None) is None:
        return None
    for element in tree.iter("div", "main", "section", "app-root"):
        if names(element) & _ROOTS or element.tag == "app-root":
            text = text_of(element).strip()
            if not letters(text) or _WAITS.fullmatch(text):
                return f"its <{element.tag} id={element.get('id') or element.tag}> is empty"
    asks = any(_ASKS_FOR_SCRIPTS.search(text_of(each)) for each in tree.iter("noscript"))
    return "it asks for JavaScript" if asks and kept < _FEW // 2 else None
