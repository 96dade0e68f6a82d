"""Chats: what a model reads and what it is to answer, as text, token ids and loss mask.

Prompt and answer are tokenized apart and then joined, so that a prompt has the same ids in training
and in generation, and the loss mask follows from the lengths. Loss falls on the answer and its end
token alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa

from retune.data.splitting import SIDES
from retune.data.tables import read_rows, write_table
from retune.data.tokenizers import Tokenizer, end_token_ids, load_tokenizer
from retune.digests import digest_folder
from retune.errors import DataError
from retune.recipe.sections import PromptConfig
from retune.records import ChatRef, Side
from retune.requests import ChatInputs, ChatSection
from retune.stage import Workdir

CHAT_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("group", pa.string()),
        ("db_id", pa.string()),
        ("question", pa.string()),
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("answer_ids", pa.list_(pa.int32())),
    ]
)
_ROWS_SHOWN = 5
_TOKENIZED_AT_ONCE = 1024


@dataclass(frozen=True)
class ChatText:
    """One row as text: what is read and what is to be written, end token included."""

    prompt: str
    answer: str


def build_messages(config: PromptConfig, *, question: str, schema: str) -> list[dict[str, str]]:
    """Return the messages before the answer, in the format of chat templates."""
    user = config.user.format(question=question, schema=schema)
    system = [{"role": "system", "content": config.system}] if config.system else []
    return [*system, {"role": "user", "content": user}]


def render_prompt(tokenizer: Tokenizer, messages: Sequence[dict[str, str]]) -> str:
    """Return the text that a model continues with its answer.

    Some templates write more before an answer than their generation prompt has: an empty block of
    thought (Qwen 3), a channel's name (gpt-oss). That is read and not learned: without it a model
    would be scored on words about its answer, not on the answer.
    """
    prompt = str(
        tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
    )
    # Two answers that have no letter in common: what both chats begin with comes before an answer.
    one, other = (_render_whole(tokenizer, messages, answer) for answer in ("0", "1"))
    common = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    )
    return one[:common] if one[:common].startswith(prompt) else prompt


def _render_whole(tokenizer: Tokenizer, messages: Sequence[dict[str, str]], answer: str) -> str:
    chat = [*messages, {"role": "assistant", "content": answer}]
    return str(tokenizer.apply_chat_template(chat, tokenize=False))


def render_chat(
    tokenizer: Tokenizer, messages: Sequence[dict[str, str]], answer: str, end_tokens: Sequence[str]
) -> ChatText:
    """Render a whole chat and cut it into what is read and what is to be written.

    Args:
        tokenizer: Holds the chat template.
        messages: The messages before the answer.
        answer: The reference answer.
        end_tokens: Texts of the tokens that end an answer.

    Returns:
        The two parts. What a template writes after the end token (a newline, say) is dropped: a
        model stops at the end token and would never see it.

    Raises:
        DataError: The template writes a chat that does not begin with its own prompt, or leaves
            out the answer.
    """
    prompt = render_prompt(tokenizer, messages)
    whole = _render_whole(tokenizer, messages, answer)
    if not whole.startswith(prompt):
        raise DataError(
            "The chat template writes a finished chat that does not begin with its own generation "
            f"prompt (…{prompt[-40:]!r}), so no token could be told apart as answer. "
            "Use a template whose prompt is a prefix of the chat."
        )
    written = whole[len(prompt) :]
    if answer.strip() not in written:
        raise DataError(f"The chat template drops the answer: it wrote {written!r:.80}.")
    ends = [written.rfind(token) + len(token) for token in end_tokens if token in written]
    return ChatText(prompt, written[: max(ends)] if ends else written + end_tokens[0])


def format_chat(inputs: ChatInputs, section: ChatSection, work: Workdir) -> ChatRef:
    """Render, tokenize and check every row once, for training and all scoring.

    Args:
        inputs: Split rows, databases, and the base whose tokenizer is used.
        section: The prompt's texts and the length limit.
        work: `<side>/rows.parquet` and `<side>/databases.parquet` go to its artifact folder.

    Returns:
        Counts of rows and tokens.

    Raises:
        DataError: Rows are longer than the limit, or the template does not fit.
    """
    tokenizer = load_tokenizer(inputs.base.folder)
    databases = {row["db_id"]: row for row in read_rows(inputs.rows.folder / "databases.parquet")}
    encoder = _Encoder(tokenizer, inputs.base.folder, section.prompt, databases)
    total = inputs.split.train + inputs.split.validation + inputs.split.test
    done = 0
    chats: dict[Side, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for side in SIDES:
        rows = read_rows(inputs.split.folder / f"{side}.parquet")
        for start in range(0, len(rows), _TOKENIZED_AT_ONCE):
            encoded = encoder.encode(rows[start : start + _TOKENIZED_AT_ONCE])
            chats[side] += encoded
            done += len(encoded)
            work.reporter.progress("rows", done, total)
    _refuse_long_rows(chats, section.prompt.max_length)
    for side in SIDES:
        _write_side(work.artifact / side, chats[side], databases)
    return _describe(chats, work.artifact, inputs.base.tokenizer_digest)


class _Encoder:
    """Turns rows into chats with ids."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        folder: Path,
        config: PromptConfig,
        databases: dict[str, dict[str, Any]],
    ) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.databases = databases
        self.end_ids = end_token_ids(tokenizer, folder)
        self.end_tokens = [str(tokenizer.convert_ids_to_tokens(i)) for i in self.end_ids]

    def encode(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        texts = [self._render(row) for row in rows]
        prompt_ids = self._tokenize([text.prompt for text in texts])
        answer_ids = self._tokenize([text.answer for text in texts])
        return [
            {
                "row_id": row["row_id"],
                "group": row["group"],
                "db_id": row["db_id"],
                "question": row["question"],
                "prompt": text.prompt,
                "answer": row["answer"],
                "prompt_ids": prompt,
                "answer_ids": self._ending(row["row_id"], answer),
            }
            for row, text, prompt, answer in zip(rows, texts, prompt_ids, answer_ids, strict=True)
        ]

    def _render(self, row: dict[str, Any]) -> ChatText:
        schema = self.databases[row["db_id"]]["schema"] if row["db_id"] else ""
        messages = build_messages(self.config, question=row["question"], schema=schema)
        return render_chat(self.tokenizer, messages, row["answer"], self.end_tokens)

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    def _ending(self, row_id: str, answer_ids: list[int]) -> list[int]:
        ends = [place for place, token in enumerate(answer_ids, 1) if token in self.end_ids]
        if ends and ends[0] < len(answer_ids):
            raise DataError(
                f"row {row_id}: its answer holds an end token ({', '.join(self.end_tokens)}) after "
                f"{ends[0] - 1} of {len(answer_ids)} tokens: a model that learned it would stop "
                "there. Mend or delete the row."
            )
        if not ends:
            raise DataError(
                f"row {row_id}: its answer does not end with an end token "
                f"({', '.join(self.end_tokens)}), so a model could never learn to stop. "
                "The tokenizer's end token and its chat template do not fit together."
            )
        return answer_ids


def _refuse_long_rows(chats: dict[Side, list[dict[str, Any]]], max_length: int) -> None:
    lengths = {
        chat["row_id"]: len(chat["prompt_ids"]) + len(chat["answer_ids"])
        for side in SIDES
        for chat in chats[side]
    }
    long = sorted(
        (row for row in lengths if lengths[row] > max_length), key=lambda row: -lengths[row]
    )
    if long:
        shown = ", ".join(f"{row} ({lengths[row]})" for row in long[:_ROWS_SHOWN])
        raise DataError(
            f"{len(long)} of {len(lengths)} rows are longer than prompt.max_length = {max_length} "
            f"tokens, the longest: {shown}. Nothing is cut silently: raise prompt.max_length or "
            "shorten these rows."
        )


def _write_side(
    folder: Path, chats: list[dict[str, Any]], databases: dict[str, dict[str, Any]]
) -> None:
    from retune.data.rows import DATABASE_SCHEMA

    folder.mkdir()
    write_table(folder / "rows.parquet", chats, CHAT_SCHEMA)
    used = sorted({chat["db_id"] for chat in chats if chat["db_id"]})
    write_table(folder / "databases.parquet", [databases[name] for name in used], DATABASE_SCHEMA)


def _describe(
    chats: dict[Side, list[dict[str, Any]]], folder: Path, tokenizer_digest: str
) -> ChatRef:
    answers = sum(len(chat["answer_ids"]) for chat in chats["train"])
    prompts = sum(len(chat["prompt_ids"]) for chat in chats["train"])
    return ChatRef(
        digest=digest_folder(folder),
        folder=folder,
        train=len(chats["train"]),
        validation=len(chats["validation"]),
        test=len(chats["test"]),
        side_digests={side: digest_folder(folder / side) for side in SIDES},
        tokenizer_digest=tokenizer_digest,
        train_tokens=prompts + answers,
        answer_tokens=answers,
        longest_tokens=max(
            len(chat["prompt_ids"]) + len(chat["answer_ids"])
            for side in SIDES
            for chat in chats[side]
        ),
    )
