"""Pictures of a training over its steps, as PNG for files and SVG for pages.

One panel has the losses; a second one what else was measured, where something was: the score of the
task that was watched, preferences, or rewards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from retune.pages.pictures import Colours, render_png, render_svg, style_axes
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

_FILE_COLOURS = {"ink": "#44505c", "train": "#8aa4bf", "validation": "#c2410c"}
_PAGE_COLOURS = {"ink": "currentColor", "train": "var(--train)", "validation": "var(--validation)"}
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
    return render_png(_draw(points, _FILE_COLOURS))


def draw_svg(points: Sequence[CurvePoint]) -> str:
    """Draw a training for a page that is light or dark.

    Args:
        points: Of any curves; those of `LOSSES` and `FIGURES` are drawn.

    Returns:
        An ``<svg>`` element whose lines have the colours ``var(--train)`` and
        ``var(--validation)``, and whose text has the colour of the text around it.
    """
    name = "What was measured over the training steps"
    return render_svg(partial(_draw, points), _PAGE_COLOURS, name)


def _draw(points: Sequence[CurvePoint], colours: Colours) -> Figure:
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
    axes: Axes, points: Sequence[CurvePoint], labels: dict[str, str], colours: Colours
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
    style_axes(axes, colours["ink"])


def _values(points: Sequence[CurvePoint], name: str) -> dict[int, float]:
    """Return a curve's finite values by step, in order; of one step the last counts."""
    found = {point.step: point.value for point in points if point.name == name}
    return {step: found[step] for step in sorted(found) if math.isfinite(found[step])}


def _draw_curve(
    axes: Axes, values: dict[int, float], label: str, colours: Colours, name: str
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
