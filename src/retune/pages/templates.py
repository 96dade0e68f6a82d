"""Pages that people read, from templates: what they are given is text, in HTML and in Markdown.

Markdown is shown by viewers that let HTML through, such as those of hubs and of Prefect. What is
Markdown already goes through the filter `safe`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from retune.pages import numbers
from retune.visible_text import visible

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.nodes import EvalContext

_BACKTICKS = re.compile("`+")


def page_templates(folder: Path, **names: Any) -> Environment:
    """Make the environment of a room's templates.

    Args:
        folder: Where they are (`*.html.j2`, `*.md.j2`); a page extends `page.html.j2` of this room.
        **names: What every template may use by name, beside `numbers`.

    Returns:
        The environment; an unknown name in a template is an error.
    """
    from jinja2 import (
        Environment,
        FileSystemLoader,
        StrictUndefined,
        pass_eval_context,
        select_autoescape,
    )

    @pass_eval_context
    def finalized(context: EvalContext, value: Any) -> Any:
        # Not of what is marked as written for the page (Markup), which is a kind of str.
        if type(value) is not str:
            return value
        return visible(value) if context.autoescape else as_markdown(value)

    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]),
        autoescape=select_autoescape(["html.j2"], default=False),
        undefined=StrictUndefined,
        finalize=finalized,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(names, numbers=numbers)
    environment.filters["cell"] = as_markdown_cell
    environment.filters["fenced"] = as_code_line
    return environment


def policy_source(script: str) -> str:
    """Return how a page's policy names the one script that may run in it: by its content.

    Args:
        script: All that stands between its tags.
    """
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def as_markdown(text: str) -> str:
    """Write a text so that Markdown reads no tag, link or picture in it; brackets stay readable."""
    text = visible(text).replace("<", "&lt;").replace("![", "!\\[")
    return text.replace("](", "]\\(").replace("]:", "]\\:")


def as_markdown_cell(text: str) -> Markup:
    """Write a text so that it stays in its cell of a Markdown table."""
    return Markup(as_markdown(" ".join(str(text).split())).replace("|", "\\|"))


def as_code_line(text: str) -> Markup:
    """Write a text as inline code, whatever backticks it holds."""
    line = visible(" ".join(str(text).split()))
    fence = "`" * (1 + max(map(len, _BACKTICKS.findall(line)), default=0))
    pad = " " if "`" in line else ""
    return Markup(f"{fence}{pad}{line}{pad}{fence}")
