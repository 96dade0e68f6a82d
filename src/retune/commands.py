"""Commands that are printed for a person to paste into a shell."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from os import PathLike


def shell_line(*words: str | PathLike[str]) -> str:
    """Write a command so that a shell reads the words it was made of.

    Args:
        words: Program and arguments; a blank, a quote or a bracket in one stays a part of it.

    Returns:
        One line, quoted where a word needs it.
    """
    return shlex.join(str(word) for word in words)


def set_options(overrides: Iterable[str]) -> str:
    """Write overrides of a recipe as options of a command.

    Args:
        overrides: Each ``path=value``.

    Returns:
        Such as ``--set method.r=4 --set 'data.labels=[good, bad]'``.
    """
    return shell_line(*(word for each in overrides for word in ("--set", each)))
