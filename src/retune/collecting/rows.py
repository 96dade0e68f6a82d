"""Documents to the rows that are asked for, and an outcome for every page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from retune.collecting.extracting import Extraction
from retune.collecting.failures import NO_CONTENT
from retune.collecting.losses import lost_share
from retune.collecting.pairing import (
    TOO_SHORT,
    find_boilerplate,
    pair_sections,
    reason_to_drop,
)
from retune.collecting.records import CollectSettings, Document, Outcome
from retune.collecting.sentences import NO_PROSE, TOO_FEW, is_prose, pair_sentences


class Rows:
    """Rows as JSON values, and what became of each page.

    A plain class and no record: Prefect walks through every record that a task takes.

    Args:
        rows: In the order of the pages.
        outcomes: One per page.
    """

    def __init__(self, rows: list[dict[str, Any]], outcomes: list[Outcome]) -> None:
        self.rows = rows
        self.outcomes = outcomes

    def reasons(self) -> Iterator[tuple[str, str, int]]:
        """Yield ``(status, reason, pages)``, the most frequent first within a status."""
        counted = Counter((each.status, each.reason) for each in self.outcomes)
        order = ("kept", "empty", "failed")
        for (status, reason), pages in sorted(
            counted.items(), key=lambda item: (order.index(item[0][0]), -item[1], item[0][1])
        ):
            yield status, reason, pages


def make_rows(
    extraction: Extraction, refused: Iterable[Outcome], settings: CollectSettings
) -> Rows:
    """Turn documents into rows.

    Args:
        extraction: Documents and the outcomes of pages without one.
        refused: Outcomes of what the source named and was no page.
        settings: Which rows, and their limits.

    Returns:
        Rows and all outcomes.
    """
    documents = [document for document, _ in extraction.documents]
    boilerplate = find_boilerplate(documents, settings.boilerplate_pages)
    rows: list[dict[str, Any]] = []
    outcomes = [*refused, *extraction.outcomes]
    for document, reused in extraction.documents:
        made, dropped = _rows_of(document, settings, boilerplate)
        left_out = Counter(document.left_out) + _left_out(document, settings, boilerplate)
        letters = sum(document.left_out.values()) + sum(each.letters for each in document.sections)
        rows += made
        outcomes.append(
            Outcome(
                source=document.source,
                status="kept" if made else "empty",
                reason=settings.rows if made else _main_reason(dropped),
                characters=document.characters,
                rows=len(made),
                dropped=dict(sorted(dropped.items())),
                letters=letters,
                left_out=dict(sorted(left_out.items())),
                lost=lost_share(letters, left_out),
                reused=reused,
            )
        )
    return Rows(rows, outcomes)


def _rows_of(
    document: Document, settings: CollectSettings, boilerplate: frozenset[str]
) -> tuple[list[dict[str, Any]], Counter[str]]:
    if settings.rows == "documents":
        if document.characters < settings.min_characters:
            return [], Counter({TOO_SHORT: len(document.sections)})
        return [_document_row(document)], Counter()
    if settings.rows == "sentences":
        pairs, dropped = pair_sentences(document)
    else:
        pairs, dropped = pair_sections(
            document,
            min_characters=settings.min_characters,
            max_characters=settings.max_characters,
            boilerplate=boilerplate,
        )
    return [pair.model_dump(mode="json") for pair in pairs], dropped


def _left_out(
    document: Document, settings: CollectSettings, boilerplate: frozenset[str]
) -> Counter[str]:
    """Letters of a document's sections that stand in no row, by reason."""
    left_out: Counter[str] = Counter()
    short = settings.rows == "documents" and document.characters < settings.min_characters
    few = settings.rows == "sentences" and not pair_sentences(document)[0]
    for section in document.sections:
        reason: str | None = None
        if settings.rows == "pairs":
            reason = reason_to_drop(document, section, settings.min_characters, boilerplate)
        elif short or few:
            reason = TOO_SHORT if short else TOO_FEW
        elif settings.rows == "sentences":
            blocks = zip(section.blocks, section.block_letters, strict=True)
            left_out[NO_PROSE] += sum(count for block, count in blocks if not is_prose(block))
        if reason:
            left_out[reason] += section.letters
    return +left_out


def _document_row(document: Document) -> dict[str, Any]:
    return {
        "source": document.source,
        "title": document.title,
        "language": document.language,
        "sections": [
            {"heading": list(part.path), "level": part.level, "text": part.text}
            for part in document.sections
        ],
    }


def _main_reason(dropped: Counter[str]) -> str:
    return dropped.most_common(1)[0][0] if dropped else NO_CONTENT
