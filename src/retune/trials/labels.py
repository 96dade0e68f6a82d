"""Where the names of points stand in a picture, so that they cover nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox, BboxBase

Side = Literal["left", "right", "center"]

_MARKER = 10.0
"""Half the width of a point with its ring, in pixels of a figure that is not saved yet."""
_AWAY: dict[Side, float] = {"left": 10, "right": -10, "center": 0}
"""How far beside its point a name begins, ends or is centred, in points."""
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
        axes: Of a figure that is laid out.
        names: One per point; None for one that is not named.
        points: Where they lie.
        ink: Colour of the names.
    """
    from matplotlib.transforms import Bbox

    spots = [axes.transData.transform(point) for point in points]
    taken = [Bbox.from_extents(x, y, x, y).padded(_MARKER) for x, y in spots]
    for name, point in zip(names, points, strict=True):
        if name is None:
            continue
        note = axes.annotate(name, point, (0, 0), textcoords="offset points", va="center")
        note.set(fontsize=9, color=ink, zorder=4, in_layout=False)
        boxes = {place: _box_at(note, place) for place in _PLACES}
        free = (
            place
            for place, box in boxes.items()
            if _is_inside(box, axes.bbox) and not box.count_overlaps(taken)
        )
        taken.append(_box_at(note, next(free, _PLACES[0])))


def _box_at(note: Annotation, place: tuple[Side, float]) -> Bbox:
    """Put a name somewhere, and return the pixels that it covers there."""
    side, up = place
    note.set(ha=side)
    note.xyann = (_AWAY[side], up)
    return note.get_window_extent()


def _is_inside(box: Bbox, outer: BboxBase) -> bool:
    across, up = (outer.x0, box.x0, box.x1, outer.x1), (outer.y0, box.y0, box.y1, outer.y1)
    return list(across) == sorted(across) and list(up) == sorted(up)
