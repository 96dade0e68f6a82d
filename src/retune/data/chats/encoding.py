"""Stage `format_chat`: every row of one source as a chat, in text, token ids and loss mask.

A prompt has the ids that a server asks with (`tokenizing`), and the loss mask follows from what the
recipe and the row say of loss (`masks`).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from retune.data.chats.databases import SchemaLookup, list_tables
from retune.data.chats.describing import describe_exceptions, describe_prompts
from retune.data.chats.faults import ChatFault, malformed
from retune.data.chats.masks import mask_tokens
from retune.data.chats.messages import build_messages, read_calls, read_tools
from retune.data.chats.rendering import ChatRenderer, ChatText
from retune.data.chats.special_tokens import tell_unknown_tags
from retune.data.chats.thoughts import closes_thought, holds_thought, split_answer
from retune.data.chats.tokenizers import Tokenizer, end_token_ids, load_tokenizer
from retune.data.chats.tokenizing import ChatIds, encode_chats
from retune.data.harmony import parse_harmony
from retune.data.schemas import ENCODED_SCHEMA
from retune.data.stages import EncodeInputs, EncodeSettings
from retune.data.tables import iterate_rows, write_table
from retune.digests import digest_folder
from retune.errors import DataError
from retune.records import LOG_FOLDER, EncodedRef
from retune.spine.stage import Workdir

CHATS_FILE = "chats.parquet"
ENDS_FILE = "ends.json"
"""Ids of the tokens that end an answer, for the audit, which loads no tokenizer."""
_ROWS_AT_ONCE = 512
_ANSWER_HAS_TAGS = re.compile(r"<\|(channel|message)\|>")

Row = dict[str, Any]
Fault = tuple[str, str]


def format_chat(inputs: EncodeInputs, settings: EncodeSettings, work: Workdir) -> EncodedRef:
    """Render and tokenize every row of a source once, for training and all scoring.

    Args:
        inputs: Rows, their databases, the base whose tokenizer is used, and the chat template.
        settings: The prompt's texts, and which tokens carry loss.
        work: `chats.parquet` goes to its artifact folder.

    Returns:
        Counts of rows and tokens. A row that cannot be written keeps its place, with its fault.

    Raises:
        ConfigError: The tokenizer cannot be used, or `loss_on` needs marks that are not there.
        DataError: Every row has the same fault.
    """
    tokenizer = load_tokenizer(inputs.base.folder, inputs.template)
    end_ids = end_token_ids(tokenizer, inputs.base.folder)
    encoder = RowEncoder(
        tokenizer,
        end_ids,
        settings,
        schemas=SchemaLookup(list_tables(inputs.databases, [inputs.rows])),
        plain=inputs.rows.format == "text",
    )
    note = tell_unknown_tags(tokenizer)
    if note and not encoder.plain:
        work.reporter.log(f"format_chat: {note}")
    rows = iterate_rows(inputs.rows.folder / "rows.parquet")
    count = write_table(
        work.artifact / CHATS_FILE,
        _report(encoder.encode_all(rows), work, inputs.rows.rows),
        ENCODED_SCHEMA,
    )
    _refuse_if_all_fail(encoder.faults, count)
    if encoder.control_texts:
        work.reporter.log(
            f"format_chat: {encoder.control_texts} rows hold the text of a control token such as "
            f"{tokenizer.eos_token}; the tokenizer reads it as the token."
        )
    for sentence in describe_exceptions(folded=encoder.folded, apart=encoder.apart):
        work.reporter.log(f"format_chat: {sentence}")
    (work.artifact / ENDS_FILE).write_text(json.dumps(end_ids) + "\n", "utf-8")
    return EncodedRef(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        rows=count,
        tokenizer_digest=inputs.base.tokenizer_digest,
        tokens=encoder.tokens,
        repaired=encoder.repaired,
        folded=encoder.folded,
        apart=encoder.apart,
        prompts=()
        if encoder.plain
        else describe_prompts(encoder.renderer, inputs.template, inputs.base.folder),
    )


def _report(rows: Iterator[Row], work: Workdir, total: int) -> Iterator[Row]:
    for done, row in enumerate(rows, 1):
        if done % _ROWS_AT_ONCE == 0 or done == total:
            work.reporter.progress("rows", done, total)
        yield row


def _refuse_if_all_fail(faults: Counter[Fault], rows: int) -> None:
    if not rows:
        raise DataError("format_chat: no rows to write as chats.")
    (reason, example), count = (faults.most_common(1) or [(("", ""), 0)])[0]
    if count == rows:
        shown = f" For example: {example}." if example else ""
        raise DataError(f"None of the {rows} rows can be written as a chat: {reason}.{shown}")


class RowEncoder:
    """Turns rows into chats with ids and masks, and counts what it meets.

    Args:
        tokenizer: With the chat template in use.
        end_ids: Ids that end an answer.
        settings: The recipe's texts, and which tokens carry loss.
        schemas: CREATE statements by database.
        plain: Whether rows are plain text, without a question.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        end_ids: Sequence[int],
        settings: EncodeSettings,
        *,
        schemas: SchemaLookup,
        plain: bool = False,
    ) -> None:
        self.tokenizer, self.settings, self.schemas, self.plain = (
            tokenizer,
            settings,
            schemas,
            plain,
        )
        self.end_ids = set(end_ids)
        self.end_tokens = [str(tokenizer.convert_ids_to_tokens(i)) for i in end_ids]
        loss_on = "answer" if plain else settings.loss_on
        self.renderer = ChatRenderer(
            tokenizer, self.end_tokens, settings.reasoning_effort, loss_on=loss_on
        )
        self.begin = _begin_token(tokenizer)
        self.control = _control_pattern(tokenizer)
        self.faults: Counter[Fault] = Counter()
        self.tokens = self.repaired = self.control_texts = self.apart = self.folded = 0
        self._examples: dict[str, str] = {}

    def encode_all(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield each row of `rows.parquet` as one of `chats.parquet`, a piece at a time."""
        left = iter(rows)
        while piece := list(islice(left, _ROWS_AT_ONCE)):
            yield from self._encode(piece)

    def _encode(self, rows: Sequence[Row]) -> Iterator[Row]:
        texts = [self._render(row) for row in rows]
        written = [text for text in texts if isinstance(text, ChatText)]
        offsets = any(text.needs_offsets for text in written)
        ids = iter(encode_chats(self.tokenizer, written, offsets=offsets))
        for text in texts:
            if isinstance(text, ChatFault):
                self._count(text)
                yield _encoded("", [], [], None, text)
            else:
                yield self._finish(text, next(ids))

    def _finish(self, text: ChatText, ids: ChatIds) -> Row:
        loss_on = "answer" if self.plain else self.settings.loss_on
        mask = mask_tokens(text, ids, loss_on)
        fault = self._end_fault(ids.answer)
        if fault:
            self._count(fault)
        self.tokens += len(ids.prompt) + len(ids.answer)
        self.repaired += text.repaired
        self.apart += ids.apart
        return _encoded(text.prompt, ids.prompt, ids.answer, mask, fault, repaired=text.repaired)

    def _count(self, fault: ChatFault) -> None:
        example = self._examples.setdefault(fault.reason, fault.detail)
        self.faults[fault.reason, example] += 1

    def _render(self, row: Row) -> ChatText | ChatFault:
        self.control_texts += self.control.search(row["question"] + row["context"]) is not None
        try:
            return self._render_text(row) if self.plain else self._render_chat(row)
        except ChatFault as fault:
            return fault

    def _render_text(self, row: Row) -> ChatText:
        answer = row["answer"] + self.end_tokens[0]
        silent = row.get("learned") is False
        span = (len(self.begin), len(self.begin) + len(answer))
        return ChatText(self.begin, answer, unlearned=(span,) if silent else None)

    def _render_chat(self, row: Row) -> ChatText:
        answer, thinking, repaired = self._read_answer(row)
        calls = read_calls(row.get("calls"))
        if not answer.strip() and not calls:
            raise malformed("its answer is empty" + (" behind its thought" if thinking else ""))
        messages = build_messages(
            question=row["question"],
            system=self.settings.system,
            user=self.settings.user,
            context=row["context"],
            schema=self._schema(row["db_id"]),
            history=row["history"] or (),
            steps=row.get("steps") or (),
            with_context=self.renderer.with_context,
        )
        text = self.renderer.render_chat(
            messages,
            answer,
            thinking,
            calls=calls,
            tools=read_tools(row.get("tools")),
            learned=row.get("learned") is not False,
        )
        if closes_thought(text.prompt) and holds_thought(answer):
            raise malformed(
                "its answer begins with a thought, and the chat template's generation prompt "
                "closes the thought before the answer, so that no served model would think; use a "
                "template that opens thoughts, or delete them from the rows",
                f"prompt: …{text.prompt[-40:]!r}",
            )
        if text.needs_offsets and not self.tokenizer.is_fast:
            raise malformed(
                "the tokenizer does not say which characters its tokens stand for, so that loss "
                "cannot fall on some turns alone; set prompt.loss_on: answer, or save a fast "
                "tokenizer (tokenizer.json)"
            )
        self.folded += self.renderer.folds(messages)
        return replace(text, repaired=repaired or text.repaired)

    def _read_answer(self, row: Row) -> tuple[str, str | None, bool]:
        """Return answer, thinking, and whether a final channel was put back."""
        answer, thinking, repaired = row["answer"], row["thinking"], bool(row.get("repaired"))
        if self.renderer.harmony and _ANSWER_HAS_TAGS.search(answer):
            return _read_tagged(answer, thinking)
        if not self.renderer.abilities.writes_thoughts:
            return answer, thinking, repaired
        thought = split_answer(answer)
        if thought.thinking and thinking and thought.thinking != thinking.strip():
            raise malformed("it has thoughts of its own, and other ones in tags in its answer")
        return thought.answer, thinking or thought.thinking, repaired

    def _schema(self, db_id: str | None) -> str:
        if db_id is None:
            return ""
        schema = self.schemas.find(db_id)
        if schema is None:
            raise ChatFault("malformed_chats", "its database is not known", f"db_id {db_id!r}")
        return schema

    def _end_fault(self, answer_ids: Sequence[int]) -> ChatFault | None:
        ends = [place for place, token in enumerate(answer_ids, 1) if token in self.end_ids]
        if not ends:
            return ChatFault(
                "no_end",
                f"its answer does not end with an end token ({', '.join(self.end_tokens)}), so a "
                "model could never learn to stop: the tokenizer's end token and its chat template "
                "do not fit together",
            )
        if ends[0] < len(answer_ids):
            return ChatFault(
                "no_end",
                f"its answer holds an end token ({', '.join(self.end_tokens)}) in the middle, where"
                " a model that learned it would stop; mend or delete the row",
                f"after {ends[0] - 1} of {len(answer_ids)} tokens",
            )
        return None


def _encoded(
    prompt: str,
    prompt_ids: list[int],
    answer_ids: list[int],
    mask: list[bool] | None,
    fault: ChatFault | None,
    *,
    repaired: bool = False,
) -> Row:
    return {
        "prompt": prompt,
        "prompt_ids": prompt_ids,
        "answer_ids": answer_ids,
        "loss_mask": mask,
        "fault": f"{fault.limit}: {fault}" if fault else None,
        "repaired": repaired,
    }


def _read_tagged(answer: str, thinking: str | None) -> tuple[str, str | None, bool]:
    """Read an answer that brings its own channels, as rows written for gpt-oss do."""
    text = answer if answer.startswith("<|start|>") else f"<|start|>assistant{answer}"
    if not text.rstrip().endswith(("<|end|>", "<|return|>")):
        text += "<|return|>"
    try:
        turns = parse_harmony(text)
    except DataError as error:
        raise ChatFault(
            "malformed_chats", "its channels do not fit together", str(error)
        ) from error
    if [turn["role"] for turn in turns] != ["assistant"]:
        raise ChatFault("malformed_chats", "its answer holds other turns than its own")
    turn = turns[0]
    return turn["content"], turn.get("thinking", thinking), "repaired" in turn


def _begin_token(tokenizer: Tokenizer) -> str:
    """Return what plain text follows on: the begin token, else the end token of the text before.

    Something has to stand there: a model gives no probability to a first token.
    """
    return str(tokenizer.bos_token or tokenizer.eos_token)


def _control_pattern(tokenizer: Tokenizer) -> re.Pattern[str]:
    tokens = sorted(map(str, tokenizer.all_special_tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens)))
