"""Pages to documents: what survives, what stays out, and which pages give nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from lxml import html

from retune.collecting.decoding import decode_page
from retune.collecting.extracting import extract_documents
from retune.collecting.failures import PageFailed
from retune.collecting.fetching.fetcher import FetchResult
from retune.collecting.html.pages import read_html
from retune.collecting.markdown.pages import read_markdown
from retune.collecting.records import CollectSettings
from retune.collecting.rows import Rows, make_rows
from tests.retune.collecting.site_pages import BULB, CODE, LAMP, SPHINX_CLASSIC

NAVIGATION = (
    *("Table of Contents", "Previous topic", "Next topic", "This Page", "Report a Bug"),
    *("Show Source", "modules |", "Quick search", "Theme", "Copyright", "¶", "Navigation"),
    *("General Index", "Last updated", "RETUNELISTING", "Footnotes"),
)
PORTUGUESE = """<!DOCTYPE html><html lang="pt-BR"><head><title>Coração — Blog</title></head><body>
<nav><a href="/">Início</a> <a href="/sobre">Sobre nós</a></nav>
<article><h1>Coração e pulmões</h1>
<p>À noite, o guarda-chuva “azul” (o de João) não está lá: é a exceção, não a regra — pois é…</p>
<h2>Programação</h2>
<p>Função <code>média</code> com vírgula: R$&nbsp;3,50; <em>não</em> é <b>ótimo</b>?</p>
<pre><code class="language-python">def média(x):
    return  sum(x) / len(x)   # ção

>>> média([1, 2])
</code></pre>
<ul><li>Primeiro item:
<pre>  recuo
	tabulação &lt;b&gt; *x* `y`</pre>
e o resto.</li></ul>
</article><footer>© 2026 Todos os direitos reservados</footer></body></html>"""


def _pairs(paths: list[str]) -> Rows:
    settings = CollectSettings()
    pages = [FetchResult(url=path) for path in paths]
    found = extract_documents(pages, settings, lambda done, total: None)
    return make_rows(found, [], settings)


@pytest.fixture(scope="module")
def tutorial_pairs(tutorial: Path) -> Rows:
    """The pairs of the five pages."""
    return _pairs([str(path) for path in sorted(tutorial.glob("*.html"))])


@pytest.mark.parametrize(
    ("name", "blocks", "at_least"),
    [
        ("introduction", 42, 40),
        ("classes", 30, 29),
        ("controlflow", 56, 54),
        ("datastructures", 35, 34),
        ("modules", 28, 27),
    ],
)
def test_code_blocks_survive_verbatim(
    tutorial: Path, tutorial_pairs: Rows, name: str, blocks: int, at_least: int
) -> None:
    """Each <pre> of the page, as a browser shows it, stands in an answer; all do today."""
    path = tutorial / f"{name}.html"
    listings = [
        str(pre.text_content()).strip("\n") for pre in html.parse(path).getroot().iter("pre")
    ]
    answers = [row["answer"] for row in tutorial_pairs.rows if row["source"] == str(path)]
    assert len(listings) == blocks
    survived = sum(any(f"\n{each}\n" in answer for answer in answers) for each in listings)
    assert survived >= at_least


def test_no_navigation_text_stands_in_any_pair(tutorial_pairs: Rows) -> None:
    """Neither in a question nor in an answer; "index" alone is a word of the text."""
    assert len(tutorial_pairs.rows) > 60
    for row in tutorial_pairs.rows:
        for text in NAVIGATION:
            assert text not in row["answer"], (row["id"], text)
            assert text not in row["question"], (row["id"], text)
        assert not row["answer"].startswith(("index", "modules"))


def test_the_prose_of_the_tutorial_is_complete(tutorial: Path, tutorial_pairs: Rows) -> None:
    """Of the words of introduction.html's reST source, 97 of 100 stand in the pairs.

    The rest is markup: names of directives and of link targets.
    """
    source = (tutorial.parent / "sources" / "introduction.rst.txt").read_text("utf-8")
    source, _, _ = source.partition(".. rubric:: Footnotes")  # left out on purpose
    path = str(tutorial / "introduction.html")
    rows = [row for row in tutorial_pairs.rows if row["source"] == path]
    text = "\n".join(f"{row['answer']} {row['heading']}" for row in rows)
    # Long words only: markup of reST is made of short ones and of signs.
    wanted, found = (
        Counter(word for word in each.split() if word.isalpha() and len(word) > 3)
        for each in (source, text)
    )
    assert (wanted & found).total() / wanted.total() > 0.97


def test_a_pair_asks_with_title_and_headings(tutorial_pairs: Rows) -> None:
    """Numbers of chapters go from the question and stay in the heading."""
    row = next(row for row in tutorial_pairs.rows if row["heading"].endswith("3.1.1. Numbers"))
    assert row["question"] == (
        "An Informal Introduction to Python: Using Python as a Calculator: Numbers"
    )
    assert row["title"] == "3. An Informal Introduction to Python"
    assert row["answer"].startswith("The interpreter acts as a simple calculator: you can type")


def test_a_page_of_the_same_generator_gives_its_headings_prose_and_listing(tmp_path: Path) -> None:
    """As the tutorial's pages do: no navigation, and no number of a chapter in a question."""
    path = tmp_path / "lamps.html"
    path.write_text(SPHINX_CLASSIC, "utf-8")
    rows = _pairs([str(path)]).rows
    assert [(row["heading"], row["question"]) for row in rows][-1] == (
        "Lamps > 1.1. Bulbs",
        "Lamps: Bulbs",
    )
    assert any(f"\n{CODE}\n" in row["answer"] for row in rows)
    assert all(any(text in row["answer"] for row in rows) for text in (LAMP, BULB))
    assert not any(text in str(row) for row in rows for text in ("JUNK", "¶", "Navigation"))


