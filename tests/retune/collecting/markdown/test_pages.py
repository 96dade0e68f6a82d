"""Raw HTML in Markdown is content, and what generators write beyond Markdown is none."""

from __future__ import annotations

import pytest

from retune.collecting.markdown.pages import read_markdown


def _blocks(text: str) -> list[str]:
    return [block for part in read_markdown("x.md", text).sections for block in part.blocks]


@pytest.mark.parametrize(
    ("html", "blocks"),
    [
        ("<dl>\n<dt>Bulb</dt>\n<dd>What shines.</dd>\n</dl>", ["Bulb", "What shines."]),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", ["| a | b |\n| --- | --- |\n| 1 | 2 |"]),
        ("<div align=center>\n\nSome *words*.\n\n</div>", ["Some *words*."]),
        ("<div>Some <b>words</b>.</div>", ["Some **words**."]),
        ("<pre>\n  keep  this\n</pre>", ["```\n  keep  this\n```"]),
        ("<p align=center>\n<img src=x>\nWords.\n</p>", ["Words."]),
        ("<ul>\n<li>a</li>\n<li>b</li>\n</ul>", ["- a", "- b"]),
        ("<blockquote>Words.</blockquote>", ["> Words."]),
        ("<!-- JUNK -->\n\nWords.", ["Words."]),
        ("<!--\nJUNK\n\nJUNK\n-->\nWords.", ["Words."]),
        ("<div hidden>\n\nJUNK\n\n</div>\n\nWords.", ["Words."]),
        ("<style>JUNK</style>\n<script>JUNK</script>\n\nWords.", ["Words."]),
        ("<title>JUNK\n\nWords.", ["Words."]),
        ("Press <kbd>Ctrl</kbd>+<kbd>C</kbd>.", ["Press Ctrl+C."]),
        ("One<br>two<br/>three.", ["One\ntwo\nthree."]),
        ("A<!-- JUNK --> word.", ["A word."]),
        ("A `<b>` and `<!-- x -->` <b>bold</b>.", ["A `<b>` and `<!-- x -->` bold."]),
        ("A Vec<T> of x<sup>2</sup>.", ["A Vec<T> of x<sup>2</sup>."]),
        ("| a | b |\n|---|---|\n| x<br>y | <i>z</i> |", ["| a | b |\n|---|---|\n| x y | z |"]),
        (
            "- an <em>item</em>\n\n  ```\n  <em>x</em>\n  ```",
            ["- an item\n\n  ```\n  <em>x</em>\n  ```"],
        ),
        ('<a name="x"></a>\n\nWords.', ["Words."]),
    ],
)
def test_raw_html_is_read_as_html(html: str, blocks: list[str]) -> None:
    """Its words stay, its tags go; code and names in angle brackets are no HTML."""
    assert _blocks(f"# T\n\n{html}\n\nEnd.\n") == [*blocks, "End."]


def test_headings_may_stand_in_raw_html() -> None:
    """As <h2>, in details, inside of a <div>, with a name of their own."""
    text = (
        '<h1 align="center">Lamps</h1>\n\nOne.\n\n<div>\n\n## Bulbs <a name="b"></a> {#bulbs}\n\n'
        "Two.\n\n</div>\n\n<details>\n<summary>How long?</summary>\n\nThree.\n\n</details>\n\n"
        "Four.\n"
    )
    document = read_markdown("x.md", text)
    assert document.title == "Lamps"
    assert [(part.path, part.blocks) for part in document.sections] == [
        (("Lamps",), ("One.",)),
        (("Lamps", "Bulbs"), ("Two.",)),
        (("Lamps", "Bulbs", "How long?"), ("Three.",)),
        (("Lamps", "Bulbs"), ("Four.",)),
    ]


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ('!!! note "Careful"\n    It is **hot**.\n\n    ```py\n    x = 1\n    ```', None),
        ('??? note "Careful"\n\n    It is **hot**.\n\n    ```py\n    x = 1\n    ```', None),
        ('=== "Careful"\n\n    It is **hot**.\n\n    ```py\n    x = 1\n    ```', None),
        (":::tip Careful\n\nIt is **hot**.\n\n```py\nx = 1\n```\n:::", None),
        (":::note[Careful]\nIt is **hot**.\n\n```py\nx = 1\n```\n\n:::", None),
        ("```{warning} Careful\nIt is **hot**.\n\n~~~py\nx = 1\n~~~\n```", "tildes"),
        (".. note:: Careful\n\n   It is **hot**.\n\n   .. code-block:: py\n\n      x = 1", None),
        ("<Note>\n\nCareful\n\nIt is **hot**.\n\n    ```py\n    x = 1\n    ```\n\n</Note>", None),
    ],
)
def test_boxes_of_every_generator_give_their_title_and_their_words(
    text: str, blocks: str | None
) -> None:
    """MkDocs, Docusaurus, MyST, reStructuredText, MDX: the same three blocks."""
    listing = "~~~py\nx = 1\n~~~" if blocks == "tildes" else "```py\nx = 1\n```"
    assert _blocks(f"# T\n\n{text}\n\nEnd.") == ["Careful", "It is **hot**.", listing, "End."]


