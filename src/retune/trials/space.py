"""What a sweep varies: lists of values (``--grid``) and ranges (``--range``), read and checked."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence

from retune.errors import ConfigError
from retune.recipe.document import Document, parse_value
from retune.records import Record
from retune.trials.trials import Trial

MOST_POINTS = 64
"""More points than that are refused; nobody means to train so often by a typing slip."""
_RANGE = re.compile(r"^(?P<low>[^:]+?)\.\.(?P<high>[^:]+?)(?P<log>:log)?$")


class Choice(Record):
    """One setting and the values that it takes."""

    path: str
    values: tuple[str, ...]
    """As they are written in YAML."""


class Range(Record):
    """One setting between two numbers, both included."""

    path: str
    low: float
    high: float
    log: bool
    whole: bool
    """Whether it takes whole numbers alone."""


Axis = Choice | Range


def read_choice(text: str) -> Choice:
    """Read ``method.r=4,8,16``; commas inside brackets and quotes belong to a value.

    Args:
        text: What stands after ``--grid``.

    Returns:
        The setting and its values, each once.

    Raises:
        ConfigError: It has not that form, or no value.
    """
    path, values_text = _parted(text, "--grid", "--grid method.r=4,8,16")
    values = [value.strip() for value in _split(values_text)]
    if not values or not all(values):
        raise ConfigError(
            f"--grid {text}: a value is empty; expected a list such as --grid {path}=4,8,16"
        )
    for value in values:
        _refuse_broken(value, path)
    return Choice(path=path, values=tuple(dict.fromkeys(values)))


def read_range(text: str) -> Range:
    """Read ``training.learning_rate=1e-4..1e-2:log``.

    Args:
        text: What stands after ``--range``.

    Returns:
        The setting and its ends; whole numbers where both ends are.

    Raises:
        ConfigError: It has not that form, an end is no number, or the ends make no range.
    """
    example = "--range training.learning_rate=1e-4..1e-2:log"
    path, written = _parted(text, "--range", example)
    found = _RANGE.match(written.strip())
    if found is None:
        raise ConfigError(f"--range {text}: expected low..high or low..high:log, as in {example}")
    ends = []
    for end in (found["low"], found["high"]):
        try:
            ends.append(float(end))
        except ValueError:
            raise ConfigError(
                f"--range {text}: {end.strip()} is no number; as in {example}"
            ) from None
    low, high = ends
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"--range {text}: expected the smaller end first, as in {example}")
    if found["log"] and low <= 0:
        raise ConfigError(f"--range {text}: a logarithmic range starts above 0")
    whole = all(re.fullmatch(r"\s*[+-]?\d+\s*", found[end]) for end in ("low", "high"))
    return Range(path=path, low=low, high=high, log=bool(found["log"]), whole=whole)


def read_axes(grid: Sequence[str], ranges: Sequence[str]) -> tuple[Axis, ...]:
    """Read all axes of a sweep.

    Args:
        grid: Texts of ``--grid``.
        ranges: Texts of ``--range``.

    Returns:
        The axes, lists first.

    Raises:
        ConfigError: There is none, one is malformed, or two are over one setting.
    """
    axes: list[Axis] = [read_choice(text) for text in grid]
    axes += [read_range(text) for text in ranges]
    if not axes:
        raise ConfigError(
            "Nothing to vary: name at least one setting, as in --grid method.r=4,8,16"
        )
    paths = [axis.path for axis in axes]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise ConfigError(f"{', '.join(twice)} is varied twice; put all its values into one list")
    return tuple(axes)


def plan_grid(axes: Sequence[Axis], overrides: Sequence[str] = ()) -> list[Trial]:
    """Make one trial per point of a grid.

    Args:
        axes: Lists of values.
        overrides: Settings that all trials share.

    Returns:
        The trials, the last axis changing fastest.

    Raises:
        ConfigError: An axis is a range, or the grid has one point or too many.
    """
    choices = [axis for axis in axes if isinstance(axis, Choice)]
    if len(choices) != len(axes):
        raise ConfigError(
            "--range has no points of its own: add --search random or tpe, --trials N"
        )
    points = math.prod(len(axis.values) for axis in choices)
    if points < 2:
        raise ConfigError(
            "The grid has one point, so there is nothing to compare: give a list several values, "
            "or train it with `retune run --set`."
        )
    if points > MOST_POINTS:
        raise ConfigError(
            f"The grid has {points} points; at most {MOST_POINTS} are trained one by one. Shorten "
            "the lists, or draw from them: --search tpe --trials 20."
        )
    return [
        name_point(choices, point, overrides)
        for point in itertools.product(*(axis.values for axis in choices))
    ]


def probe_points(axes: Sequence[Axis], overrides: Sequence[str]) -> list[Trial]:
    """Make trials that show whether a search could start: each value, and each end of a range.

    Args:
        axes: What the search draws from.
        overrides: Settings that all trials share.

    Returns:
        A few trials; none is run.

    Raises:
        ConfigError: There is one point alone.
    """
    ends = [
        axis.values
        if isinstance(axis, Choice)
        else (write_number(axis, axis.low), write_number(axis, axis.high))
        for axis in axes
    ]
    longest = max(map(len, ends))
    if longest < 2:
        raise ConfigError(
            "The search has one point, so there is nothing to compare: give a --grid several "
            "values, or add a --range."
        )
    return [
        name_point(axes, [values[min(place, len(values) - 1)] for values in ends], overrides)
        for place in range(longest)
    ]


def name_point(axes: Sequence[Axis], point: Sequence[str], overrides: Sequence[str]) -> Trial:
    """Make the trial of one point; its name says the values.

    Args:
        axes: What is varied.
        point: One value per axis, in YAML.
        overrides: Settings that all trials share.

    Returns:
        A trial such as ``r=8 learning_rate=0.001``.
    """
    paths = [axis.path for axis in axes]
    settings = [f"{path}={value}" for path, value in zip(paths, point, strict=True)]
    names = [f"{_short(path, paths)}={value}" for path, value in zip(paths, point, strict=True)]
    return Trial(name=" ".join(names), overrides=(*overrides, *settings))


def write_number(axis: Range, value: float) -> str:
    """Write a number of a range as YAML; four digits are enough for any setting."""
    return str(round(value)) if axis.whole else repr(float(f"{value:.4g}"))


def _short(path: str, paths: Sequence[str]) -> str:
    last = path.rpartition(".")[2]
    alike = [other for other in paths if other.rpartition(".")[2] == last]
    return last if len(alike) == 1 else path


def _parted(text: str, option: str, example: str) -> tuple[str, str]:
    path, equals, values = text.partition("=")
    if not (equals and path.strip() and values.strip()):
        raise ConfigError(f"{option} {text}: expected a setting and its values, as in {example}")
    return path.strip(), values


def _split(text: str) -> list[str]:
    """Split at commas that stand outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        if sign == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _refuse_broken(value: str, path: str) -> None:
    keys = tuple(path.split("."))
    try:
        parse_value(value, keys, Document(f"--grid {path}"))
    except ConfigError as error:
        raise ConfigError(
            f"--grid {path}: {value} is broken YAML; put a list in brackets, and all of it in the "
            f"quotes of the shell: --grid '{path}=[q_proj,v_proj],all-linear'"
        ) from error
