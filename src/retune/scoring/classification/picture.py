"""A confusion matrix as a picture: PNG for files, SVG for pages.

One row per gold label, one column per predicted label, and one more for unparsable answers. The
number in a cell counts rows; its colour is stronger the larger its share of its gold label's rows,
blue where right and orange where wrong, so that a rare label shows as much as a frequent one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from retune.errors import ScoringError
from retune.pages.pictures import Colours, render_png, render_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNPARSABLE_COLUMN = "(no label)"
_FILE_COLOURS = {"ink": "#2b343d", "right": "#8aa4bf", "wrong": "#e07b45"}
# The page may name its own colours; these are readable on light and dark.
_PAGE_COLOURS = {
    "ink": "currentColor",
    "right": "var(--right, #7b97b5)",
    "wrong": "var(--wrong, #e07b45)",
}
_MOST_CHARS = 22  # of a label's name
_STRONGEST = 0.75  # opacity of a full cell, under which its number stays readable


def draw_confusion_png(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> bytes:
    """Draw a confusion matrix on white.

    Args:
        confusion: One row per gold label, one column per predicted label and unparsable last.
        labels: The labels' names.

    Returns:
        A PNG file.

    Raises:
        ScoringError: The matrix has not one row per label, or not one column more than labels.
    """
    return render_png(_draw(confusion, labels, _FILE_COLOURS))


def draw_confusion_svg(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Draw a confusion matrix for a page that is light or dark.

    Args:
        confusion: One row per gold label, one column per predicted label and unparsable last.
        labels: The labels' names.

    Returns:
        An ``<svg>`` element whose cells have the colours ``var(--right)`` and ``var(--wrong)``
        where the page sets them, and whose text has the colour of the text around it.

    Raises:
        ScoringError: The matrix has not one row per label, or not one column more than labels.
    """
    name = "Confusion matrix: gold labels by predicted labels"
    return render_svg(partial(_draw, confusion, labels), _PAGE_COLOURS, name)


def _draw(confusion: Sequence[Sequence[int]], labels: Sequence[str], colours: Colours) -> Figure:
    from matplotlib.figure import Figure

    n = len(labels)
    if n == 0 or [len(row) for row in confusion] != [n + 1] * n:
        raise ScoringError(
            f"Found a confusion matrix with rows of {[len(row) for row in confusion]} cells; "
            f"expected {n} rows of {n + 1}: one column per label, and unparsable last."
        )
    # With nothing unparsable the column would be empty: a picture has less to read without it.
    columns = n + (1 if any(row[n] for row in confusion) else 0)
    cell = max(0.36, min(0.9, 5.4 / n))
    figure = Figure(figsize=(cell * columns + 2.6, cell * n + 1.9), layout="constrained")
    axes = figure.add_subplot()
    for at, row in enumerate(confusion):
        _draw_row(axes, at, row[:columns], colours, size=_font_size(cell, confusion))
    _name_sides(axes, labels, columns, colours["ink"], room=int(cell / 0.09))
    return figure


def _draw_row(axes: Axes, at: int, counts: Sequence[int], colours: Colours, *, size: float) -> None:
    from matplotlib.patches import Rectangle

    support = sum(counts)
    for column, count in enumerate(counts):
        if not count:
            continue
        colour = colours["right" if column == at else "wrong"]
        # The root, or a label that is mistaken for twenty others would show nothing at all.
        alpha = round(_STRONGEST * math.sqrt(count / support), 3)
        edge = (column - 0.48, at - 0.48)
        cell = Rectangle(edge, 0.96, 0.96, facecolor=colour, alpha=alpha, linewidth=0)
        axes.add_patch(cell).set_clip_on(False)
        axes.text(
            column, at, f"{count:,}", ha="center", va="center", size=size, color=colours["ink"]
        )


def _name_sides(axes: Axes, labels: Sequence[str], columns: int, ink: str, *, room: int) -> None:
    """Write the labels at both sides, aslant where one has more characters than `room`."""
    names = [_shorten(label) for label in labels]
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.set_xlabel("predicted", color=ink)
    axes.set_ylabel("gold", color=ink, labelpad=8)
    across = [*names, UNPARSABLE_COLUMN][:columns]
    aslant: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    turned = aslant if max(map(len, across)) > room else {}
    # A label with `$` would be read as a formula.
    axes.set_xticks(range(columns), across, parse_math=False, **turned)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(colors=ink, length=0, labelsize=8 if columns > 15 else 9)
    for spine in axes.spines.values():
        spine.set_color(ink)
        spine.set_alpha(0.3)


def _font_size(cell: float, confusion: Sequence[Sequence[int]]) -> float:
    """Return the points at which the longest number fits into a cell (inches)."""
    digits = max(len(f"{count:,}") for row in confusion for count in row)
    return max(4.0, min(11.0, 72 * cell * 0.9 / (0.62 * max(digits, 2))))


def _shorten(label: str) -> str:
    shown = "".join(sign if sign.isprintable() else " " for sign in label)
    return shown if len(shown) <= _MOST_CHARS else shown[: _MOST_CHARS - 1] + "…"
