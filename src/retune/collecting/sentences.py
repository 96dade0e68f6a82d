"""Documents to pairs by sentence: each one is answered by the next, as the article did it.

Such pairs overlap (an answer is the next question), so they must be split by source, never by
row. Listings and tables have no sentences and are passed over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from retune.collecting.pairing import make_pair
from retune.collecting.records import Document, Pair, Section

TOO_FEW = "fewer than two sentences"
NO_PROSE = "listing or table"

_END = re.compile(r"(?<=[.!?…])([\"'”’»)\]]*)\s+")
_OPENING = "\"'“‘«([¿¡*_"
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-z]|e\.g|i\.e|etc|vs|cf|fig|figs|no|nos|eq|approx|mr|mrs|ms|dr|prof|st|jr|sr"
    r"|sra|dra|sto|sta|av|pág|págs|p|ex|núm|art|inc|al))\.$",
    re.I,
)
_LISTED = ("```", "~~~", "|", "    ")
_ITEM_MARK = re.compile(r"^(?:[-*+]|\d+[.)]|>)\s+")


def pair_sentences(document: Document) -> tuple[list[Pair], Counter[str]]:
    """Make a pair of each two sentences that follow each other in a page.

    Args:
        document: The page.

    Returns:
        Pairs in the page's order, and why there is none, where there is none.
    """
    placed = [
        (" > ".join(section.path), sentence)
        for section in document.sections
        for sentence in _section_sentences(section)
    ]
    parts: Counter[str] = Counter()
    pairs: list[Pair] = []
    for (heading, sentence), (_, following) in pairwise(placed):
        parts[heading] += 1
        pairs.append(
            make_pair(
                document,
                question=sentence,
                answer=following,
                heading=heading,
                part=parts[heading],
                method="sentences",
            )
        )
    return pairs, Counter() if pairs else Counter({TOO_FEW: 1})


def split_sentences(paragraph: str) -> Iterator[str]:
    """Split a paragraph after full stops, question and exclamation marks.

    Args:
        paragraph: Prose.

    Yields:
        Sentences with a letter or digit in them, as they were written.
    """
    start = 0
    for end in _END.finditer(paragraph):
        sentence = paragraph[start : end.end(1)]
        following = paragraph[end.end() :].lstrip(_OPENING)
        # What goes on in lower case is the same sentence; code in backticks may begin one.
        if not (_ABBREVIATION.search(sentence) or following[:1].islower()):
            yield from _worded(sentence)
            start = end.end()
    yield from _worded(paragraph[start:])


def is_prose(block: str) -> bool:
    """Return whether a block has sentences: listings and tables have none."""
    return not block.startswith(_LISTED)


def _section_sentences(section: Section) -> Iterator[str]:
    for block in section.blocks:
        if is_prose(block):
            yield from split_sentences(_ITEM_MARK.sub("", block))


def _worded(sentence: str) -> Iterator[str]:
    if any(character.isalnum() for character in sentence):
        yield sentence.strip()
