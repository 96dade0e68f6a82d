"""Documents to pairs by section: its headings ask, its body answers."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

from retune.collecting.records import Document, Pair, Section

TOO_SHORT = "section too short"
NO_BODY = "heading without body"
BOILERPLATE = "repeated boilerplate"
NO_QUESTION = "no title or heading to ask with"

# "3.1.2. Text", "3.1 Numbers"; a bare number may belong to the words: "3 ways to sort".
_NUMBERING = re.compile(r"^(?:\d+(?:\.\d+)*\.|\d+(?:\.\d+)+)\s+")
_BODY_JOINT = "\n\n"


def pair_sections(
    document: Document,
    *,
    min_characters: int,
    max_characters: int,
    boilerplate: frozenset[str] = frozenset(),
) -> tuple[list[Pair], Counter[str]]:
    """Make a pair of each section, or several where it is long.

    Args:
        document: The page.
        min_characters: A shorter body gives no pair.
        max_characters: A longer body is split between its blocks.
        boilerplate: Digests of bodies that many pages repeat.

    Returns:
        Pairs in the page's order, and how many sections gave none, by reason.
    """
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    parts_by_heading: Counter[str] = Counter()
    for section in document.sections:
        reason = reason_to_drop(document, section, min_characters, boilerplate)
        if reason:
            dropped[reason] += 1
            continue
        heading = " > ".join(section.path)
        bodies = list(split_blocks(section.blocks, max_characters, min_characters))
        for number, body in enumerate(bodies, start=1):
            parts_by_heading[heading] += 1
            pairs.append(
                make_pair(
                    document,
                    question=_ask(document.title, section.path, number, len(bodies)),
                    answer=body,
                    heading=heading,
                    part=parts_by_heading[heading],
                    method="sections",
                )
            )
    return pairs, dropped


def make_pair(
    document: Document,
    *,
    question: str,
    answer: str,
    heading: str,
    part: int,
    method: Literal["sections", "sentences"],
) -> Pair:
    """Make a pair whose id depends on where it stands, and not on its words.

    Args:
        document: The page.
        question: What is asked.
        answer: What answers.
        heading: Headings above it.
        part: Which pair below this heading, from 1.
        method: How it was made.

    Returns:
        The pair.
    """
    place = "\n".join([document.source, heading, str(part), method])
    return Pair(
        id=hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:20],
        question=question,
        answer=answer,
        source=document.source,
        title=document.title,
        heading=heading,
        method=method,
    )


def split_blocks(blocks: Iterable[str], longest: int, shortest: int = 1) -> Iterator[str]:
    """Join blocks to bodies of at most `longest` characters.

    Args:
        blocks: Paragraphs and listings; none is ever cut, so one may exceed the limit alone.
        longest: Characters of a body.
        shortest: A last body below this joins the one before.

    Yields:
        Bodies.
    """
    bodies: list[list[str]] = []
    length = 0
    for block in blocks:
        joined = length + len(_BODY_JOINT) + len(block)
        if bodies and joined <= longest:
            bodies[-1].append(block)
            length = joined
        else:
            bodies.append([block])
            length = len(block)
    if len(bodies) > 1 and len(_BODY_JOINT.join(bodies[-1])) < shortest:
        rest = bodies.pop()
        bodies[-1] += rest
    yield from (_BODY_JOINT.join(body) for body in bodies)


def find_boilerplate(documents: Iterable[Document], pages: int) -> frozenset[str]:
    """Find section bodies that many pages repeat, such as a licence note or a call to subscribe.

    Args:
        documents: All pages.
        pages: From how many pages on a body is boilerplate.

    Returns:
        Digests of such bodies.
    """
    seen: Counter[str] = Counter()
    for document in documents:
        seen.update({_digest(section) for section in document.sections if section.blocks})
    return frozenset(digest for digest, count in seen.items() if count >= pages)


def reason_to_drop(
    document: Document, section: Section, shortest: int, boilerplate: frozenset[str]
) -> str | None:
    """Return why a section gives no pair.

    Args:
        document: Its page.
        section: The section.
        shortest: A shorter body gives none.
        boilerplate: Digests of bodies that many pages repeat.

    Returns:
        The reason, None where it gives one.
    """
    if not section.blocks:
        return NO_BODY
    if len(section.text) < shortest:
        return TOO_SHORT
    if not (document.title or section.path):
        return NO_QUESTION
    return BOILERPLATE if _digest(section) in boilerplate else None


def _digest(section: Section) -> str:
    folded = " ".join(section.text.casefold().split())
    return hashlib.sha256(folded.encode("utf-8", "surrogatepass")).hexdigest()


def _ask(title: str, path: tuple[str, ...], number: int, parts: int) -> str:
    """Title and headings without their numbers, each once, and which part of a long body."""
    names = [_NUMBERING.sub("", name) for name in (title, *path)]
    question = ": ".join(dict.fromkeys(name for name in names if name))
    return f"{question} ({number}/{parts})" if parts > 1 else question
