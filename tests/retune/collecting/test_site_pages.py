"""Pages of many generators: headings, prose and listings are found, what surrounds them is not."""

from __future__ import annotations

import pytest

from retune.collecting.html.pages import read_html
from retune.collecting.records import Document
from tests.retune.collecting import site_pages

_WITHOUT_FIRST_HEADING = {"asciidoctor"}
"""Its title stands outside of the content, and asks as the page's title."""


def _read(body: str) -> Document:
    return read_html("p.html", f"<html><body>{body}</body></html>")


def _blocks(body: str) -> list[str]:
    return [block for section in _read(body).sections for block in section.blocks]


@pytest.mark.parametrize("name", site_pages.PAGES)
def test_headings_prose_and_listings_of_every_generator_are_found(name: str) -> None:
    """Lamps opens the page, Bulbs stands below it, the listing below Bulbs, nothing around it."""
    document = read_html("p.html", site_pages.PAGES[name])
    lamps = next(part for part in document.sections if site_pages.LAMP in part.text)
    bulbs = next(part for part in document.sections if site_pages.BULB in part.text)
    title = "Class Lamp" if name == "javadoc" else "Lamps"
    assert document.title == title
    assert lamps.path == (() if name in _WITHOUT_FIRST_HEADING else (title,))
    assert bulbs.path[: len(lamps.path)] == lamps.path
    assert bulbs.path[-1] in {"Bulbs", "1.1. Bulbs"}
    assert f"\n{site_pages.CODE}\n```" in bulbs.text
    for part in document.sections:
        assert "JUNK" not in part.text
        assert not any("JUNK" in heading for heading in part.path)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("sphinx classic", "Let a bulb cool down."),
        ("mkdocs material", "Let a bulb cool down."),
        ("docusaurus", "Let a bulb cool down."),
        ("docusaurus", "In Java a lamp is an object like any other one."),
        ("javadoc", "`watts` - how bright"),
        ("plain", f"{site_pages.BULB}\nFirst line.\nSecond line."),
        ("wordpress", "**And cheap.**"),
        ("man", "Be quiet."),
        ("tables", "| base | lamps |\n| --- | --- |\n| wide | old |"),
        ("gitbook", "Let a bulb cool down."),
        ("docbook", "Let a bulb cool down."),
        ("asciidoctor", "Let a bulb cool down."),
    ],
)
def test_what_stands_in_boxes_stays(name: str, block: str) -> None:
    """Notes, tabs that are not shown, terms, lines, tables of data."""
    document = read_html("p.html", site_pages.PAGES[name])
    assert block in [each for part in document.sections for each in part.blocks]


def test_functions_of_a_reference_are_sections() -> None:
    """A term opens one below the heading above it, two signatures one; then the module goes on."""
    document = read_html("p.html", site_pages.SPHINX_API)
    assert [(part.path, part.level) for part in document.sections] == [
        (("light",), 1),
        (("light", "class Lamp(watts)"), 2),
        (("light", "class Lamp(watts)", "on(), on(watts)"), 3),
        (("light",), 1),
    ]
    assert document.sections[3].text.startswith("After the class there is more")
    assert document.sections[2].blocks[1:] == (
        "Parameters",
        "**watts** – how bright it is meant to be",
    )


def test_a_list_of_terms_that_is_no_reference_stays_text() -> None:
    """A glossary's short lines would each be too short for a section."""
    text = "<h1>T</h1><dl><dt>Lamp</dt><dd>Shines.</dd><dt>Bulb</dt><dd>Shines too.</dd></dl>"
    assert _blocks(text) == ["Lamp", "Shines.", "Bulb", "Shines too."]


def test_a_question_in_details_asks_and_its_answer_ends_with_it() -> None:
    """A summary that only says to click asks nothing, and is text."""
    document = _read(
        "<h1>FAQ</h1><details><summary>How long does it last?</summary><p>Ten years.</p></details>"
        "<p>Ask us.</p><details><summary>Click to expand</summary><p>More.</p></details>"
    )
    assert [(part.path, part.blocks) for part in document.sections] == [
        (("FAQ",), ()),
        (("FAQ", "How long does it last?"), ("Ten years.",)),
        (("FAQ",), ("Ask us.", "Click to expand", "More.")),
    ]


