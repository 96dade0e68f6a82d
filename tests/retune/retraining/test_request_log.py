"""The log of served requests: which lines are looked at, and what they ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retune.errors import DataError
from retune.retraining import request_log
from retune.retraining.request_log import (
    BadLine,
    LogRef,
    Request,
    iterate_requests,
    locate_log,
    read_request,
)


def write_log(path: Path, *lines: Any) -> Path:
    """Write objects, or bytes as they are, a line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines]
    path.write_bytes(b"".join(text + b"\n" for text in texts))
    return path


def ask(*texts: str) -> list[dict[str, str]]:
    return [{"prompt": text} for text in texts]


def locate(path: Path, most: int = 100) -> LogRef | None:
    return locate_log(Path("logs") / path.name, path, most)


def texts_of(path: Path, most: int = 100) -> list[str | None]:
    log = locate(path, most)
    assert log is not None
    return [each.text for each in iterate_requests(log, "prompt", None, pytest.fail)]


@pytest.mark.parametrize("block", [2, 7, 1 << 16])
def test_the_newest_lines_are_read_from_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """As many as are wanted, blank ones left out, however much is read at a time.

    A line longer than a block, a blank line, and one without an end are read as any other.
    """
    monkeypatch.setattr(request_log, "_BLOCK_BYTES", block)
    path = write_log(tmp_path / "a.jsonl", *ask("one", "t" * 40), b"", *ask("three"))
    path.write_bytes(path.read_bytes() + b'{"prompt": "four"}')
    assert texts_of(path, 2) == ["three", "four"]
    assert texts_of(path, 3) == ["t" * 40, "three", "four"]
    assert texts_of(path) == ["one", "t" * 40, "three", "four"]


def test_files_of_a_glob_follow_each_other_by_name(tmp_path: Path) -> None:
    """The last line of the last one is the newest; a file that is not needed is not opened."""
    write_log(tmp_path / "2026-10.jsonl", b"never looked at")
    write_log(tmp_path / "2026-11.jsonl", *ask("a", "b"))
    write_log(tmp_path / "2026-12.jsonl", *ask("c"))
    log = locate(tmp_path / "*.jsonl", 2)
    assert log is not None
    assert [part.path.name for part in log.parts] == ["2026-11.jsonl", "2026-12.jsonl"]
    assert texts_of(tmp_path / "*.jsonl", 2) == ["b", "c"]


def test_what_is_appended_changes_nothing_and_what_is_rewritten_is_refused(tmp_path: Path) -> None:
    """A server writes while the log is read: the lines were settled by their digest."""
    path = write_log(tmp_path / "a.jsonl", *ask("a", "b"))
    log = locate(path)
    assert log is not None
    write_log(path, *ask("a", "b", "c"))
    assert [each.text for each in iterate_requests(log, "prompt", None, pytest.fail)] == ["a", "b"]
    again = locate(path)
    assert again is not None and again.digest != log.digest
    write_log(path, *ask("x", "b", "c"))
    with pytest.raises(DataError, match=r"logs/a\.jsonl was rewritten since the run began"):
        list(iterate_requests(log, "prompt", None, pytest.fail))


def test_a_log_that_begins_later_is_no_error(tmp_path: Path) -> None:
    """Its folder is there: nothing was served yet. A misspelt folder is told."""
    assert locate(tmp_path / "none.jsonl") is None
    assert locate(tmp_path / "*.jsonl") is None
    assert locate(write_log(tmp_path / "empty.jsonl", b"", b"  ")) is None
    with pytest.raises(DataError, match=r"retrain\.triggers\.drift\.log: .*nowhere does not exist"):
        locate(tmp_path / "nowhere" / "a.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        locate(tmp_path)
    with pytest.raises(DataError, match=r"log\.csv does not end in \.jsonl"):
        locate(write_log(tmp_path / "log.csv", b"prompt"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"prompt": "Hi", "label": "a", "latency_ms": 3}, Request("Hi", None, "a")),
        ({"prompt": "Hi", "label": 2}, Request("Hi", None, "2")),
        ({"prompt": "Hi", "label": None}, Request("Hi", None, None)),
        ({"prompt": "a\ud800b"}, Request("a?b", None, None)),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                    {"role": "assistant", "content": "the answer"},
                ]
            },
            Request(
                None,
                [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Hi"},
                ],
                None,
            ),
        ),
    ],
)
def test_what_a_line_asks(line: dict[str, Any], expected: Request) -> None:
    """A text or a chat up to what was asked; other keys are passed over."""
    assert read_request(json.dumps(line).encode(), "prompt", None) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "expected one JSON object"),
        (b"[1]", "found list"),
        (b'{"text": "Hi"}', r"expected prompt \(a text\) or messages \(a chat\), found text"),
        (b'{"prompt": "  "}', "its prompt is blank"),
        (b'{"prompt": 3}', "its prompt is a int"),
        (b'{"messages": []}', "no list of turns"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', "no turn of a user"),
        (b'{"messages": [{"role": "robot", "content": "x"}]}', "no known role"),
        ('{"prompt": "não"}'.encode("cp1252"), r"is not UTF-8; it seems to be in cp1252: write"),
        ('{"prompt": "a"}'.encode("utf-16"), "is not UTF-8; it seems to be in utf-16"),
    ],
)
def test_a_line_that_asks_nothing_says_why(line: bytes, reason: str) -> None:
    """In one sentence, without a place."""
    with pytest.raises(DataError, match=reason):
        read_request(line, "prompt", None)


def test_a_log_may_be_in_the_encoding_of_the_rows(tmp_path: Path) -> None:
    """Line by line: JSON is UTF-8, and an old server may write what the recipe names."""
    lines = ['{"prompt": "não"}'.encode(), '{"prompt": "não"}'.encode("cp1252")]
    log = locate(write_log(tmp_path / "a.jsonl", *lines))
    assert log is not None
    read = [each.text for each in iterate_requests(log, "prompt", "cp1252", pytest.fail)]
    assert read == ["não", "não"]


def test_bad_lines_are_told_with_their_place(tmp_path: Path) -> None:
    """They lose no other."""
    path = write_log(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + b'{"prompt": "a"}', b"oops", *ask("b"))
    log = locate(path)
    assert log is not None
    bad: list[BadLine] = []
    found = list(iterate_requests(log, "prompt", None, bad.append))
    assert [each.text for each in found] == ["a", "b"]
    assert [each.place for each in bad] == [f"{path}:2"]
