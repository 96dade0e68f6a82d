"""What is wrong with a recipe: where it stands, what was found; gathered, then reported at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retune.recipe.credentials import masked

KeyPath = tuple[str | int, ...]
_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written.

    Args:
        source: Recipe file as the user named it, or the override (`--set training.epochs`).
        line: Line in the file, from 1; None for an override.
    """

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to repair in a recipe.

    Args:
        place: Where it was written.
        path: Dotted path of the key; empty where none can be named.
        text: What was found and what is expected.
    """

    place: Place
    path: str
    text: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.place), self.path, self.text) if part)


def dotted(path: Sequence[str | int]) -> str:
    """Write a path as a person writes it.

    Args:
        path: Keys and list positions from the top.

    Returns:
        For example `method.target_modules[0]`.
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def shown(value: object) -> str:
    """Describe a value that was found, in the words of YAML.

    Args:
        value: Any value of a recipe.

    Returns:
        A noun phrase; long texts are cut, secrets masked.
    """
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {_cut(repr(value))}"
    if isinstance(value, dict):
        return "a section (keys with values)"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return f"the text {_cut(repr(masked(str(value))))}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def report(source: str, problems: Sequence[Problem]) -> str:
    """List all problems in one message, in the order of the file, overrides last.

    Args:
        source: Recipe file as the user named it.
        problems: At least one problem.

    Returns:
        A heading and one line per problem, without any secret.
    """
    # Overrides have no line: they come after the last line, in the order they were given.
    ordered = sorted(problems, key=lambda each: (each.place.line is None, each.place.line or 0))
    lines = list(dict.fromkeys(f"  {each}" for each in ordered))
    noun = "problem" if len(lines) == 1 else "problems"
    text = masked("\n".join([f"{source} has {len(lines)} {noun}:", *lines]))
    # A lone surrogate, such as that of a byte on the command line, could not be printed.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