@pytest.mark.parametrize(
    ("heading", "level"),
    [
        ("<h4>Bulbs</h4>", 4),
        ("<a name='b'><h3>Bulbs</h3></a>", 3),
        ("<h2><a href='#b'>Bulbs</a><a class='anchor' href='#b'>#</a></h2>", 2),
        ("<h2>Bulbs <a class='permalink' href='#b'>Permalink</a></h2>", 2),
        ("<h2>Bulbs<button>Copy link</button></h2>", 2),
        ("<h2><span>Bul</span><wbr>bs</h2>", 2),
        ("<h2>\n  Bulbs\n</h2>", 2),
        ("<div role='heading' aria-level='5'>Bulbs</div>", 5),
        ("<div role='heading'>Bulbs</div>", 2),
        ("<p class='title'>Bulbs</p>", 2),
        ("<p class='rubric'>Bulbs</p>", 2),
        ("<p class='MsoHeading3'>Bulbs</p>", 3),
        ("<p class='heading-4'>Bulbs</p>", 4),
        ("<section><div class='title'>Bulbs</div></section>", 2),
        ("<header><h2>Bulbs</h2></header>", 2),
        ("<table><tr><td><h2>Bulbs</h2></td></tr></table>", 2),
        ("<h2>Bulbs&shy;</h2>", 2),
        # VuePress 2 and others put the text itself into the anchor.
        ("<h2><a class='header-anchor' href='#b'><span>Bulbs</span></a></h2>", 2),
        ("<h2><a class='anchor-link' href='#b'>Bulbs</a><a class='headerlink'>¶</a></h2>", 2),
        ("<h2>Bulbs<span hidden>JUNK</span></h2>", 2),
    ],
)
def test_a_heading_is_found_however_it_is_written(heading: str, level: int) -> None:
    """Below an <h1>, each opens a section Bulbs of its level."""
    document = _read(f"<h1>Lamps</h1><p>One.</p>{heading}<p>Two.</p>")
    last = document.sections[-1]
    assert (last.path, last.level, last.blocks) == (("Lamps", "Bulbs"), level, ("Two.",))


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        # A section within a section, each with an <h1>: the second stands below the first.
        (
            "<section><h1>A</h1><p>1.<section><h1>B</h1><p>2.</section></section>",
            [("A",), ("A", "B")],
        ),
        # Two sections side by side, and one that only lays out.
        (
            "<section><h1>A</h1><p>1.</section><section><h1>B</h1><p>2.</section>",
            [("A",), ("B",)],
        ),
        (
            "<section><section><h1>A</h1><p>1.<h2>B</h2><p>2.</section></section>",
            [("A",), ("A", "B")],
        ),
        # No heading at all, and lines that are bold or large throughout.
        ("<center><b><font size=6>A</font></b></center><p>1.<p><b>B</b><p>2.", [("A",), ("B",)]),
        ("<h1>A</h1><p>1.<p><font size='+1'>B</font><p>2.<p><b>C</b><p>3.", None),
        # One such line is loud and no structure; nor is a sentence; nor are they beside headings.
        ("<p>1.<p><b>B</b><p>2.", [()]),
        ("<p>1.<p><b>Do not!</b><p>2.<p><b>Never.</b><p>3.", [()]),
        ("<h1>A</h1><h2>B</h2><p>1.<p><b>C</b><p>2.<p><b>D</b><p>3.", [("A",), ("A", "B")]),
        # Texinfo, Rust's and Doxygen's references.
        (
            "<h2>A</h2><p>1.<dl><dt class='deftypefn'>int f()</dt><dd>2.</dd></dl>",
            [("A",), ("A", "int f()")],
        ),
        (
            "<h1>A</h1><p>1.<details open><summary><section><a class='src rightside'>Source</a>"
            "<h4>fn f()</h4></section></summary><p>2.</details>",
            [("A",), ("A", "fn f()")],
        ),
        ("<div class='headertitle'><div class='title'>A</div></div><p>1.", [("A",)]),
    ],
)
def test_sections_stand_below_each_other_as_the_page_means_it(
    body: str, paths: list[tuple[str, ...]] | None
) -> None:
    """By nesting, by look where there is nothing else, by the manner of each reference."""
    found = [part.path for part in _read(body).sections]
    assert found == (paths or [("A",), ("A", "B"), ("A", "C")])


