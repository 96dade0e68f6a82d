"""The pages of a data report: JSON for programs, Markdown, and one page that stands alone."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.data.findings import Lengths
from retune.data.reporting import plots, showing
from retune.data.reporting.gathering import DataReport
from retune.data.reporting.plots import Bar
from retune.pages.templates import page_templates
from retune.records import Side

if TYPE_CHECKING:
    from jinja2 import Environment

_NAMED = 12
"""Labels and languages that a page names; the rest is one line."""


def write_data_report(folder: Path, report: DataReport) -> None:
    """Write `data.json`, `data.md` and `data.html`.

    Args:
        folder: Where they go; made when missing.
        report: What they show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.json").write_text(report.model_dump_json(indent=2), encoding="utf-8")
    for name in ("data.md", "data.html"):
        (folder / name).write_text(render(name, report), encoding="utf-8")


def render(name: str, report: DataReport) -> str:
    """Render one of the pages.

    Args:
        name: ``data.md`` or ``data.html``.
        report: What it shows.

    Returns:
        The page's text.
    """
    labels = _labels_of(report)
    fields: dict[str, Any] = {
        "report": report,
        "quality": report.quality,
        "found": _findings_of(report),
        "labels": labels,
        "fullest": plots.longest_share(bar for _, bars in labels for bar in bars),
        "tokens": _token_lengths_of(report),
        "languages": [
            Bar(name, rows, report.quality.read)
            for name, rows in _first_named(report.quality.languages).items()
        ],
        "duplicates": _duplicates_of(report),
        "dropped": [
            Bar(reason, rows, report.quality.read)
            for reason, rows in report.quality.dropped.items()
            if rows
        ],
        "faults": _faults_of(report),
    }
    return templates().get_template(f"{name}.j2").render(fields)


@lru_cache
def templates() -> Environment:
    """Return the templates of this room."""
    return page_templates(Path(__file__).parent / "templates", show=showing, plots=plots)


def _findings_of(report: DataReport) -> list[tuple[str, str, int]]:
    """List what the looks at the texts counted: subject, kind, rows."""
    quality = report.quality
    kinds = {
        "Unprintable text": quality.unprintable,
        "Secrets": quality.secrets,
        "Personal data": quality.personal_data,
    }
    found = [
        (subject, kind.replace("_", " "), rows)
        for subject, counted in kinds.items()
        for kind, rows in counted.items()
    ]
    if quality.labels:
        texts = f"{quality.conflicting_texts:,} texts with two labels"
        found.append(("Conflicting labels", texts, quality.conflicting_rows))
    return found


def _labels_of(report: DataReport) -> list[tuple[str, list[Bar]]]:
    """Group bars by label: its share of the rows of each side."""
    names = list(_first_named(report.quality.labels))
    named = [name for name in names if name in report.quality.labels]
    groups = []
    for name in names:
        bars = [
            Bar(each.side, _rows_of(each.labels, name, named), sum(each.labels.values()), each.side)
            for each in report.sides
        ]
        groups.append((name, bars))
    return groups


def _rows_of(labels: dict[str, int], name: str, named: list[str]) -> int:
    if name in named:
        return labels.get(name, 0)
    return sum(rows for label, rows in labels.items() if label not in named)


def _first_named(counted: dict[str, int]) -> dict[str, int]:
    """Keep the most frequent names, and put the others together."""
    if len(counted) <= _NAMED:
        return counted
    first = dict(islice(counted.items(), _NAMED - 1))
    rest = len(counted) - len(first)
    return first | {f"{rest:,} others": sum(counted.values()) - sum(first.values())}


def _duplicates_of(report: DataReport) -> list[Bar]:
    found, read = report.quality.duplicates, report.quality.read
    return [
        Bar("letter by letter", found.exact, read),
        Bar("but for case, accents and spaces", found.folded - found.exact, read),
        Bar("most of its words", found.near, read),
    ]


def _token_lengths_of(report: DataReport) -> list[tuple[str, Side, Lengths]]:
    """List part, side and lengths: the sides of one part beside each other."""
    sides = report.audit.sides.items() if report.audit else ()
    prompts = [("prompts", side, audited.prompt_lengths) for side, audited in sides]
    answers = [("answers", side, audited.answer_lengths) for side, audited in sides]
    return [(part, side, found) for part, side, found in prompts + answers if found]


def _faults_of(report: DataReport) -> list[str]:
    """Name the faults that the audit of any side counted, in its order."""
    sides = report.audit.sides.values() if report.audit else ()
    return list(dict.fromkeys(fault for side in sides for fault in side.faults))