def test_portuguese_survives_byte_for_byte() -> None:
    """Accents, quotes, hyphens, dashes, parentheses, a no-break space; nothing escaped."""
    document = read_html("p.html", PORTUGUESE)
    first, second = document.sections
    assert (document.title, document.language) == ("Coração e pulmões", "pt-BR")
    assert first.text == (
        "À noite, o guarda-chuva “azul” (o de João) não está lá: é a exceção, não a regra — pois é…"
    )
    assert second.path == ("Coração e pulmões", "Programação")
    assert second.blocks[0] == ("Função `média` com vírgula: R$\u00a03,50; *não* é **ótimo**?")


def test_listings_keep_every_space_also_in_list_items() -> None:
    """Indents, doubled spaces, tabs, prompts, signs of Markdown; the language comes along."""
    _, section = read_html("p.html", PORTUGUESE).sections
    assert section.blocks[1:] == (
        "```python\ndef média(x):\n    return  sum(x) / len(x)   # ção\n\n>>> média([1, 2])\n```",
        "- Primeiro item:",
        "```\n  recuo\n\ttabulação <b> *x* `y`\n```",
        "e o resto.",
    )


def test_a_listing_with_backticks_gets_a_longer_fence() -> None:
    """Three backticks inside, four around."""
    text = "<main><h1>T</h1><p>Some words of text.</p><pre>a\n```\nb</pre></main>"
    (section,) = read_html("p.html", text).sections
    assert section.blocks[-1] == "````\na\n```\nb\n````"


def test_line_numbers_and_copy_buttons_are_no_code() -> None:
    """The usual layout: a table with numbers on the left and the listing on the right."""
    text = """<main><h1>T</h1><p>Some words of text.</p><table class="highlighttable"><tr>
    <td class="linenos"><pre>1\n2</pre></td>
    <td class="code"><pre><button>Copy</button>x = 1\ny = 2</pre></td></tr></table></main>"""
    (section,) = read_html("p.html", text).sections
    assert section.blocks[1:] == ("```\nx = 1\ny = 2\n```",)


def test_a_table_stays_a_table() -> None:
    """A bar inside a cell is escaped, as Markdown wants."""
    text = """<main><h1>T</h1><p>Some words of text.</p><table><tr><th>sign</th><th>means</th></tr>
    <tr><td>a | b</td><td>or</td></tr></table></main>"""
    (section,) = read_html("p.html", text).sections
    assert section.blocks[-1] == "| sign | means |\n| --- | --- |\n| a \\| b | or |"