def test_a_blog_names_its_posts_and_itself() -> None:
    """The only <h1> of the page is the blog's; the post's title stands above its text."""
    text = (
        "<div id='x'><h1>My blog</h1></div><div><h3 class='post-title entry-title'>Lamps</h3>"
        f"<div class='entry-content'><p>{site_pages.LAMP}</p></div></div>"
    )
    assert _read(text).title == "Lamps"


def test_a_signature_in_a_table_is_one_line() -> None:
    """Doxygen sets its words apart with cells."""
    table = "<table><tr><td>void on</td><td>(</td><td>int</td><td>)</td></tr></table>"
    assert _blocks(f"<h1>T</h1>{table}<p>Words.</p>") == ["void on ( int )", "Words."]


@pytest.mark.parametrize(
    "text",
    [
        "<div class='card'><div class='title'>Bulbs</div></div>",
        "<div class='admonition'><p class='title'>Bulbs</p></div>",
        "<div class='note'><h3 class='title'>Bulbs</h3></div>",
        "<blockquote><h3>Bulbs</h3></blockquote>",
        f"<p class='title'>{'Bulbs ' * 60}</p>",
    ],
)
def test_titles_of_boxes_and_long_lines_open_no_section(text: str) -> None:
    """They stay text of the section that they stand in."""
    document = _read(f"<h1>Lamps</h1><p>One.</p>{text}<p>Two.</p>")
    (section,) = document.sections
    assert section.blocks[-1] == "Two."
    assert "Bulbs" in section.text


@pytest.mark.parametrize(
    ("html", "block"),
    [
        ("10<sup>3</sup> and x<sup>n</sup>", "10^3 and x^n"),  # 103 would be another number
        ("the 1<sup>st</sup>, n<sup>o</sup> 2", "the 1st, no 2"),
        ("H<sub>2</sub>O", "H2O"),
        ("see<sup class='reference'><a href='#1'>[1]</a></sup> it", "see it"),
        ("a<b> bold </b>b", "a **bold** b"),
        ("<b><code>x</code></b> <strong><b>y</b></strong>", "**`x`** **y**"),
        ("<tt>x</tt> <code>a`b</code> <kbd>Ctrl</kbd>", "`x` ``a`b`` Ctrl"),
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("soft&shy;ened \ufeffword", "softened word"),
        ("a <!-- JUNK --> b", "a b"),
        ("5 &lt; 6 &amp; 7", "5 < 6 & 7"),
    ],
)
def test_inline_elements_keep_what_they_mean(html: str, block: str) -> None:
    """Raised numbers stay raised, marks stand close to words, breaks break."""
    assert _blocks(f"<h1>T</h1><p>{html}</p>") == [block]


def test_lists_are_numbered_as_the_page_does() -> None:
    """From `start` on; a nested list counts for itself; an item's second paragraph has no mark."""
    text = "<h1>T</h1><ol start=3><li>c<ol><li>x</ol><p>more<li>d</ol><ul><li>e</ul>"
    assert _blocks(text) == ["3. c", "1. x", "more", "4. d", "- e"]


def test_columns_of_a_table_stay_columns() -> None:
    """A cell over two columns or rows leaves the others empty, so nothing moves to the left."""
    text = """<h1>T</h1><table><caption>Caption</caption><tr><th>a<th>b<th>c
    <tr><td rowspan=2>1<td colspan=2>2<tr><td>3<td>4</table>"""
    assert _blocks(text) == [
        "Caption",
        "| a | b | c |\n| --- | --- | --- |\n| 1 | 2 |  |\n|  | 3 | 4 |",
    ]


