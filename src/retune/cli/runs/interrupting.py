"""Ctrl-C and SIGTERM: a flow ends, on Ctrl-C within a bound, and its exit code says so."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from rich.text import Text

from retune.cli.consoles import open_console
from retune.errors import INTERRUPTED, Interrupted


def bound_interrupt(seconds: float, message: str = INTERRUPTED) -> None:
    """Let Ctrl-C stop the flow that is about to run, and leave when it has not after a while.

    A terminal sends the signal to Prefect's temporary server too; the flow would then wait for
    minutes to report its end to a server that is gone. Leaving loses nothing: stages, checkpoints
    and fetched pages are whole or absent.

    Prefect stops a flow on SIGTERM, as whoever takes a machine away sends it, and then hands the
    signal on: what comes then would be the process's death without a word. It has no bound here:
    whoever sends it has one, after which the process is killed.

    Args:
        seconds: How long the flow may take to end by itself.
        message: What is printed when it does not.
    """

    def leave() -> None:
        console = open_console(stderr=True)
        console.show_cursor(True)
        console.print(Text(message, style="bold red"), soft_wrap=True)
        os._exit(Interrupted.exit_code)

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        bound = threading.Timer(seconds, leave)
        bound.daemon = True
        bound.start()
        raise KeyboardInterrupt

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        raise Interrupted(message)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)
