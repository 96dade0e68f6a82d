"""The picture of a registered model: its deciding figure over time, and who was champion when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from retune.pages.pictures import Colours, render_svg, style_axes
from retune.records import Record
from retune.registry.records import LedgerKind
from retune.scoring.showing import is_rate, label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {
    "ink": "currentColor",
    "promoted": "var(--good)",
    "rejected": "var(--bad)",
    "pending": "var(--soft)",
    "band": "var(--bar)",
    "other": "var(--soft)",
    "mark": "var(--accent)",
}
_SIZE = (8.4, 3.9)
_GOOD: tuple[LedgerKind, ...] = ("promoted", "approved")
_MARKED: dict[LedgerKind, str] = {
    "rolled_back": "rolled back",
    "approved": "approved",
    "withdrawn": "withdrawn",
    "expired": "expired",
}
_LABELS = {"promoted": "promoted", "rejected": "not promoted", "pending": "waits for a person"}
_MARKERS = {"promoted": "o", "rejected": "D", "pending": "s"}
_SHORTEST_DAYS = 1 / 96
"""Width of a picture whose lines are all of one moment: a quarter of an hour."""
_ROOM = 0.04
"""Part of the width that stays free at both sides."""
_FEWEST_LABELLED = 0.045
"""Part of the width below which a champion's time has no number in it."""


class OverviewPoint(Record):
    """One line of the ledger in the picture."""

    at: datetime
    kind: LedgerKind
    version: int | None
    value: float | None
    """The deciding figure; None where the line has none, or another one."""
    low: float | None = None
    high: float | None = None


class Reign(Record):
    """The time in which a version was champion."""

    version: int
    since: datetime
    until: datetime | None = None
    """None while it still is."""


def draw_svg(points: Sequence[OverviewPoint], reigns: Sequence[Reign], metric: str | None) -> str:
    """Draw the picture for a page that is light or dark.

    Args:
        points: Lines of the ledger in order.
        reigns: Champions in order.
        metric: What the points' values are of; None where none has one.

    Returns:
        An ``<svg>`` element.
    """
    name = "The deciding figure of each version over time, and which version was champion"
    return render_svg(partial(_draw, points, reigns, metric), _COLOURS, name)


def _draw(
    points: Sequence[OverviewPoint],
    reigns: Sequence[Reign],
    metric: str | None,
    colours: Colours,
) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=[6, 1], hspace=0.04)
    upper = figure.add_subplot(grid[0])
    lower = figure.add_subplot(grid[1], sharex=upper)
    first, last = _ends(points, reigns)
    width = last - first
    room = width * _ROOM
    upper.set_xlim(first - room, last + room)
    _draw_figures(upper, points, metric, colours)
    _draw_marks(upper, points, colours)
    _draw_band(lower, reigns, last + room, width, colours)
    upper.tick_params(labelbottom=False)
    style_axes(upper, colours["ink"])
    style_axes(lower, colours["ink"])
    lower.grid(visible=False)
    _date_axis(lower)
    return figure


def _ends(points: Sequence[OverviewPoint], reigns: Sequence[Reign]) -> tuple[float, float]:
    """Return when the picture begins and ends, in days of matplotlib."""
    times = [_days(each.at) for each in points] + [_days(each.since) for each in reigns]
    first, last = min(times), max(times)
    if last - first < _SHORTEST_DAYS:
        middle = (first + last) / 2
        return middle - _SHORTEST_DAYS / 2, middle + _SHORTEST_DAYS / 2
    return first, last


def _days(at: datetime) -> float:
    from matplotlib.dates import date2num

    return float(date2num(at))


def _draw_figures(
    axes: Axes, points: Sequence[OverviewPoint], metric: str | None, colours: Colours
) -> None:
    scale = 100.0 if metric is not None and is_rate(metric) else 1.0
    for name in _LABELS:
        chosen = [
            each for each in points if each.value is not None and _drawn_as(each.kind) == name
        ]
        for place, each in enumerate(chosen):
            value = scale * (each.value or 0.0)
            low = value if each.low is None else scale * each.low
            high = value if each.high is None else scale * each.high
            axes.errorbar(
                [_days(each.at)],
                [value],
                yerr=[[value - low], [high - value]],
                color=colours[name],
                marker=_MARKERS[name],
                markerfacecolor=colours[name] if name == "promoted" else "none",
                markersize=6,
                linewidth=1.6,
                capsize=3,
                label=_LABELS[name] if place == 0 else None,
            )
            if each.version is not None:
                axes.annotate(
                    f"{each.version}",
                    (_days(each.at), value),
                    textcoords="offset points",
                    xytext=(7, 0),
                    va="center",
                    fontsize=9,
                )
    if metric is None or not any(each.value is not None for each in points):
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no figure was decided on yet", ha="center", transform=axes.transAxes)
        return
    axes.set_ylabel(f"{label_of(metric)} (%)" if scale > 1 else label_of(metric))
    axes.margins(y=0.16)
    axes.legend(
        frameon=False, labelcolor=colours["ink"], loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2
    )


def _drawn_as(kind: LedgerKind) -> str:
    return "promoted" if kind in _GOOD else "pending" if kind == "pending" else "rejected"


def _draw_marks(axes: Axes, points: Sequence[OverviewPoint], colours: Colours) -> None:
    for each in points:
        word = _MARKED.get(each.kind)
        if word is None:
            continue
        axes.axvline(_days(each.at), color=colours["mark"], linewidth=1.2, linestyle=(0, (4, 3)))
        axes.annotate(
            word,
            (_days(each.at), 0.02),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            xytext=(-3, 0),
            rotation=90,
            ha="right",
            va="bottom",
            fontsize=8,
        )


def _draw_band(
    axes: Axes, reigns: Sequence[Reign], end: float, width: float, colours: Colours
) -> None:
    for place, reign in enumerate(reigns):
        since = _days(reign.since)
        until = end if reign.until is None else _days(reign.until)
        axes.barh(
            0,
            until - since,
            left=since,
            height=0.8,
            color=colours["band"],
            # Neighbours are told apart without a colour for each version.
            alpha=0.75 if place % 2 == 0 else 0.4,
        )
        if until - since >= width * _FEWEST_LABELLED:
            middle = (since + until) / 2
            axes.text(middle, 0, str(reign.version), ha="center", va="center", fontsize=9)
    axes.set_ylim(-0.5, 0.5)
    axes.set_yticks([0], ["champion"])
    if not reigns:
        axes.text(0.5, 0.5, "none yet", ha="center", va="center", transform=axes.transAxes)


def _date_axis(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC, minticks=2, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))
