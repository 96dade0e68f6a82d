"""Code listings of an HTML page, kept out of the extractor's reach and put back verbatim.

An extractor made for prose folds the white space of a `<pre>` inside a list item and escapes its
characters. So each listing leaves the tree before extraction, and a word stands in for it.
"""

from __future__ import annotations

import re
from typing import Any

from lxml import etree, html

from retune.digests import digest_json
from retune.records import Record

_GUTTER = (
    "//pre[ancestor-or-self::*[contains(@class,'linenos') or contains(@class,'gutter') "
    "or contains(@class,'lineno')]]"
)
_INNER_JUNK = (
    ".//button | .//*[contains(concat(' ',@class,' '),' linenos ')] "
    "| .//*[contains(concat(' ',@class,' '),' lineno ')]"
)
_LANGUAGE_CLASS = re.compile(r"(?:^|\s)(?:language|lang|highlight-source|highlight)-([\w+#.-]+)")
_NO_LANGUAGE = {"default", "none", "text", "plaintext", "source", "notranslate"}
_NEAR = 3


class Listing(Record):
    """One `<pre>` of a page."""

    text: str
    language: str

    @property
    def fenced(self) -> str:
        """The listing as Markdown, in a fence longer than any run of backticks in it."""
        longest = max((len(run) for run in re.findall(r"`+", self.text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{fence}{self.language}\n{self.text}\n{fence}"


def take_listings(tree: html.HtmlElement) -> dict[str, Listing]:
    """Put a word in place of each listing.

    Args:
        tree: The page; it is changed.

    Returns:
        Listings by the word that stands for them.
    """
    for gutter in tree.xpath(_GUTTER):
        gutter.drop_tree()
    listings: dict[str, Listing] = {}
    for number, pre in enumerate(tree.xpath("//pre[not(ancestor::pre)]")):
        listing = Listing(text=_verbatim(pre), language=_language(pre))
        if not listing.text.strip():
            continue
        # The digest keeps a page that speaks of such words from being taken for one.
        word = f"RETUNELISTING{number}X{digest_json(listing.text)[:12]}"
        stand_in = etree.Element("p")
        stand_in.text, stand_in.tail = word, pre.tail
        pre.getparent().replace(pre, stand_in)
        listings[word] = listing
    return listings


def _verbatim(pre: html.HtmlElement) -> str:
    for junk in pre.xpath(_INNER_JUNK):
        junk.drop_tree()
    for line_break in pre.xpath(".//br"):
        line_break.tail = "\n" + (line_break.tail or "")
    # HTML drops a line break right after <pre>; the last one belongs to the fence.
    return str(pre.text_content()).removeprefix("\n").rstrip("\n")


def _language(pre: html.HtmlElement) -> str:
    places: list[Any] = [*pre.xpath("./code"), pre, *pre.iterancestors()][: _NEAR + 1]
    for place in places:
        found = _LANGUAGE_CLASS.search(place.get("class") or "")
        if found and found.group(1).lower() not in _NO_LANGUAGE:
            return found.group(1).lower().removesuffix("3")
    return ""