@pytest.mark.parametrize(
    "listing",
    [
        "<pre><ol><li>a  = 1</li><li>b</li></ol></pre>",
        "<pre><div>a  = 1</div><div>b</div></pre>",
        "<pre><span class='lineno'>1 </span>a  = 1\n<span class='lineno'>2 </span>b</pre>",
        "<pre>a  = 1<br>b</pre>",
        "<pre class='line-numbers'>a  = 1\nb<span class='line-numbers-rows'>1 2</span></pre>",
        "<pre>a  = 1\nb<button class='copybtn'>Copy</button></pre>",
        "<xmp>a  = 1\nb</xmp>",
        "<code style='white-space: pre'>a  = 1\nb</code>",
        "<table class='rouge-table'><tr><td class='gutter gl'><pre>1\n2</pre>"
        "<td><pre>a  = 1\nb</pre></table>",
        "<pre>\r\na  = 1\r\nb\r\n</pre>",
        "<div class='fragment'><div class='line'><span class='lineno'>1</span>a  = 1</div>"
        "<div class='line'><span class='lineno'>2</span>b</div></div>",
        "<table class='source_code'><tr><td><pre class='lines'>\n\n10\n11</pre>"
        "<td><pre>a  = 1\nb</pre></table>",
        "<div class='jp-InputPrompt'>In [1]:</div><pre>a  = 1\nb</pre>",
        "<div class='language-js'><span class='lang'>js</span><pre>a  = 1\nb</pre>"
        "<div class='line-numbers-wrapper'><span class='line-number'>1</span><br>2</div></div>",
    ],
)
def test_listings_are_verbatim_however_their_lines_are_made(listing: str) -> None:
    """Two lines, two blanks, no numbers and no buttons."""
    words, code, end = _blocks(f"<h1>T</h1><p>Words.</p>{listing}<p>End.</p>")
    assert (words, end) == ("Words.", "End.")
    assert code.replace("js", "") == "```\na  = 1\nb\n```"


@pytest.mark.parametrize(
    "around",
    [
        "<form id='aspnetForm'>{}</form>",
        "<div class='sidebar'>{}</div>",
        "<div style='display:none'>{}</div>",
        "<div aria-hidden='true'>{}</div>",
        "<div class='modal'>{}</div>",
        "<div class='contents'>{}</div>",
        "<body hidden>{}",
        "<font>" * 400 + "{}",
        "<table role='presentation'><tr><td>{}</td></tr></table>",
    ],
)
def test_what_holds_most_of_a_page_is_its_text_whatever_it_is_called(around: str) -> None:
    """Pages wrap all they have in a form, hide it until a script runs, or never close a tag."""
    text = f"<h1>Lamps</h1><p>{site_pages.LAMP}</p><h2>Bulbs</h2><p>{site_pages.BULB}</p>"
    document = _read(around.format(text))
    assert [part.path for part in document.sections] == [("Lamps",), ("Lamps", "Bulbs")]


@pytest.mark.parametrize(
    "junk",
    [
        "<div class='breadcrumbs_x8-a'>JUNK</div>",
        "<ul><li><a href=a>JUNK</a><li><a href=b>JUNK</a><li><a href=c>JUNK</a></ul>",
        "<div><a href=a>JUNK</a> | <a href=b>JUNK</a> | <a href=c>JUNK</a></div>",
        "<div id='gdpr-cookie-notice'>JUNK</div>",
        "<div role='dialog'>JUNK</div>",
        "<template><p>JUNK</p></template>",
        "<svg><text>JUNK</text></svg>",
        "<select><option>JUNK</select>",
        "<span class='visually-hidden'>JUNK</span>",
        "<iframe>JUNK</iframe>",
        "<p>© 2026 JUNK</p>",
        "<footer>JUNK</footer>",
        "<header>JUNK</header>",
        "<script type='text/template'>JUNK</script>",
    ],
)
def test_what_surrounds_the_text_is_left_out(junk: str) -> None:
    """On a page without any mark of where its text stands."""
    document = _read(f"<h1>T</h1><p>{site_pages.LAMP}</p>{junk}<p>{site_pages.BULB}</p>")
    assert document.sections[0].blocks == (site_pages.LAMP, site_pages.BULB)
    # All that is left out is counted: four letters of each JUNK, and what stands beside it.
    assert sum(document.left_out.values()) >= 4


def test_a_page_of_two_main_parts_keeps_both() -> None:
    """HTML allows one, and pages have more."""
    document = _read("<main><h1>A</h1><p>One.</p></main><main><h2>B</h2><p>Two.</p></main>")
    assert [part.path for part in document.sections] == [("A",), ("A", "B")]
