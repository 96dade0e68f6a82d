"""Thousands of damaged pages: none ends a run, none gains or loses a letter without a reason."""

from __future__ import annotations

import html
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from retune.collecting.extracting import extract_documents
from retune.collecting.failures import PageFailed
from retune.collecting.fetching.fetcher import FetchResult
from retune.collecting.html.pages import read_html
from retune.collecting.html.parsing import parse_page
from retune.collecting.markdown.pages import read_markdown
from retune.collecting.page_text import clean, letters
from retune.collecting.records import CollectSettings, Document
from retune.collecting.rows import make_rows
from tests.retune.collecting import site_pages

_CONTROLS = dict.fromkeys([*range(9), 11, 12, *range(14, 32), 127, 0xFEFF])

_MARKDOWN = f"""---
title: Lamps
---
import Tabs from '@theme/Tabs';

# Lamps {{#lamps}}

{site_pages.LAMP} Press <kbd>Ctrl</kbd>.

<details>
<summary>How long does it last?</summary>

Ten years.

</details>

!!! note "Careful"
    It is **hot**.

<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>

## Bulbs

{site_pages.BULB}

```python
{site_pages.CODE}
```

- one
- two <b>three</b>

:::tip Title

Words.

:::
"""
_HTML_PIECES = (
    *("<div>", "<table><tr>", "<ul><li>", "<details>", "<dl class='py'><dt>", "<b>", "<main>"),
    *("<h4>", "<p class=title>", "<td>", "<br>", "<pre>", "</main>", "<article>", "<title>"),
    *("<textarea>", "<script>", "<select>", "<frameset>", "<noscript>", "<svg>", "<blockquote>"),
    *("&amp;", "&nope;", "&#0;", "&#xD800;", "&#9999999999;", "<!--", "-->", "<![CDATA[", "]]>"),
    *("<?x", "\x00", "\ufeff", "</p>", "<h2 hidden>", "<a href='#x'>", "<x:y>", "</body>"),
)
_MARKDOWN_PIECES = (
    *("```", "~~~", "\n\n", "\n", "# ", "> ", "- ", "    ", "<div>", "</div>", "<!--", "-->", "`"),
    *("!!! note\n", ":::", "<Tabs>", "</Tabs>", "| a | b |\n|---|---|\n", "===", "---\n", "[x](y)"),
    *("<details>", "<pre>", "<script>", "<title>", "\x00", ".. note::\n", "{% raw %}", "&lt;"),
)
_ATTRIBUTES = (
    *(" hidden", " style='display:none'", " class='sidebar'", " role=main", " class='title'"),
    *(" aria-hidden=true", " colspan=99999 rowspan=77", " id=toc", " start=-4", " aria-level=x"),
)


def _damage(text: str, chance: random.Random, pieces: tuple[str, ...]) -> str:
    """Do one thing to a page that happens to pages."""
    start = chance.randrange(len(text) + 1)
    end = min(len(text), start + chance.randint(1, 300))
    match chance.randrange(7):
        case 0:  # a closing tag is missing
            tags = list(re.finditer(r"</[a-z0-9]+>", text))
            start, end = chance.choice(tags).span() if tags else (start, start)
            return text[:start] + text[end:]
        case 1:  # letters of any kind
            noise = "".join(chr(chance.randrange(1, 0x250)) for _ in range(chance.randint(1, 9)))
            return text[:start] + noise + text[start:]
        case 2:  # markup where it does not belong, now and then without end
            piece = chance.choice(pieces) * (300 if chance.random() < 0.03 else 1)
            return text[:start] + piece + text[start:]
        case 3:  # a part is missing
            return text[:start] + text[end:]
        case 4:  # a part comes twice
            return text[:end] + text[start:end] + text[end:]
        case 5:  # an attribute
            tags = list(re.finditer(r"<[a-z0-9]+", text))
            place = chance.choice(tags).end() if tags else start
            return text[:place] + chance.choice(_ATTRIBUTES) + text[place:]
        case _:  # an entity of a letter
            return text[:start] + f"&#{chance.randrange(0x3000)};" + text[start:]


def _generated(seed: int, pages: list[str], pieces: tuple[str, ...]) -> str:
    chance = random.Random(seed)
    text = chance.choice(pages)
    for _ in range(chance.randint(1, 6)):
        text = _damage(text, chance, pieces)
    return text


