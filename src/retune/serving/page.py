"""The page at `/`: a person asks the model, and says what was wrong."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastapi import FastAPI, Response

from retune.pages.templates import page_templates
from retune.serving.server import Server
from retune.text_files import read_text_file

PAGE_PATHS = ("/", "/asking.js")
"""They need no key: they hold nothing but the model's name, and the page asks for one."""
_FOLDER = Path(__file__).parent / "templates"
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    # Of a page's own element this policy would not count.
    "Content-Security-Policy": "frame-ancestors 'none'",
}


def add_page(app: FastAPI, server: Server) -> None:
    """Give an application the page.

    Args:
        app: The application.
        server: What it answers for.
    """

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        html = write_page(server.deployment.model.name, feedback=server.log is not None)
        return Response(html, media_type="text/html", headers=_HEADERS)

    @app.get("/asking.js", include_in_schema=False)
    async def script() -> Response:
        return Response(_script(), media_type="text/javascript", headers=_HEADERS)


def write_page(name: str, *, feedback: bool) -> str:
    """Write the page.

    Args:
        name: Of the model.
        feedback: Whether what is said of an answer is kept.

    Returns:
        Its HTML.
    """
    template = page_templates(_FOLDER).get_template("asking.html.j2")
    return template.render(name=name, feedback=feedback)


@cache
def _script() -> str:
    return read_text_file(_FOLDER / "asking.js")
