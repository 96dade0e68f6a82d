"""The pages, pictures and tables of a comparison, all from its one record."""

from __future__ import annotations

import csv
import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.pages.numbers import ABSENT, show_bytes, show_seconds
from retune.pages.templates import page_templates
from retune.scoring import showing
from retune.scoring.figures import FIGURES
from retune.trials.picture import PANELS, TITLES, TrialPoint, draw_png, draw_svg, draw_svg_file
from retune.trials.results import ComparedTrial, TrialComparison

if TYPE_CHECKING:
    from jinja2 import Environment

JSON_FILE, CSV_FILE = "comparison.json", "comparison.csv"
PAGES = ("compare.md", "compare.html")
PICTURES = ("compare.png", "compare.svg")
FILES = (*PAGES, *PICTURES, JSON_FILE, CSV_FILE)
_EXTRA = tuple(name for name, figure in FIGURES.items() if figure.beside_decision)

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_pages(comparison: TrialComparison) -> None:
    """Write pages, pictures, JSON and CSV to the comparison's folder, made when missing."""
    folder = comparison.folder
    folder.mkdir(parents=True, exist_ok=True)
    points = list_points(comparison)
    (folder / JSON_FILE).write_text(comparison.model_dump_json(indent=2) + "\n", encoding="utf-8")
    (folder / CSV_FILE).write_text(render_csv(comparison), encoding="utf-8")
    (folder / PICTURES[0]).write_bytes(draw_png(points, comparison.metric))
    (folder / PICTURES[1]).write_text(draw_svg_file(points, comparison.metric), encoding="utf-8")
    for name in PAGES:
        (folder / name).write_text(render_page(name, comparison), encoding="utf-8")


def render_page(name: str, comparison: TrialComparison) -> str:
    """Render one of the pages.

    Args:
        name: ``compare.md`` or ``compare.html``.
        comparison: What it shows.

    Returns:
        The page's text.
    """
    points = list_points(comparison)
    # Pictures that only the one page shows are drawn for that one.
    drawn = PANELS if name.endswith(".html") else ()
    return (
        _templates()
        .get_template(f"{name}.j2")
        .render(
            comparison=comparison,
            pictures={TITLES[each]: draw_svg(points, comparison.metric, each) for each in drawn},
            extra=list_extra(comparison),
            show_memory=show_memory,
            show_time=show_time,
            show_share=show_share,
            show_price=show_price,
            show_verdict=show_verdict,
            shared=list_shared(comparison),
        )
    )


def list_points(comparison: TrialComparison) -> list[TrialPoint]:
    """Return the trials that have a figure, as the pictures need them."""
    return [
        TrialPoint(
            name=each.result.name,
            figure=each.metrics[comparison.metric],
            memory_bytes=each.result.cost.memory_bytes if each.result.cost else None,
            parameters=each.result.trainable_parameters,
            seconds=each.result.cost.seconds if each.result.cost else None,
            pareto=each.pareto,
        )
        for each in comparison.trials
        if comparison.metric in each.metrics and each.metrics[comparison.metric].value is not None
    ]


def list_extra(comparison: TrialComparison) -> list[str]:
    """Name the figures that are shown beside the one that decides."""
    present = {name for each in comparison.trials for name in each.metrics}
    return [name for name in _EXTRA if name in present and name != comparison.metric]


def list_shared(comparison: TrialComparison) -> tuple[str, ...]:
    """Return the overrides that all trials have, which need not be told of each."""
    lists = [each.result.overrides for each in comparison.trials]
    return tuple(text for text in lists[0] if all(text in each for each in lists))


def list_rows(comparison: TrialComparison) -> list[dict[str, Any]]:
    """Return the table as plain values, one mapping per trial; None where a value is unknown."""
    return [_row(comparison, each) for each in comparison.trials]


def render_csv(comparison: TrialComparison) -> str:
    """Write the table as CSV."""
    rows = [{key: _as_cell(value) for key, value in row.items()} for row in list_rows(comparison)]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _as_cell(value: Any) -> Any:
    # A spreadsheet would run a text that begins like a formula; the sign before it makes it a text.
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value


def _row(comparison: TrialComparison, each: ComparedTrial) -> dict[str, Any]:
    result, figure = each.result, each.metrics.get(comparison.metric)
    cost = result.cost
    against = each.against_best
    row: dict[str, Any] = {
        "trial": result.name,
        "state": result.state,
        "metric": comparison.metric,
        "value": figure.value if figure else None,
        "low": figure.low if figure else None,
        "high": figure.high if figure else None,
        "rows": figure.n if figure else None,
        "against_best": against.verdict if against else None,
        "pareto": each.pareto,
        "memory_bytes": cost.memory_bytes if cost else None,
        "peak_bytes": cost.peak_bytes if cost else None,
        "seconds": cost.seconds if cost else None,
        "trainable_parameters": result.trainable_parameters,
        "total_parameters": result.total_parameters,
        "tokens": cost.tokens if cost else None,
        "price": each.price,
        "currency": comparison.currency if each.price is not None else None,
        "learning_rate": result.learning_rate,
        "validation_loss": result.validation_loss,
        "reused": result.reused,
        "reason": result.reason or None,
    }
    for name in list_extra(comparison):
        extra = each.metrics.get(name)
        row[name] = extra.value if extra else None
    return row


def show_memory(each: ComparedTrial) -> str:
    """Write what training held at most."""
    cost = each.result.cost
    if cost is None or cost.memory_bytes is None:
        return ABSENT
    return show_bytes(cost.memory_bytes)


def show_time(each: ComparedTrial) -> str:
    """Write how long training took, with ~ where part of it is reckoned."""
    cost = each.result.cost
    if cost is None:
        return ABSENT
    return f"{'~' if cost.estimated else ''}{show_seconds(cost.seconds)}"


def show_share(each: ComparedTrial) -> str:
    """Write which part of all parameters was trained."""
    share = each.result.trainable_share
    return "" if share is None else f"{100 * share:.3g} %"


def show_price(comparison: TrialComparison, each: ComparedTrial) -> str:
    """Write what training cost."""
    if each.price is None:
        return ABSENT
    places = 2 if each.price >= 1 else 4
    return f"{each.price:.{places}f} {comparison.currency}"


def show_verdict(comparison: TrialComparison, each: ComparedTrial) -> str:
    """Say how a trial stands against the best one, as far as the rows show it."""
    if each.result.state != "finished":
        return each.result.state
    found = each.metrics.get(comparison.metric)
    if found is None or found.value is None:
        return "not scored"
    if each == comparison.best:
        return "best figure"
    verdict = each.against_best.verdict if each.against_best else "undecided"
    return {"worse": "worse", "better": "better", "undecided": "not told apart"}[verdict]


@lru_cache
def _templates() -> Environment:
    return page_templates(Path(__file__).parent / "templates", show=showing)
