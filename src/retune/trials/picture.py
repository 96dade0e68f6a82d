"""Pictures of a comparison: what quality costs in memory, parameters and time.

Each point is a trial, its whisker the 95 % interval, a ring marks the Pareto set.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from retune.pages.numbers import show_seconds
from retune.pages.pictures import Colours, render_png, render_svg, render_svg_file, style_axes
from retune.records import Record
from retune.score_records import Metric
from retune.scoring import showing
from retune.scoring.figures import figure_of
from retune.trials.labels import label_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panel = Literal["memory", "parameters", "time"]
PANELS: tuple[Panel, ...] = ("memory", "parameters", "time")
TITLES: dict[Panel, str] = {
    "memory": "Quality and peak memory",
    "parameters": "Quality and trainable parameters",
    "time": "Time to train",
}

_FILE_COLOURS = {"ink": "#2b343d", "point": "#5b7fa6", "pareto": "#c2410c"}
_PAGE_COLOURS = {"ink": "currentColor", "point": "var(--point)", "pareto": "var(--accent)"}
_FILE_SIZE, _PAGE_SIZE = (15.0, 4.6), (6.0, 4.2)
_MOST_LABELS = 10
"""With more trials, only those of the Pareto set are named in a scatter."""
_MOST_CHARS = 26
_MIB = 2**20


class TrialPoint(Record):
    """One trial in the pictures."""

    name: str
    figure: Metric
    memory_bytes: int | None
    parameters: int | None
    seconds: float | None
    pareto: bool


def draw_png(points: Sequence[TrialPoint], metric: str) -> bytes:
    """Draw all panels side by side, on white.

    Args:
        points: The trials.
        metric: Name of the figure that decides.

    Returns:
        A PNG file.
    """
    return render_png(_draw(points, metric, PANELS, _FILE_SIZE, _FILE_COLOURS), dpi=120)


def draw_svg_file(points: Sequence[TrialPoint], metric: str) -> str:
    """Draw all panels side by side as an SVG file of its own, on white."""
    return render_svg_file(_draw(points, metric, PANELS, _FILE_SIZE, _FILE_COLOURS))


def draw_svg(points: Sequence[TrialPoint], metric: str, panel: Panel) -> str:
    """Draw one panel for a page that is light or dark.

    Args:
        points: The trials.
        metric: Name of the figure that decides.
        panel: Which.

    Returns:
        An ``<svg>`` element with the colours ``var(--point)`` and ``var(--accent)``, its text in
        the colour of the text around it.
    """
    draw = partial(_draw, points, metric, (panel,), _PAGE_SIZE)
    return render_svg(draw, _PAGE_COLOURS, TITLES[panel])


def _draw(
    points: Sequence[TrialPoint],
    metric: str,
    panels: Sequence[Panel],
    size: tuple[float, float],
    colours: Colours,
) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    named = []
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        if panel == "time":
            _draw_times(axes, points, colours)
        else:
            named.append((axes, *_draw_scatter(axes, points, metric, panel, colours)))
        axes.set_title(TITLES[panel], loc="left", fontsize=11, color=colours["ink"])
        style_axes(axes, colours["ink"], grid="both")
    # Where names are free of each other shows once everything else has its place.
    figure.draw_without_rendering()
    for axes, names, spots in named:
        label_points(axes, names, spots, colours["ink"])
    return figure


def _draw_scatter(
    axes: Axes, points: Sequence[TrialPoint], metric: str, panel: Panel, colours: Colours
) -> tuple[list[str | None], list[tuple[float, float]]]:
    """Draw points, and return what is to be named where."""
    placed = [(point, x) for point in points if (x := _cost_of(point, panel)) is not None]
    scale = 100.0 if showing.is_rate(metric) else 1.0
    for point, x in placed:
        _draw_point(axes, point, x, scale, colours)
    if not placed:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    if panel == "parameters" and placed:
        axes.set_xscale("log")
    _set_limits(axes, [x for _, x in placed], log=panel == "parameters")
    axes.margins(y=0.14)
    unit = ", %" if scale == 100.0 else ""
    axes.set_ylabel(f"{showing.label_of(metric)}{unit}")
    axes.set_xlabel(
        "peak memory, MiB" if panel == "memory" else "trainable parameters (logarithmic)"
    )
    if figure_of(metric).lower_is_better:
        axes.set_ylabel(f"{showing.label_of(metric)} (lower is better)")
    crowded = len(placed) > _MOST_LABELS
    names = [None if crowded and not point.pareto else _short(point.name) for point, _ in placed]
    return names, [(x, scale * (point.figure.value or 0.0)) for point, x in placed]


def _draw_point(axes: Axes, point: TrialPoint, x: float, scale: float, colours: Colours) -> None:
    figure = point.figure
    value = scale * (figure.value or 0.0)
    colour = colours["pareto" if point.pareto else "point"]
    if figure.low is not None and figure.high is not None:
        axes.vlines(x, scale * figure.low, scale * figure.high, colors=colour, alpha=0.45, lw=1.6)
    axes.plot([x], [value], marker="o", markersize=7, color=colour, linestyle="", zorder=3)
    if point.pareto:
        axes.plot(
            [x],
            [value],
            marker="o",
            markersize=13,
            markerfacecolor="none",
            markeredgecolor=colour,
            markeredgewidth=1.4,
            linestyle="",
            zorder=3,
        )


def _set_limits(axes: Axes, xs: Sequence[float], *, log: bool) -> None:
    """Leave room at the sides for names."""
    if not xs:
        return
    low, high = min(xs), max(xs)
    if log:
        room = max((high / low) ** 0.22, 1.6)
        axes.set_xlim(low / room, high * room)
    else:
        room = 0.22 * (high - low) or 0.2 * abs(high) or 1.0
        axes.set_xlim(max(0.0, low - room), high + room)


def _draw_times(axes: Axes, points: Sequence[TrialPoint], colours: Colours) -> None:
    timed = [point for point in points if point.seconds is not None][::-1]
    longest = max((point.seconds or 0.0 for point in timed), default=1.0)
    minutes = longest >= 120
    scale = 60.0 if minutes else 1.0
    axes.barh(
        range(len(timed)),
        [(point.seconds or 0.0) / scale for point in timed],
        color=[colours["pareto" if point.pareto else "point"] for point in timed],
        height=0.62,
    )
    for place, point in enumerate(timed):
        told = show_seconds(point.seconds or 0.0)
        axes.annotate(
            told,
            ((point.seconds or 0.0) / scale, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=colours["ink"],
        )
    axes.set_yticks(range(len(timed)), [_short(point.name) for point in timed])
    axes.set_xlim(0, 1.22 * longest / scale)
    axes.set_xlabel("minutes" if minutes else "seconds")


def _cost_of(point: TrialPoint, panel: Panel) -> float | None:
    if panel == "memory":
        return None if point.memory_bytes is None else point.memory_bytes / _MIB
    return float(point.parameters) if point.parameters else None


def _short(name: str) -> str:
    return name if len(name) <= _MOST_CHARS else f"{name[: _MOST_CHARS - 1]}…"
