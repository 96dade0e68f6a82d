"""Pictures of a training: its losses over steps, as PNG for files and SVG for pages."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from retune.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = {"train_loss": "training loss", "validation_loss": "validation loss"}
"""The curves that are drawn, by name in `metrics.jsonl`."""

_PNG_COLOURS = {"ink": "#44505c", "train_loss": "#8aa4bf", "validation_loss": "#c2410c"}
_SVG_MARKERS = {"ink": "#010101", "train_loss": "#010102", "validation_loss": "#010103"}
_SVG_COLOURS = {
    "ink": "currentColor",
    "train_loss": "var(--train)",
    "validation_loss": "var(--validation)",
}


class CurvePoint(Record):
    """One value of one curve."""

    name: str
    value: float
    step: int


def draw_png(points: Sequence[CurvePoint]) -> bytes:
    """Draw the losses on white.

    Args:
        points: Of any curves; only losses are drawn.

    Returns:
        A PNG file.
    """
    figure = _draw(points, _PNG_COLOURS)
    return _render(figure, "png", {"dpi": 144, "facecolor": "white"})


def draw_svg(points: Sequence[CurvePoint]) -> str:
    """Draw the losses for a page that is light or dark.

    Args:
        points: Of any curves; only losses are drawn.

    Returns:
        An ``<svg>`` element whose lines have the colours ``var(--train)`` and
        ``var(--validation)``, and whose text has the colour of the text around it.
    """
    figure = _draw(points, _SVG_MARKERS)
    text = _render(figure, "svg", {"transparent": True}).decode("utf-8")
    text = text[text.index("<svg") :]
    for name, marker in _SVG_MARKERS.items():
        text = text.replace(marker, _SVG_COLOURS[name])
    # The size comes from the page; the name says what a screen reader cannot see.
    head = '<svg role="img" aria-label="Loss over training steps" '
    return re.sub(r'^<svg (?:width="[^"]*" )?(?:height="[^"]*" )?', head, _without_metadata(text))


def _draw(points: Sequence[CurvePoint], colours: dict[str, str]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    drawn = [_draw_curve(axes, points, name, colours[name]) for name in SHOWN]
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per token)")
    if any(drawn):
        axes.legend(frameon=False, labelcolor=colours["ink"])
    else:
        axes.text(0.5, 0.5, "no losses were recorded", ha="center", transform=axes.transAxes)
    _colour(axes, colours["ink"])
    return figure


def _draw_curve(axes: Axes, points: Sequence[CurvePoint], name: str, colour: str) -> bool:
    values = {point.step: point.value for point in points if point.name == name}
    steps = [step for step in sorted(values) if math.isfinite(values[step])]
    is_validation = name == "validation_loss"
    if steps:
        axes.plot(
            steps,
            [values[step] for step in steps],
            color=colour,
            label=SHOWN[name],
            linewidth=2.0 if is_validation else 1.3,
            marker="o" if is_validation or len(steps) == 1 else "",
            markersize=5,
            zorder=3 if is_validation else 2,
        )
    return bool(steps)


def _colour(axes: Axes, ink: str) -> None:
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color=ink, alpha=0.15)
    axes.tick_params(colors=ink)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(ink)
    for text in (axes.xaxis.label, axes.yaxis.label, *axes.texts):
        text.set_color(ink)


def _render(figure: Figure, kind: Literal["png", "svg"], options: dict[str, Any]) -> bytes:
    from matplotlib import rc_context

    # Equal points give equal bytes: no date, no random ids. Text stays text, which is smaller.
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "retune", "svg.fonttype": "none"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, metadata=metadata, **options)
    return buffer.getvalue()


def _without_metadata(text: str) -> str:
    # It names two addresses, and a report has none.
    return re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
