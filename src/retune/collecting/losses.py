"""Pages that lose much of their text or give nothing: which they are, why, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from retune.collecting.failures import (
    EXTRACTOR,
    FRAMES,
    LICENCE,
    NAVIGATION,
    NEEDS_SCRIPTS,
    NO_CONTENT,
    NOT_A_PAGE,
    REDIRECT,
    TOO_LARGE,
    UNREADABLE,
)
from retune.collecting.page_text import NEVER_CONTENT, NOTES, OUTSIDE, UNREAD
from retune.collecting.pairing import BOILERPLATE, NO_BODY, NO_QUESTION, TOO_SHORT
from retune.collecting.records import CollectSettings, Outcome
from retune.collecting.sentences import NO_PROSE, TOO_FEW
from retune.errors import DataError
from retune.records import Record

_NOT_MEANT_TO_GIVE = frozenset({NAVIGATION, LICENCE})
_BROKEN = frozenset({EXTRACTOR, UNREADABLE, TOO_LARGE})

_ADVICE = {
    TOO_SHORT: "lower --min-characters, or ask for --as documents",
    NO_BODY: "its headings have nothing below them: look whether a script fills them",
    NO_QUESTION: "give it a title or headings, or ask for --as documents",
    BOILERPLATE: "other pages say the same: give each page once",
    TOO_FEW: "ask for --as pairs",
    NO_PROSE: "ask for --as pairs, which keeps listings and tables",
    OUTSIDE: "its text does not stand where its markup says: collect its Markdown or printed form",
    NOTES: "it is mostly footnotes",
    UNREAD: "its tags are never closed: repair it, or save it from a browser",
    NO_CONTENT: "look at it in a browser; save it from there, or leave it out",
    NOT_A_PAGE: "leave it out, or convert it to HTML or Markdown",
    NEEDS_SCRIPTS: "save it from a browser, or collect the site's Markdown or printed form",
    FRAMES: "collect the pages in its frames",
    REDIRECT: "collect the page that it leads to",
    EXTRACTOR: "save it from a browser, or leave it out",
}


class NamedPage(Record):
    """A page to look at."""

    source: str
    status: str
    reason: str
    """What most of its text was left out for, or why it gave nothing."""
    detail: str = ""
    lost: float = 0.0
    """Share of its own text that stands in no row."""
    advice: str = ""


def lost_share(letters: int, left_out: Mapping[str, int]) -> float:
    """Return which share of a page's own text stands in no row.

    Args:
        letters: All letters of the page.
        left_out: Those in no row, by reason.

    Returns:
        0 to 1; what was never meant as text counts on neither side.
    """
    never = sum(count for reason, count in left_out.items() if reason in NEVER_CONTENT)
    lost = sum(left_out.values()) - never
    return lost / (letters - never) if letters > never else 0.0


def name_pages(outcomes: Iterable[Outcome], most_lost: float) -> list[NamedPage]:
    """Name the pages to look at.

    Args:
        outcomes: What became of each page.
        most_lost: Share of its text that a page may lose unnamed.

    Returns:
        Pages that lose more, the most letters first; then those that were read and gave nothing;
        then those that could not be read.
    """
    order = {"kept": 0, "empty": 1, "failed": 2}
    poor = [each for each in outcomes if each.status != "kept" or each.lost > most_lost]
    poor.sort(key=lambda each: (order[each.status], -each.lost * each.letters))
    return [_name(each) for each in poor]


def _name(outcome: Outcome) -> NamedPage:
    reason = main_loss(outcome) if outcome.status == "kept" else outcome.reason
    return NamedPage(
        source=outcome.source,
        status=outcome.status,
        reason=reason,
        detail=outcome.detail,
        lost=outcome.lost,
        advice=_ADVICE.get(reason, ""),
    )


def main_loss(outcome: Outcome) -> str:
    """Return for which reason most of a page's own text stands in no row."""
    lost = Counter({k: v for k, v in outcome.left_out.items() if k not in NEVER_CONTENT})
    return lost.most_common(1)[0][0] if lost else outcome.reason


def refuse_empty(outcomes: Sequence[Outcome], settings: CollectSettings, beside: Path) -> None:
    """Refuse a collection most of whose pages give nothing.

    Args:
        outcomes: What became of each page.
        settings: With the share that may.
        beside: Where the outcomes lie.

    Raises:
        DataError: More pages than allowed were read and gave no row.
    """
    read = [each for each in outcomes if each.status != "failed" or each.reason in _BROKEN]
    meant = [each for each in read if each.reason not in _NOT_MEANT_TO_GIVE]
    empty = [each for each in meant if each.status != "kept"]
    if not meant or len(empty) / len(meant) <= settings.most_empty:
        return
    counted = Counter(each.reason for each in empty).most_common()
    counts = ", ".join(f"{reason} {pages}" for reason, pages in counted)
    first = empty[0]
    advice = _ADVICE.get(counted[0][0], "look at them")
    raise DataError(
        f"{len(empty)} of the {len(meant)} pages that were read gave no {settings.rows} ({counts}; "
        f"the first is {first.source}), more than the {settings.most_empty:.0%} that --most-empty "
        f"allows, so no rows were written. For most of them: {advice}. To take what the others "
        f"give, raise --most-empty; pages are not fetched again. Each page's outcome: {beside}"
    )
