"""A run as a person sees it in a terminal: a line per stage, bars for the long ones."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from retune.watching import StageLine

_NAME_WIDTH = 31


class TerminalWatcher:
    """Prints stages as they finish, and one bar for the stage that runs.

    Args:
        console: Where to print.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar = Progress(
            TextColumn("  {task.description}", style="bold", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[what]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=None, visible=False, what="")

    def __enter__(self) -> TerminalWatcher:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def started(self, label: str, reason: str) -> None:
        """Show a bar without length until the stage reports one."""
        self._bar.reset(
            self._task, total=None, visible=True, description=label, what=_short(reason, 60)
        )

    def progress(self, label: str, what: str, done: int, total: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=min(done, total), total=total, what=what)

    def finished(self, line: StageLine) -> None:
        """Print the stage's line."""
        self._bar.update(self._task, visible=False)
        self.console.print(stage_text(line), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a note."""
        self.console.print(Text(f"  note: {text}", style="yellow"), soft_wrap=True)


def stage_text(line: StageLine, ran: str = "ran") -> Text:
    """Return a stage's line with its state in colour."""
    computed = line.state == "ran"
    style = "green" if computed else "cyan"
    text = Text("  ")
    text.append("+ " if computed else "= ", style=style)
    text.append(f"{line.label:<{_NAME_WIDTH}} ")
    text.append((ran if computed else line.state).ljust(8), style=style)
    text.append(f"{line.seconds:6.1f} s  " if line.seconds else " " * 10)
    text.append(line.reason, style="dim")
    return text


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
