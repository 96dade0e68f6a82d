"""The console that commands print to: texts are shown as they are."""

from __future__ import annotations

from rich.console import Console


def open_console(*, stderr: bool = False) -> Console:
    """Return a console that takes no text for markup.

    A path, a label or a reason may hold ``[/x]`` or ``:x:``; read as markup, the first ends a run
    with an error after it was decided. Style what is printed with `rich.text.Text`.

    Args:
        stderr: Print to standard error, where standard output is for one JSON object.

    Returns:
        The console.
    """
    return Console(stderr=stderr, markup=False, emoji=False)
