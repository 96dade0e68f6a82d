"""Pairs of answers that people have judged, one JSON object per line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, get_args

from retune.data.jsonl import read_jsonl
from retune.data.reading.locating import locate_source
from retune.errors import DataError
from retune.records import Source
from retune.scoring.judge.wording import Pair, Verdict

KEY = "judge.human_verdicts"
_FIELDS = ("prompt", "answer_a", "answer_b", "verdict")
_SHOWN = 5


class JudgedPair(NamedTuple):
    """A pair and what people say of it.

    Attributes:
        pair: Answer A, then B.
        verdict: Which is better.
    """

    pair: Pair
    verdict: Verdict


def locate_verdicts(path: Path) -> Source:
    """Find a file of pairs that people have judged, and read it through.

    Args:
        path: The file, absolute.

    Returns:
        The file, known by its content.

    Raises:
        DataError: It is not there, or as `load_verdicts` says.
    """
    source = locate_source(path, KEY)
    load_verdicts(source.path)
    return source


def load_verdicts(path: Path) -> list[JudgedPair]:
    """Read pairs that people have judged.

    Args:
        path: A .jsonl file; other fields of its lines are passed over.

    Returns:
        The pairs, in the order of the file.

    Raises:
        DataError: A line lacks a field or has another verdict, or the verdicts are all the same, so
            that no judge could be told from one that always says that.
    """
    found, faults = [], []
    for number, row in read_jsonl(path):
        fault = _find_fault(row)
        if fault:
            faults.append(f"line {number}: {fault}")
        else:
            pair = Pair(row["prompt"], row["answer_a"], row["answer_b"])
            found.append(JudgedPair(pair, row["verdict"]))
    if faults:
        more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        listed = "\n  ".join(faults[:_SHOWN])
        raise DataError(f"{KEY}: {path} has {len(faults)} wrong lines:\n  {listed}{more}")
    kinds = {each.verdict for each in found}
    if len(kinds) < 2:
        said = f"all {len(found)} pairs have the verdict {kinds.pop()}" if kinds else "has no pair"
        raise DataError(
            f"{KEY}: {path}: {said}, so agreement beyond chance is not defined. Expected pairs of "
            "which people prefer now A, now B."
        )
    return found


def _find_fault(row: dict[str, Any]) -> str | None:
    absent = [name for name in _FIELDS if not isinstance(row.get(name), str)]
    if absent:
        return f"{', '.join(absent)}: expected a text, found {row.get(absent[0])!r:.40}"
    if row["verdict"] not in get_args(Verdict):
        return f"verdict: found {row['verdict']!r:.40}, expected a, b or tie"
    return None
