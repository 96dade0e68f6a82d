"""What a champion and its challenger answered to the same requests, and what people said of it.

A server with `--shadow` and `--log-requests` writes both files; the client saw the champion's
answer, and judged that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from retune.data.jsonl import parse_object
from retune.digests import digest_json
from retune.errors import DataError
from retune.serving.request_log import FEEDBACK_FILE, PAIRS_FILE

Kind = Literal["text", "query", "class"]


class ServedPair(NamedTuple):
    """One request, and what two versions answered.

    Attributes:
        request: Its id.
        question: What was asked, as a digest: requests that ask the same stand or fall together.
        kind: What the answers are.
        script: SQL that makes the tables of a query; empty for none.
        models: Addresses of champion and challenger.
        answers: Of both, in this order.
    """

    request: str
    question: str
    kind: Kind
    script: str
    models: tuple[str, str]
    answers: tuple[str, str]


class Said(NamedTuple):
    """What a person said of the champion's answer.

    Attributes:
        good: Whether it was called good.
        correction: What should have been answered; None where nobody said so.
    """

    good: bool
    correction: str | None


def read_pairs(folder: Path) -> tuple[list[ServedPair], int]:
    """Read the pairs that a server kept.

    Args:
        folder: Of its log.

    Returns:
        The pairs, the oldest first, and how many lines are none, as one that was cut off.

    Raises:
        DataError: There is no such file, it cannot be read, or holds no pair.
    """
    path = folder / PAIRS_FILE
    if not path.is_file():
        raise DataError(
            f"{path} is not there. `retune serve MODEL --shadow PERCENT --log-requests {folder}` "
            "writes it, from the first request on that both versions answered."
        )
    found = [_read(_read_pair, row) for row in _rows(path)]
    pairs = [each for each in found if each is not None]
    if not pairs:
        raise DataError(f"{path}: holds no pair of answers ({len(found)} lines were looked at).")
    return pairs, len(found) - len(pairs)


def read_judgements(folder: Path) -> tuple[dict[str, Said], int]:
    """Read what people said, by the request's id; of several the last counts.

    Args:
        folder: Of a server's log; nobody need have said anything.

    Returns:
        Judgements, and how many lines are none.

    Raises:
        DataError: The file cannot be read.
    """
    path = folder / FEEDBACK_FILE
    found = [_read(_read_said, row) for row in _rows(path)] if path.is_file() else []
    said = [each for each in found if each is not None]
    return dict(said), len(found) - len(said)


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield what the lines hold; an empty object for one that is none."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    for line in lines:
        if not line.strip():
            continue
        try:
            yield parse_object(line)
        except DataError:
            yield {}


def _read(kind: Any, row: Mapping[str, Any]) -> Any:
    try:
        return kind(row)
    except (KeyError, TypeError, ValueError):
        return None


def _read_pair(row: Mapping[str, Any]) -> ServedPair:
    (champion, said), (challenger, answered) = (
        (str(each["model"]), str(each["answer"])) for each in row["answers"]
    )
    asked = row["messages"] if "messages" in row else row["prompt"]
    script = str(row.get("context", ""))
    kind: Kind = "class" if row.get("classes") else "query" if script else "text"
    return ServedPair(
        request=str(row["id"]),
        question=digest_json({"asked": asked}),
        kind=kind,
        script=script,
        models=(champion, challenger),
        answers=(said, answered),
    )


def _read_said(row: Mapping[str, Any]) -> tuple[str, Said]:
    good = {"good": True, "bad": False}[row["rating"]]
    correction = row.get("correction")
    return str(row["id"]), Said(good, None if correction is None else str(correction))
