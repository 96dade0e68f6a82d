"""What was asked and answered, kept for the loop: opt-in, sampled, redacted, bounded.

A line is a chat as the model was sent it, with its answer behind: what the trigger `drift` reads.
What clients say of an answer goes to a file of its own, and an answer that they corrected becomes
a row that `data.train` reads. Secrets and personal data are taken out before anything is written.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from retune.data.quality.sensitive import redact
from retune.serving.messages import Ask, Asked, ServedModel

FEEDBACK_FILE = "feedback.jsonl"
CORRECTIONS_FILE = "corrections.jsonl"
SQL_CORRECTIONS_FILE = "corrections-sql.jsonl"
LABEL_CORRECTIONS_FILE = "corrections-labels.jsonl"
PAIRS_FILE = "pairs.jsonl"
_REMEMBERED = 10_000
"""Requests that can still be judged."""
_REMEMBERED_BYTES = 1 << 26
"""Of them all: a body may have a megabyte."""
_JUDGEMENTS = 10
"""Of one request; a client that errs may say so, and no client fills the disk with one id."""
_DIGITS = 8

Turns = list[dict[str, str]]
Judged = Literal["kept", "unknown", "often", "full"]
"""What became of a judgement: `full` where its file has as many bytes as all files of requests."""


class _Kept(NamedTuple):
    line: dict[str, Any]
    asked: Turns | None
    question: Asked | None
    """What was asked, where the server put it into words."""
    size: int
    judged: int = 0


class RequestLog:
    """Writes files ``requests-00000001.jsonl`` and so on into a folder.

    Args:
        folder: Made when missing.
        share: Part of the requests that are kept, from 0 to 1.
        file_bytes: From which size on a new file is begun.
        files: Most files of requests; the oldest goes. What clients say has as many bytes, and is
            refused beyond them: a correction is a training row, which nothing may take away.
    """

    def __init__(self, folder: Path, share: float, file_bytes: int, files: int) -> None:
        self._folder, self._share = folder, share
        self._file_bytes, self._files = file_bytes, files
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._kept_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)

    def keeps(self, request: str) -> bool:
        """Tell whether a request belongs to the sample: by its id, whose digits are of chance."""
        return bool(int(request[:_DIGITS], 16) < self._share * 16**_DIGITS)

    def write(self, ask: Ask, model: ServedModel, answer: str | None, label: str | None) -> None:
        """Keep a request, if it belongs to the sample.

        Args:
            ask: The request; one of token ids has no text, and is not kept.
            model: Who answered.
            answer: What was written; None of a head.
            label: The class that a head found; None of a model that writes.

        Raises:
            OSError: It cannot be written.
        """
        if not self.keeps(ask.id) or (ask.messages is None and ask.prompt is None):
            return
        line: dict[str, Any] = {
            "id": ask.id,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": model.address,
        }
        asked: Turns | None = None
        if ask.messages is None:
            line |= {"prompt": redact(ask.prompt or ""), "answer": redact(answer or "")}
        else:
            asked = [{**turn, "content": redact(turn["content"])} for turn in ask.messages]
            line |= {"messages": [*asked, *([] if answer is None else [_turn(answer)])]}
        line |= {} if label is None else {"label": label}
        with self._lock:
            self._append(self._current(), line)
            self._remember(ask.id, line, asked, _redacted(ask.asked))

    def pair(self, ask: Ask, answers: dict[str, str]) -> None:
        """Keep what two versions answered to one request of the sample, while there is room.

        Args:
            ask: The request.
            answers: By the address of who answered, a text or a class; the champion's first.

        Raises:
            OSError: It cannot be written.
        """
        if not self.keeps(ask.id) or (ask.messages is None and ask.prompt is None):
            return
        asked: dict[str, Any] = (
            {"prompt": redact(ask.prompt or "")}
            if ask.messages is None
            else {
                "messages": [{**turn, "content": redact(turn["content"])} for turn in ask.messages]
            }
        )
        # By what is right, two answers can be told apart later: queries on the tables asked about.
        if ask.asked is not None and ask.asked.script:
            asked["context"] = redact(ask.asked.script)
        if ask.classify:
            asked["classes"] = True
        told = [{"model": model, "answer": redact(text)} for model, text in answers.items()]
        with self._lock:
            path = self._folder / PAIRS_FILE
            if not self._is_full(path):
                self._append(path, {"id": ask.id, **asked, "answers": told})

    def judge(self, request: str, rating: str, correction: str | None) -> Judged:
        """Keep what a client says of an answer.

        Args:
            request: Id of the request.
            rating: ``good`` or ``bad``.
            correction: What should have been answered; becomes a row unless a text was continued.

        Returns:
            ``kept``; ``unknown`` where it was not in the sample, or too long ago; ``often`` or
            ``full`` where nothing more is kept.

        Raises:
            OSError: It cannot be written.
        """
        feedback = self._folder / FEEDBACK_FILE
        with self._lock:
            kept = self._kept.get(request)
            if kept is None:
                return "unknown"
            if kept.judged >= _JUDGEMENTS:
                return "often"
            file, corrected = _as_row(kept, request, redact(correction or ""))
            if any(self._is_full(path) for path in (feedback, self._folder / file)):
                return "full"
            told = {} if correction is None else {"correction": redact(correction)}
            self._append(feedback, {**kept.line, "rating": rating, **told})
            if correction is not None and kept.asked is not None:
                self._append(self._folder / file, corrected)
            self._kept[request] = kept._replace(judged=kept.judged + 1)
            return "kept"

    def _remember(
        self, request: str, line: dict[str, Any], asked: Turns | None, question: Asked | None
    ) -> None:
        size = len(json.dumps(line)) + (len(question.model_dump_json()) if question else 0)
        self._kept[request] = _Kept(line, asked, question, size)
        self._kept_bytes += size
        while len(self._kept) > _REMEMBERED or self._kept_bytes > _REMEMBERED_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.size

    def _is_full(self, path: Path) -> bool:
        return path.is_file() and path.stat().st_size >= self._file_bytes * self._files

    def _current(self) -> Path:
        found = sorted(self._folder.glob("requests-*.jsonl"))
        if not found:
            return self._folder / f"requests-{1:0{_DIGITS}}.jsonl"
        if found[-1].stat().st_size < self._file_bytes:
            return found[-1]
        for old in found[: max(0, len(found) + 1 - self._files)]:
            old.unlink()
        number = int(found[-1].stem.partition("-")[2]) + 1
        return self._folder / f"requests-{number:0{_DIGITS}}.jsonl"

    def _append(self, path: Path, line: dict[str, Any]) -> None:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _as_row(kept: _Kept, request: str, correction: str) -> tuple[str, dict[str, Any]]:
    """Return a corrected answer as a row that a recipe reads, and the file of its layout.

    What the server put into words is a row as it was asked: whoever trains on it puts it into the
    words of `prompt.user` again. Rows of one request belong to one side of a split, however often
    it is corrected, and each has an id of its own.
    """
    named = {"id": f"{request}-{kept.judged + 1}", "group": request}
    question = kept.question
    if question is not None and "label" in kept.line:
        return LABEL_CORRECTIONS_FILE, {**named, "text": question.question, "label": correction}
    if question is not None and question.script:
        row = {"question": question.question, "context": question.script, "query": correction}
        return SQL_CORRECTIONS_FILE, {**named, **row}
    asked = kept.asked or []
    if question is not None:
        asked = [*asked[:-1], {**asked[-1], "content": question.question}]
    return CORRECTIONS_FILE, {**named, "messages": [*asked, _turn(correction)]}


def _redacted(asked: Asked | None) -> Asked | None:
    if asked is None:
        return None
    return Asked(question=redact(asked.question), script=redact(asked.script))


def _turn(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": redact(text)}