_LINKS = "".join(f'<li><a href="/{n}">Article number {n}</a></li>' for n in range(40))
_LICENCE = """Permission is hereby granted, free of charge, to any person. The above copyright
notice shall be included in all copies. The software is provided without warranty of any kind,
including merchantability. In no event shall the authors be liable for any claim."""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"<main><h1>Index</h1><p>All of it.</p><ul>{_LINKS}</ul></main>", "navigation page"),
        (f"<main><h1>MIT License</h1><p>{_LICENCE}</p></main>", "licence page"),
        ("<html><body><nav><a href='/'>Home</a></nav></body></html>", "no main content"),
        ("<html></html>", "no main content"),
        ("", "no main content"),
    ],
)
def test_pages_that_only_lead_elsewhere_give_nothing(text: str, reason: str) -> None:
    """Each with a reason that can be counted."""
    with pytest.raises(PageFailed) as caught:
        read_html("https://a.example/x", text)
    assert caught.value.reason == reason


def test_an_article_about_licences_is_an_article() -> None:
    """Its name says licence, its words do not."""
    text = "<main><h1>Which license to choose</h1><p>Ask your friends, then choose one.</p></main>"
    assert read_html("https://a.example/license", text).characters > 0


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        ("ação".encode(), "iso-8859-1", "ação"),  # a server that states it for everything
        ("ação".encode("cp1252"), "iso-8859-1", "ação"),
        ("“a”".encode("cp1252"), "iso-8859-1", "“a”"),  # as browsers read it
        (b'<meta charset="cp1251">' + "да".encode("cp1251"), None, '<meta charset="cp1251">да'),
        ("ação".encode("utf-16"), None, "ação"),
        (b"\xef\xbb\xbfa\x00b\x0cc\td", None, "abc\td"),
        (b"\xe7", "no-such-charset", "ç"),
    ],
)
def test_bytes_become_the_text_that_was_meant(body: bytes, charset: str | None, text: str) -> None:
    """UTF-8 where it is valid, else what is stated, else Windows-1252; no control characters."""
    assert decode_page(body, charset) == text


def test_a_lone_surrogate_as_entity_breaks_nothing() -> None:
    """It is no character, so it may be replaced; the rest stays, and can be encoded."""
    document = read_html("p", "<main><h1>T</h1><p>Some words &#xD800; of text.</p></main>")
    assert document.sections[0].text.encode().startswith(b"Some words")


def test_markdown_stays_as_it_was_written() -> None:
    """Front matter gives the title; a `#` in a fence is no heading; lists keep their marks."""
    text = (
        '---\ntitle: "Olá"\nlang: pt\n---\n# Um\n\nTexto *com* marcas.\n\n'
        "```sh\n# comentário\n```\n\nDois\n----\n\n* a\n  * b\n"
    )
    document = read_markdown("docs/x.md", text)
    assert (document.title, document.language) == ("Olá", "pt")
    assert [(part.path, part.blocks) for part in document.sections] == [
        (("Um",), ("Texto *com* marcas.", "```sh\n# comentário\n```")),
        (("Um", "Dois"), ("* a\n  * b",)),
    ]


@pytest.mark.parametrize("text", ["", "# Heading", "#", "---\ntitle: x\n---\n"])
def test_markdown_without_a_paragraph_gives_nothing(text: str) -> None:
    """Empty, a heading alone, a heading without text, front matter alone."""
    with pytest.raises(PageFailed, match="no main content"):
        read_markdown("x.md", text)


@pytest.mark.parametrize("tag", ["div", "ul><li", "blockquote", "em", "table><tr><td"])
def test_a_page_nested_without_end_does_not_end_the_run(tag: str) -> None:
    """Three thousand levels: what can be read is read, and nothing overflows."""
    text = f"<main><h1>T</h1><p>Some words of text stand here.</p>{f'<{tag}>x' * 3000}</main>"
    assert "Some words" in read_html("p", text).sections[0].text


def test_markdown_that_is_a_list_of_links_gives_nothing() -> None:
    """As an index page in HTML."""
    text = "# Awesome\n\n" + "\n".join(f"- [Article number {n}](/{n})" for n in range(9))
    with pytest.raises(PageFailed, match="navigation page"):
        read_markdown("x.md", text)


def test_files_that_cannot_be_read_are_outcomes(tmp_path: Path) -> None:
    """One is missing, one too large, one fine: each has its outcome, in one run."""
    (tmp_path / "large.html").write_text("x" * 5_000_001)
    (tmp_path / "fine.html").write_text(PORTUGUESE, "utf-8")
    made = _pairs([f"{tmp_path}/{name}.html" for name in ("missing", "large", "fine")])
    assert [(each.status, each.reason) for each in made.outcomes] == [
        ("failed", "file cannot be read"),
        ("failed", "page too large"),
        ("kept", "pairs"),
    ]
