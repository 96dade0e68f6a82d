"""Where the names of points stand in a picture, so that they cover nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The following are in parts of the axes, for names of 9 points in a panel of 5 by 4 inches.
_CHAR = (0.0175, 0.045)
"""Width and height of a letter."""
_MARKER = (0.035, 0.045)
"""Width and height of a point with its ring."""
_POINT = 0.004
"""One typographic point of height."""
_GAP = 0.028
"""From a point to the name beside it."""
Side = Literal["left", "right", "center"]
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""
_PLACES: tuple[tuple[Side, float], ...] = (
    ("left", 0),
    ("right", 0),
    ("left", 12),
    ("left", -12),
    ("right", 12),
    ("right", -12),
    ("center", 16),
    ("center", -16),
    ("left", 24),
    ("left", -24),
)
"""Where a name may stand: how it is aligned to its point, and how far above it, in points."""


def label_points(
    axes: Axes, names: Sequence[str | None], points: Sequence[tuple[float, float]], ink: str
) -> None:
    """Name points, each where its name covers neither a point nor another name.

    Args:
        axes: With its final limits.
        names: One per point; None for one that is not named.
        points: Where they lie.
        ink: Colour of the names.
    """
    spots = [_spot(axes, *point) for point in points]
    taken = [_box_around(*spot, *_MARKER) for spot in spots]
    for name, point, (left, bottom) in zip(names, points, spots, strict=True):
        if name is None:
            continue
        width = _CHAR[0] * len(name)
        boxes = [(side, dy, _box_at(left, bottom, side, dy, width)) for side, dy in _PLACES]
        free = [each for each in boxes if _is_inside(each[2]) and not _hits(each[2], taken)]
        side, dy, box = (free or boxes)[0]
        taken.append(box)
        axes.annotate(
            name,
            point,
            xytext=({"left": 10, "right": -10, "center": 0}[side], dy),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=9,
            color=ink,
            zorder=4,
        )


def _box_around(x: float, y: float, width: float, height: float) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _box_at(x: float, y: float, side: Side, dy: float, width: float) -> Box:
    """Return the box of a name that begins, ends or is centred beside a point."""
    middle = {"left": _GAP + width / 2, "right": -_GAP - width / 2, "center": 0.0}[side]
    return _box_around(x + middle, y + dy * _POINT, width, _CHAR[1])


def _is_inside(box: Box) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= 1 and box[3] <= 1


def _hits(box: Box, taken: Sequence[Box]) -> bool:
    return any(
        box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
        for other in taken
    )


def _spot(axes: Axes, x: float, y: float) -> tuple[float, float]:
    """Return where a point lies in parts of the axes."""
    spot = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
    return float(spot[0]), float(spot[1])
