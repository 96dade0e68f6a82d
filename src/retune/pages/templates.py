"""Pages that people read, from templates: HTML escapes what it is given, Markdown stays in line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.pages import numbers
from retune.visible_text import visible

if TYPE_CHECKING:
    from jinja2 import Environment


def page_templates(folder: Path, **names: Any) -> Environment:
    """Make the environment of a room's templates.

    Args:
        folder: Where they are (`*.html.j2`, `*.md.j2`); a page extends `page.html.j2` of this room.
        **names: What every template may use by name, beside `numbers`.

    Returns:
        The environment; an unknown name in a template is an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=select_autoescape(["html.j2"], default=False),
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(names, numbers=numbers)
    environment.filters["cell"] = as_markdown_cell
    environment.filters["fenced"] = as_code_line
    return environment


def _finalized(value: Any) -> Any:
    # Not of what a template made itself (Markup), which is no plain text.
    return visible(value) if type(value) is str else value


def as_markdown_cell(text: str) -> str:
    """Write a text so that it stays in its cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def as_code_line(text: str) -> str:
    """Write a text as inline code, whatever backticks it holds."""
    line = " ".join(text.split())
    fence = "``" if "`" in line else "`"
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}"
