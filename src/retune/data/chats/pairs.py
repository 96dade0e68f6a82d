"""Stage `format_pairs`: pairs of answers as token ids, by the template that rows are written by.

It runs before any training, so that a pair that cannot be learned from costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from retune.data.chats.faults import ChatFault
from retune.data.chats.messages import Message, build_messages
from retune.data.chats.rendering import ChatRenderer, ChatText
from retune.data.chats.thoughts import Thought, split_answer
from retune.data.chats.tokenizers import Tokenizer, end_token_ids, load_tokenizer
from retune.data.chats.tokenizing import encode_chats
from retune.data.preferences import Preference, is_held_back, read_preferences, refuse_lines
from retune.data.stages import PairsInputs, PairsSettings
from retune.data.tables import iterate_rows, write_table
from retune.digests import digest_file, digest_folder
from retune.errors import DataError
from retune.records import LOG_FOLDER, PairsRef, SideRef, Source
from retune.spine.stage import Workdir

PAIRS_FILE = "pairs.parquet"
_SCHEMA = pa.schema(
    [
        ("line", pa.int64()),
        ("validation", pa.bool_()),
        ("prompt", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("chosen_ids", pa.list_(pa.int32())),
        ("rejected_ids", pa.list_(pa.int32())),
    ]
)

Row = dict[str, Any]


def format_pairs(inputs: PairsInputs, settings: PairsSettings, work: Workdir) -> PairsRef:
    """Render and tokenize every pair, and hold some prompts back for measuring.

    Args:
        inputs: The file, the base whose tokenizer is used, its template, and the held-out rows.
        settings: System message, longest row, and the part that is held back.
        work: `pairs.parquet` goes to its artifact folder.

    Returns:
        Counts by side.

    Raises:
        DataError: A line cannot be learned from as it stands: it is no pair, its template refuses
            it, it is too long, or it asks what a held-out row asks; or no pair is left to train on.
    """
    _refuse_changed(inputs.pairs)
    pairs = read_preferences(inputs.pairs.path, inputs.encoding)
    # What was written meanwhile would stand under the key of what was there before.
    _refuse_changed(inputs.pairs)
    rows = _encode(pairs, inputs, settings)
    _refuse_long(rows, settings.max_length, inputs.pairs.path)
    _refuse_held_out(rows, inputs.held_out, inputs.pairs.path)
    for pair, row in zip(pairs, rows, strict=True):
        row["validation"] = is_held_back(pair, settings.validation_fraction)
    held_back = sum(row["validation"] for row in rows)
    _refuse_sides(len(rows), held_back, settings.validation_fraction)
    write_table(work.artifact / PAIRS_FILE, rows, _SCHEMA)
    return PairsRef(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        train=len(rows) - held_back,
        validation=held_back,
        longest_tokens=max(map(_length, rows)),
        tokenizer_digest=inputs.base.tokenizer_digest,
    )


def _refuse_changed(source: Source) -> None:
    if digest_file(source.path) != source.digest:
        raise DataError(f"{source.path}: changed since the run began. Run the recipe again.")


def read_pairs(pairs: PairsRef, *, validation: bool) -> list[Row]:
    """Read the pairs of one side, in the order of their file."""
    rows = iterate_rows(pairs.folder / PAIRS_FILE)
    return [row for row in rows if row["validation"] == validation]


def _encode(pairs: Sequence[Preference], inputs: PairsInputs, settings: PairsSettings) -> list[Row]:
    tokenizer = load_tokenizer(inputs.base.folder, inputs.template)
    ends = [
        str(tokenizer.convert_ids_to_tokens(token))
        for token in end_token_ids(tokenizer, inputs.base.folder)
    ]
    renderer = ChatRenderer(tokenizer, ends, effort=settings.reasoning_effort)
    texts: list[tuple[ChatText, ChatText]] = []
    wrong: list[str] = []
    for pair in pairs:
        try:
            texts.append(_render(renderer, pair, settings.system))
        except ChatFault as fault:
            wrong.append(f"{inputs.pairs.path}:{pair.line}: {fault}")
    refuse_lines(wrong, "cannot be written as chats", len(pairs), "Mend or delete them.")
    return list(_tokenized(tokenizer, pairs, texts))


def _render(
    renderer: ChatRenderer, pair: Preference, system: str | None
) -> tuple[ChatText, ChatText]:
    # A pair's prompt is what the user says, word for word: `prompt.user` is for rows.
    messages = build_messages(
        question=pair.question,
        system=system,
        context=pair.context,
        history=pair.history,
        with_context=renderer.with_context,
    )
    chosen, rejected = (
        _render_answer(renderer, messages, answer) for answer in (pair.chosen, pair.rejected)
    )
    if chosen.prompt != rejected.prompt or chosen.answer == rejected.answer:
        raise ChatFault(
            "malformed_chats", "the chat template writes both answers alike, or another prompt each"
        )
    return chosen, rejected


def _render_answer(renderer: ChatRenderer, messages: list[Message], answer: str) -> ChatText:
    # As rows: thoughts in tags are thoughts where the template has a place for them.
    thought = split_answer(answer) if renderer.abilities.writes_thoughts else Thought(None, answer)
    return renderer.render_chat(messages, thought.answer, thought.thinking)


def _tokenized(
    tokenizer: Tokenizer, pairs: Sequence[Preference], texts: Sequence[tuple[ChatText, ChatText]]
) -> Iterator[Row]:
    chosen, rejected = (encode_chats(tokenizer, [text[at] for text in texts]) for at in range(2))
    for pair, (text, _), better, worse in zip(pairs, texts, chosen, rejected, strict=True):
        yield {
            "line": pair.line,
            "prompt": text.prompt,
            "prompt_ids": better.prompt,
            "chosen_ids": better.answer,
            "rejected_ids": worse.answer,
        }


def _length(row: Row) -> int:
    return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))


def _refuse_long(rows: Sequence[Row], limit: int, path: Path) -> None:
    wrong = [f"{path}:{row['line']}: {_length(row)} tokens" for row in rows if _length(row) > limit]
    refuse_lines(
        wrong,
        f"are over prompt.max_length, {limit} tokens with the longer answer",
        len(rows),
        "No answer is cut: raise prompt.max_length, or delete them.",
    )


def _refuse_held_out(rows: Sequence[Row], held_out: SideRef, path: Path) -> None:
    asked = {row["prompt"] for row in iterate_rows(held_out.folder / "rows.parquet", ["prompt"])}
    wrong = [
        f"{path}:{row['line']}: …{row['prompt'][-60:]!r}" for row in rows if row["prompt"] in asked
    ]
    refuse_lines(
        wrong,
        "have the prompt of a held-out row, whose score would mean nothing any more",
        len(rows),
        "Delete them.",
    )


def _refuse_sides(pairs: int, held_back: int, fraction: float) -> None:
    if held_back == pairs:
        raise DataError(
            f"dpo.pairs: all {pairs} pairs are held back for measuring, and none is left to train "
            "on. Add pairs with other prompts, or lower dpo.validation_fraction."
        )
    if fraction and not held_back:
        raise DataError(
            f"dpo.pairs: none of the {pairs} pairs is held back, though dpo.validation_fraction is "
            f"{fraction:g}: there are too few prompts for it. Add pairs, raise it, or write 0 to "
            "go without measuring."
        )
