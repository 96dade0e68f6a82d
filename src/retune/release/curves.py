"""Pictures of a training over its steps, as PNG for files and SVG for pages.

One panel has the losses; a second one what else was measured, where something was: the score of the
task that was watched, preferences, or rewards.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from retune.records import Record
from retune.scoring.figures import WATCHED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSSES = {"train_loss": "training loss", "validation_loss": "validation loss"}
"""Curves of the first panel, by name in `metrics.jsonl`."""
FIGURES = {
    **{f"validation_{e.name}": f"{e.curve}, validation" for e in WATCHED},
    "preference_accuracy": "chosen answer gains more, training pairs",
    "validation_preference_accuracy": "chosen answer gains more, pairs held back",
    "reward": "mean reward",
    "groups_with_signal": "groups with signal",
}
"""Curves of the second panel, each a part of 1."""

_PNG_COLOURS = {"ink": "#44505c", "train": "#8aa4bf", "validation": "#c2410c"}
_SVG_MARKERS = {"ink": "#010101", "train": "#010102", "validation": "#010103"}
_SVG_COLOURS = {"ink": "currentColor", "train": "var(--train)", "validation": "var(--validation)"}
_SIZE = (7.2, 3.0)
_SIZE_OF_TWO = (10.8, 3.0)


class CurvePoint(Record):
    """One value of one curve."""

    name: str
    value: float
    step: int


def draw_png(points: Sequence[CurvePoint]) -> bytes:
    """Draw a training on white.

    Args:
        points: Of any curves; those of `LOSSES` and `FIGURES` are drawn.

    Returns:
        A PNG file.
    """
    figure = _draw(points, _PNG_COLOURS)
    return _render(figure, "png", {"dpi": 144, "facecolor": "white"})


def draw_svg(points: Sequence[CurvePoint]) -> str:
    """Draw a training for a page that is light or dark.

    Args:
        points: Of any curves; those of `LOSSES` and `FIGURES` are drawn.

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
    head = '<svg role="img" aria-label="What was measured over the training steps" '
    return re.sub(r'^<svg (?:width="[^"]*" )?(?:height="[^"]*" )?', head, _without_metadata(text))


def _draw(points: Sequence[CurvePoint], colours: dict[str, str]) -> Figure:
    from matplotlib.figure import Figure

    measured = [name for name in FIGURES if _values(points, name)]
    figure = Figure(figsize=_SIZE_OF_TWO if measured else _SIZE, layout="constrained")
    losses = figure.add_subplot(1, 2 if measured else 1, 1)
    _draw_panel(losses, points, LOSSES, colours)
    losses.set_ylabel(_loss_label(points))
    if measured:
        figures = figure.add_subplot(1, 2, 2)
        _draw_panel(figures, points, {name: FIGURES[name] for name in measured}, colours)
        figures.set_ylim(-0.03, 1.03)
    return figure


def _loss_label(points: Sequence[CurvePoint]) -> str:
    names = {point.name for point in points}
    if "preference_accuracy" in names:
        return "loss (per pair)"
    return "loss of the policy" if "reward" in names else "loss (nats per token)"


def _draw_panel(
    axes: Axes, points: Sequence[CurvePoint], labels: dict[str, str], colours: dict[str, str]
) -> None:
    curves = {name: values for name in labels if (values := _values(points, name))}
    for name, values in curves.items():
        _draw_curve(axes, values, labels[name], colours, name)
    axes.set_xlabel("step")
    if not any(value < 0 for values in curves.values() for value in values.values()):
        # A policy's loss goes below 0, and is shown there.
        axes.set_ylim(bottom=0)
    if curves:
        axes.legend(frameon=False, labelcolor=colours["ink"])
    else:
        axes.text(0.5, 0.5, "no losses were recorded", ha="center", transform=axes.transAxes)
    _colour(axes, colours["ink"])


def _values(points: Sequence[CurvePoint], name: str) -> dict[int, float]:
    """Return a curve's finite values by step, in order; of one step the last counts."""
    found = {point.step: point.value for point in points if point.name == name}
    return {step: found[step] for step in sorted(found) if math.isfinite(found[step])}


def _draw_curve(
    axes: Axes, values: dict[int, float], label: str, colours: dict[str, str], name: str
) -> None:
    # What is measured on rows held back, and the reward, stand in front.
    is_main = name.startswith("validation_") or name == "reward"
    axes.plot(
        list(values),
        list(values.values()),
        color=colours["validation" if is_main else "train"],
        label=label,
        linewidth=2.0 if is_main else 1.3,
        marker="o" if is_main or len(values) == 1 else "",
        markersize=5,
        zorder=3 if is_main else 2,
    )


def _colour(axes: Axes, ink: str) -> None:
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
