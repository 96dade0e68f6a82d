"""Pictures as PNG for files, and as SVG for pages that are light or dark.

Equal figures give equal bytes: no date, no random ids. The text of an SVG stays text, which is
smaller, and takes the colour of the text around it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal
from warnings import catch_warnings, filterwarnings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Colours = Mapping[str, str]
"""By what they are for; ``ink`` is that of text and axes."""


def render_png(figure: Figure, dpi: int = 144) -> bytes:
    """Write a figure on white as a PNG file.

    Args:
        figure: Drawn.
        dpi: Dots per inch of its size.
    """
    return _save(figure, "png", dpi=dpi, facecolor="white")


def render_svg_file(figure: Figure) -> str:
    """Write a figure on white as an SVG file of its own."""
    return _without_metadata(_save(figure, "svg", facecolor="white").decode("utf-8"))


def render_svg(draw: Callable[[Colours], Figure], colours: Colours, name: str) -> str:
    """Draw a picture for a page that is light or dark.

    Args:
        draw: Draws it in given colours.
        colours: What CSS calls them, such as ``var(--train)``.
        name: What the picture shows, for those who cannot see it.

    Returns:
        An ``<svg>`` element, as wide as the page lets it be.
    """
    # Colours that nothing else has stand for those that only the page knows.
    markers = {each: f"#0101{place:02x}" for place, each in enumerate(colours, 1)}
    text = _save(draw(markers), "svg", transparent=True).decode("utf-8")
    text = _without_metadata(text[text.index("<svg") :])
    for each, marker in markers.items():
        # Only inside a tag: a label may be called like a colour.
        text = re.sub(rf"(?<=: ){marker}(?=[^<>]*>)", colours[each], text)
    # Comments and the list of fonts at each text would be most of the bytes.
    text = re.sub(r"\s*<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"font-family: [^;\"]*; ", "font-family: sans-serif; ", text)
    head, rest = text.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    return head.replace("<svg", f'<svg role="img" aria-label="{name}"', 1) + ">" + rest


def style_axes(axes: Axes, ink: str, grid: Literal["y", "both"] = "y") -> None:
    """Draw axes in one colour, with a faint grid and no frame around them.

    Args:
        axes: With all of their texts.
        ink: The colour.
        grid: Which lines the grid has.
    """
    axes.grid(axis=grid, color=ink, alpha=0.13)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=ink)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(ink)
    for text in (axes.xaxis.label, axes.yaxis.label, *axes.texts):
        text.set_color(ink)


def _save(figure: Figure, kind: Literal["png", "svg"], **options: Any) -> bytes:
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "retune", "svg.fonttype": "none"}), catch_warnings():
        # A sign that the font lacks is a box in the picture, and no matter for the terminal.
        filterwarnings("ignore", message="Glyph")
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, metadata=metadata, **options)
    return buffer.getvalue()


def _without_metadata(text: str) -> str:
    # It names two addresses, and a page has none.
    return re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
