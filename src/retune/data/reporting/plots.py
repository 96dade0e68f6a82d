"""Plots of a data report: small SVG pictures in the colours of the page around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from retune.data.findings import Lengths
from retune.pages.numbers import percent

if TYPE_CHECKING:
    from markupsafe import Markup

_WIDTH, _HEIGHT = 320, 132
_LEFT, _RIGHT, _TOP, _BOTTOM = 4, 316, 18, 108
_TICKS = 4
_GAP = 1.0


class Bar(NamedTuple):
    """One bar of a chart."""

    name: str
    rows: int
    of: int
    """The rows that a full bar would stand for."""
    tone: str = "bar"
    """Name of its colour on the page."""


def draw_histogram(lengths: Lengths, name: str) -> Markup:
    """Draw how long something is over all rows.

    Every bin is as wide as the next one, whatever stretch of lengths it covers; the edges below
    say which.

    Args:
        lengths: Bins and percentiles.
        name: What is long, for those who cannot see the picture.

    Returns:
        An ``<svg>`` element.
    """
    from markupsafe import Markup

    most = max(lengths.counts, default=0)
    if not most:
        return Markup('<p class="note">no rows</p>')
    parts = [Markup('<text class="mark" x="{}" y="11">{:,} rows</text>').format(_LEFT, most)]
    parts.append(_line("grid", _TOP, _LEFT, _RIGHT))
    parts += [_column(lengths, at, most) for at in range(len(lengths.counts))]
    parts.append(_line("axis", _BOTTOM, _LEFT, _RIGHT))
    parts += _edges(lengths)
    if "p50" in lengths.percentiles:
        at = _place_of(lengths.percentiles["p50"], lengths.edges)
        median = '<line class="median" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
        parts.append(Markup(median).format(at, _TOP, _BOTTOM))
    return Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg>').format(
        f"Histogram of {name}", _WIDTH, _HEIGHT, Markup("").join(parts)
    )


def share_of(bar: Bar) -> float:
    """Return a bar's share of what it is measured by, 0 to 1."""
    return bar.rows / bar.of if bar.of else 0.0


def draw_bars(bars: Sequence[Bar], full: float | None = None) -> Markup:
    """Draw horizontal bars with names and counts.

    Args:
        bars: From the top down.
        full: Share that fills the width, to compare charts; None for the longest bar's.

    Returns:
        A ``<table>`` element, which reads well without the bars too.
    """
    from markupsafe import Markup

    longest = full or max(map(share_of, bars), default=0.0) or 1.0
    line = Markup(
        '<tr><th scope="row">{}</th><td class="length" aria-hidden="true">'
        '<i class="{}" style="width:{:.1f}%"></i></td>'
        '<td class="number">{:,}</td><td class="number soft">{}</td></tr>'
    )
    rows = [
        line.format(
            bar.name,
            bar.tone,
            100 * share_of(bar) / longest,
            bar.rows,
            percent(bar.rows, bar.of),
        )
        for bar in bars
    ]
    return Markup('<table class="bars"><tbody>{}</tbody></table>').format(Markup("").join(rows))


def _column(lengths: Lengths, at: int, most: int) -> Markup:
    from markupsafe import Markup

    step = (_RIGHT - _LEFT) / len(lengths.counts)
    height = (_BOTTOM - _TOP) * lengths.counts[at] / most
    # A bin with one row of ten thousand is still seen.
    height = max(height, 1.0) if lengths.counts[at] else 0.0
    low, high = lengths.edges[at], lengths.edges[at + 1]
    return Markup(
        '<rect class="column" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
        "<title>{:,} to {:,}: {:,} rows</title></rect>"
    ).format(
        _LEFT + at * step,
        _BOTTOM - height,
        max(step - _GAP, 0.5),
        height,
        low,
        high,
        lengths.counts[at],
    )


def _line(kind: str, y: int, left: int, right: int) -> Markup:
    from markupsafe import Markup

    return Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
        kind, left, right, y, y
    )


def _edges(lengths: Lengths) -> list[Markup]:
    from markupsafe import Markup

    bins = len(lengths.counts)
    ticks = sorted({round(tick * bins / _TICKS) for tick in range(_TICKS + 1)})
    texts = []
    for edge in ticks:
        anchor = "start" if edge == 0 else "end" if edge == bins else "middle"
        x = _LEFT + (_RIGHT - _LEFT) * edge / bins
        text = '<text class="mark" x="{:.1f}" y="{}" text-anchor="{}">{:,}</text>'
        texts.append(Markup(text).format(x, _BOTTOM + 15, anchor, lengths.edges[edge]))
    return texts


def _place_of(value: float, edges: Sequence[int]) -> float:
    """Return where a length lies on the axis, between the edges of its bin."""
    bins = len(edges) - 1
    for at in range(bins):
        low, high = edges[at], edges[at + 1]
        if value <= high:
            inside = (value - low) / (high - low) if high > low else 0.5
            return _LEFT + (_RIGHT - _LEFT) * (at + max(inside, 0.0)) / bins
    return float(_RIGHT)