@pytest.mark.parametrize(
    "line",
    [
        "import Tabs from '@theme/Tabs';",
        "import { A, B } from 'x'",
        "export const x = {\n  a: 1,\n};",
        "<Tabs groupId='os'>",
        "<Card\n  title='JUNK'\n  href='/x'\n/>",
        "{/* JUNK */}",
        "{% include JUNK.html %}",
        "{{< JUNK >}}",
        "{: .no_toc }",
        "[TOC]",
        ".. _label:",
        ".. toctree::\n   :maxdepth: 2\n\n   JUNK\n   junk/JUNK",
        ".. image:: JUNK.png\n   :alt: JUNK",
        "```{toctree}\nJUNK\n```",
        "***",
        "[JUNK]: https://a.example/x",
    ],
)
def test_lines_that_speak_to_the_generator_give_nothing(line: str) -> None:
    """The words around them stay, and their letters are counted."""
    document = read_markdown("x.md", f"# T\n\nOne.\n\n{line}\n\nTwo.")
    assert [block for part in document.sections for block in part.blocks] == ["One.", "Two."]
    assert document.left_out["markup"] >= len("".join(line.split()))


@pytest.mark.parametrize(
    "listing",
    [
        "```js\nimport a from 'x'\n!!! note\n<Tabs>\n:::tip\n```",
        "~~~\n{% raw %}\n.. note::\n~~~",
        "    <Tabs>\n    {% raw %}\n    [TOC]",
        "1. a\n\n    ```\n    {% raw %}\n    <Tabs>\n    ```",
        "```{r}\nx <- 1\n```",
        "> ```\n> <b>x</b>\n> ```",
    ],
)
def test_listings_are_not_rewritten(listing: str) -> None:
    """Whatever stands in them is what they show."""
    assert _blocks(f"# T\n\nOne.\n\n{listing}\n\nTwo.") == ["One.", listing, "Two."]


@pytest.mark.parametrize(
    "sentence",
    [
        "import pandas as pd works.",
        "export your data to CSV.",
        "... and so on",
        "!important is a word",
        "a {: b } c",
    ],
)
def test_sentences_that_begin_like_a_dialect_stay(sentence: str) -> None:
    """They are prose."""
    assert _blocks(f"# T\n\n{sentence}") == [sentence]


@pytest.mark.parametrize("front", ['+++\ntitle = "Olá"\n+++\n', "---\ntitle: Olá\n...\n"])
def test_front_matter_of_either_kind_gives_the_title(front: str) -> None:
    """TOML as Hugo writes it, YAML that ends with dots; its letters are counted."""
    document = read_markdown("x.md", f"{front}Words.")
    assert (document.title, document.sections[0].blocks) == ("Olá", ("Words.",))
    assert document.left_out["front matter"] == len("".join(front.split()))


def test_a_page_cannot_forge_what_stands_for_a_block() -> None:
    """An element under the name that the reader uses is one that nobody knows: its words stay."""
    forged = "<div><retuneblock-0>words</retuneblock-0></div>"
    assert _blocks(f"# T\n\nOne.\n\n{forged}\n\nTwo.") == ["One.", "words", "Two."]
