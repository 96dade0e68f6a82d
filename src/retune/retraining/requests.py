"""Stage `read_requests`, and served requests as prompts: what a model would be given for them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pyarrow as pa

from retune.data.chats.faults import ChatFault
from retune.data.chats.messages import Message, build_messages
from retune.data.chats.rendering import ChatRenderer
from retune.data.chats.tokenizers import Tokenizer
from retune.data.findings import BAD_FILE
from retune.data.tables import iterate_rows, write_table
from retune.digests import digest_folder
from retune.records import LOG_FOLDER
from retune.retraining.drift_records import RequestsRef, View
from retune.retraining.request_log import BadLine, iterate_requests, refuse_unreadable
from retune.retraining.stages import LogInputs, LogSettings
from retune.spine.stage import Workdir

REQUESTS_FILE = "requests.parquet"
_SCHEMA = pa.schema(
    [
        ("text", pa.string()),  # null where it is a chat
        ("messages", pa.string()),  # JSON list of turns up to what was asked, or null
        ("label", pa.string()),  # class that was predicted, or null
    ]
)
_PROBE = "\x1f"


class Prompt(NamedTuple):
    """What a model is asked."""

    text: str
    label: str | None


def read_requests(inputs: LogInputs, settings: LogSettings, work: Workdir) -> RequestsRef:
    """Read what the newest lines of a log ask.

    Args:
        inputs: The lines.
        settings: Which key says what was asked.
        work: `requests.parquet` goes to its artifact folder, and the lines that ask nothing to the
            log folder there, each with its place and the reason.

    Returns:
        Counts.

    Raises:
        DataError: No line can be read, or the log was rewritten since it was found.
    """
    bad: list[BadLine] = []
    found = iterate_requests(inputs.log, settings.column, inputs.encoding, bad.append)
    (work.artifact / LOG_FOLDER).mkdir()
    rows = write_table(
        work.artifact / REQUESTS_FILE,
        (
            {
                "text": each.text,
                "messages": None if each.messages is None else json.dumps(each.messages),
                "label": each.label,
            }
            for each in found
        ),
        _SCHEMA,
    )
    if not rows:
        refuse_unreadable(inputs.log, bad)
    with open(work.artifact / BAD_FILE, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(each._asdict(), ensure_ascii=False) + "\n" for each in bad)
    return RequestsRef(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        rows=rows,
        bad_lines=len(bad),
    )


def write_prompts(
    requests: RequestsRef, tokenizer: Tokenizer, view: View, system: str | None
) -> list[Prompt]:
    """Write requests as what a model is given for them.

    A chat is written by the chat template. So is a text, as what a user says behind the recipe's
    system message, where training rows are compared as whole prompts; a text that begins and ends
    as the template begins and ends a prompt is one already, and stays as it is.

    Args:
        requests: As they were served.
        tokenizer: With the chat template in use.
        view: What of a training row the texts are like.
        system: Text of the system message that the recipe has.

    Returns:
        The prompts; a request that the template cannot write is left out.
    """
    writer = _PromptWriter(tokenizer, view, system)
    return [
        Prompt(text, row["label"])
        for row in iterate_rows(requests.folder / REQUESTS_FILE)
        if (text := writer.write(row)) is not None
    ]


class _PromptWriter:
    """Writes requests one by one; a template is looked at once, and only where one is needed."""

    def __init__(self, tokenizer: Tokenizer, view: View, system: str | None) -> None:
        self._tokenizer, self._view, self._system = tokenizer, view, system
        self._renderer: ChatRenderer | None = None
        self._ends: tuple[tuple[str, ...], str] = ((), "")

    def write(self, row: dict[str, Any]) -> str | None:
        text = row["text"]
        if self._view != "prompt":
            return text if text is not None else _last_question(json.loads(row["messages"]))
        if self._renderer is None:
            self._renderer = ChatRenderer(self._tokenizer)
            self._ends = self._find_ends(self._renderer)
        if text is not None and self._is_written(text):
            return str(text)
        try:
            return self._renderer.render_prompt(self._messages(row))
        except ChatFault:
            return None

    def _messages(self, row: dict[str, Any]) -> list[Message]:
        if row["text"] is not None:
            return build_messages(question=row["text"], system=self._system)
        messages: list[Message] = json.loads(row["messages"])
        return messages

    def _find_ends(self, renderer: ChatRenderer) -> tuple[tuple[str, ...], str]:
        user: Message = {"role": "user", "content": _PROBE}
        plain = renderer.render_prompt([user])
        told = renderer.render_prompt([{"role": "system", "content": _PROBE}, user])
        starts = (plain.partition(_PROBE)[0], told.partition(_PROBE)[0])
        return starts, plain.rpartition(_PROBE)[2].strip()

    def _is_written(self, text: str) -> bool:
        starts, end = self._ends
        return bool(end) and text.startswith(starts) and text.rstrip().endswith(end)


def _last_question(messages: list[dict[str, str]]) -> str:
    return next(turn["content"] for turn in reversed(messages) if turn["role"] == "user")
