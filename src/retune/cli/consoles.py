"""The console that commands print to: texts are shown as they are."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from retune.visible_text import visible


class PlainConsole(Console):
    """A console whose texts cannot steer the terminal; rich itself lets escapes in them pass."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as rich does; control signs in texts are written out."""
        if isinstance(renderable, Text) and visible(renderable.plain) != renderable.plain:
            # Before lines are broken, since it takes more room then; its styles had other places.
            renderable = renderable.blank_copy(visible(renderable.plain))
        for segment in super().render(renderable, options):
            # Segments with control codes are rich's own: a cursor that it moves.
            shown = segment.text if segment.control else visible(segment.text)
            yield segment if shown == segment.text else Segment(shown, segment.style)


def open_console(*, stderr: bool = False) -> Console:
    """Return a console that takes no text for markup.

    A path, a label or a reason may hold ``[/x]`` or ``:x:``; read as markup, the first ends a run
    with an error after it was decided; or an escape sequence, which would move the cursor, colour
    or clear the screen, and is written out. Style what is printed with `rich.text.Text`.

    Args:
        stderr: Print to standard error, where standard output is for one JSON object.

    Returns:
        The console.
    """
    return PlainConsole(stderr=stderr, markup=False, emoji=False)