def _read(read: Callable[[str, str], Document], text: str) -> tuple[Document | None, int]:
    """The document, if there is one, and the sum of what is kept and what is left out."""
    try:
        document = read("p", text)
    except PageFailed as failure:
        return None, sum(failure.left_out.values())
    kept = sum(part.letters for part in document.sections)
    return document, kept + sum(document.left_out.values())


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", text))


def _joined(text: str) -> str:
    """All that a reader sees, without white space, since tags may part a word."""
    return "".join(clean(text).split())


def _stands_in(word: str, said: str) -> bool:
    """As a whole, or in two parts with a comment or a broken tag between them."""
    parts = ((word[:cut], word[cut:]) for cut in range(len(word)))
    return any(before in said and after in said for before, after in parts)


def _check_blocks(document: Document, said: str, shown: str, seed: int) -> None:
    """No word is made up, and lines of listings stand in the page as they are."""
    for block in (block for part in document.sections for block in part.blocks):
        fence = re.match(r"(`{3,}).*\n", block)
        if fence and block.endswith(f"\n{fence.group(1)}"):
            for line in block[fence.end() : -len(fence.group(1)) - 1].split("\n"):
                assert line in shown, (seed, line)
        else:
            for word in _words(block):
                assert _stands_in(word, said), (seed, word)


HTML_PAGES = [*site_pages.PAGES.values(), site_pages.SPHINX_API]


def _check_html(seeds: range) -> int:
    """Return how many of the pages gave a document."""
    read = 0
    for seed in seeds:
        text = _generated(seed, HTML_PAGES, _HTML_PIECES)
        document, counted = _read(read_html, text)
        try:
            page = parse_page(text)
        except PageFailed:
            assert (document, counted) == (None, 0), seed
            continue
        whole = "".join(page.tree.itertext())
        assert counted == letters(whole) + page.unread, seed
        if document is not None:
            read += 1
            shown = whole.replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROLS)
            _check_blocks(document, _joined(whole), shown, seed)
    return read


def _check_markdown(seeds: range) -> int:
    """Return how many of the pages gave a document."""
    read = 0
    for seed in seeds:
        text = _generated(seed, [_MARKDOWN], _MARKDOWN_PIECES).translate(_CONTROLS)
        document, counted = _read(read_markdown, text)
        assert counted == letters(text), seed
        if document is not None:
            read += 1
            # As written, and as raw HTML shows it.
            shown = [text, html.unescape(text), html.unescape(re.sub(r"<[^<>]*>", "", text))]
            _check_blocks(document, _joined("".join(shown)), "\n".join(shown), seed)
    return read


def test_damaged_pages_keep_every_letter_or_say_why_not() -> None:
    """A hundred of each kind; kept and left out add up to the page, most pages still are one."""
    assert _check_html(range(100)) > 80
    assert _check_markdown(range(100)) > 90


@pytest.mark.slow
def test_thousands_of_damaged_pages_keep_every_letter_or_say_why_not() -> None:
    """Two thousand HTML pages and a thousand of Markdown."""
    assert _check_html(range(100, 2100)) > 1600
    assert _check_markdown(range(100, 1100)) > 900


def _bytes(seed: int, markdown: bool) -> bytes:
    chance = random.Random(seed)
    text = _generated(seed, [_MARKDOWN] if markdown else HTML_PAGES, _HTML_PIECES)
    charset = chance.choice(["utf-8", "cp1252", "utf-16", "utf-16-le", "cp932", "utf-7", "utf-32"])
    body = bytearray(text.encode(charset, "replace"))
    for _ in range(chance.randrange(12)):
        body[chance.randrange(len(body))] = chance.randrange(256)
    stated = chance.choice(
        ["", "<meta charset=utf-8>", "<meta charset=koi8-r>", "<meta charset=x>"]
    )
    return stated.encode() + bytes(body)


def test_damaged_files_end_no_run(tmp_path: Path) -> None:
    """Wrong charsets and wrong bytes: each file has an outcome, and no parser's error is one."""
    files = []
    for seed in range(120):
        path = tmp_path / f"{seed}.{'md' if seed % 3 == 0 else 'html'}"
        path.write_bytes(_bytes(seed, markdown=seed % 3 == 0))
        files.append(FetchResult(url=str(path)))
    settings = CollectSettings()
    made = make_rows(extract_documents(files, settings, lambda done, total: None), [], settings)
    assert len(made.outcomes) == 120
    assert not [each for each in made.outcomes if each.reason == "extractor failed"]
    for row in made.rows:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
        assert not any(ord(letter) in _CONTROLS for letter in row["answer"])
