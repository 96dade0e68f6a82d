"""The audit of the masks: what is wrong with a row's prompt, its target, and where loss falls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retune.data.chats.masks import find_stretches
from retune.data.quality.sensitive import redact_values

FAULTS = (
    "no_target",
    "cut_targets",
    "no_end",
    "prompt_loss",
    "answer_in_prompt",
    "malformed_chats",
)
LEFT_OUT = frozenset({"no_target", "cut_targets", "no_end", "malformed_chats"})
"""Faults whose rows nothing can be learned from. The others are for `limits` to judge."""
MIN_ANSWER_CHARACTERS = 16
"""A shorter answer (a label, a number) may stand in a prompt by chance."""
_TURN_TAGS_CHARACTERS = 64
"""Most that a template writes around a turn: gpt-oss writes 51."""
_SHOWN_TOKENS = 24
_AROUND = 40

Ids = np.ndarray
Row = Mapping[str, Any]


@dataclass(frozen=True)
class AuditRules:
    """What the rows are held against.

    Attributes:
        max_length: Most tokens of prompt and answer.
        end_ids: Ids that end an answer.
        decode: Ids to text, control tokens included.
        assistant_may: Whether earlier turns of the assistant may carry loss.
        earlier_suffice: Whether a row may teach by its earlier turns alone. On a side that is
            scored it may not: there is no other answer to hold a model's against.
    """

    max_length: int
    end_ids: frozenset[int]
    decode: Callable[[Sequence[int]], str]
    assistant_may: bool
    earlier_suffice: bool = False


def audit_row(
    row: Row, prompt_ids: Ids, answer_ids: Ids, mask: Ids | None, rules: AuditRules
) -> dict[str, dict[str, Any]]:
    """Look at one row.

    Args:
        row: question, context, history, answer, learned, db_id, prompt, fault.
        prompt_ids: ``(prompt tokens,)``.
        answer_ids: ``(answer tokens,)``.
        mask: Which of both carry loss; None for the answer alone.
        rules: What it is held against.

    Returns:
        What was found, by fault; empty for a sound row. Secrets and personal data are redacted.
    """
    found: dict[str, dict[str, Any]] = {}
    if row["fault"]:
        limit, _, text = row["fault"].partition(": ")
        found[limit] = {"reason": text}
        if limit == "malformed_chats":
            return found
    learned = answer_ids if mask is None else answer_ids[mask[len(prompt_ids) :]]
    # Only where the row itself says so: otherwise marks that miss the answer are wrong ones.
    kept_out = row.get("learned") is False and mask is not None
    teaches_before = mask is not None and bool(mask[: len(prompt_ids)].any())
    if not (rules.earlier_suffice and kept_out and teaches_before):
        _check_target(found, answer_ids, learned, rules)
    length = len(prompt_ids) + len(answer_ids)
    if length > rules.max_length:
        found["cut_targets"] = _cut(prompt_ids, answer_ids, rules)
    stretch = None if mask is None else _prompt_loss(row, prompt_ids, mask, rules)
    if stretch:
        found["prompt_loss"] = {"tokens": stretch}
    place = find_answer(row)
    if place:
        found["answer_in_prompt"] = {"where": place}
    # Messages and reports show it.
    return {fault: redact_values(what) for fault, what in found.items()}


def _check_target(
    found: dict[str, dict[str, Any]], answer_ids: Ids, learned: Ids, rules: AuditRules
) -> None:
    ends = [int(token) in rules.end_ids for token in learned]
    if all(ends):
        found["no_target"] = {"answer": rules.decode(answer_ids[:_SHOWN_TOKENS].tolist())}
    elif not ends[-1] or any(ends[:-1]):
        shown = rules.decode(learned[-_SHOWN_TOKENS:].tolist())
        found.setdefault("no_end", {"reason": "the target's end token is missing or not its last"})
        found["no_end"]["target"] = shown


def _cut(prompt_ids: Ids, answer_ids: Ids, rules: AuditRules) -> dict[str, Any]:
    kept = max(0, rules.max_length - len(prompt_ids))
    lost = answer_ids[kept:][:_SHOWN_TOKENS].tolist()
    return {
        "prompt_tokens": len(prompt_ids),
        "answer_tokens": len(answer_ids),
        "max_length": rules.max_length,
        "lost": rules.decode(lost),
    }


def _prompt_loss(row: Row, prompt_ids: Ids, mask: Ids, rules: AuditRules) -> str | None:
    """Return the first stretch of the prompt that carries loss and must not."""
    prompt = mask[: len(prompt_ids)]
    if not prompt.any():
        return None
    told = (*(row["history"] or ()), *(row.get("steps") or ()))
    turns = [collapse_spaces(turn["content"]) for turn in told if turn["role"] == "assistant"]
    for begin, end, learned in find_stretches(prompt.tolist()):
        if not learned:
            continue
        ids = prompt_ids[begin:end].tolist()
        text = collapse_spaces(rules.decode(ids))
        if not (rules.assistant_may and any(_is_turn(text, turn) for turn in turns)):
            return rules.decode(ids[:_SHOWN_TOKENS])
    return None


def _is_turn(text: str, turn: str) -> bool:
    if turn in text:
        return len(text) <= len(turn) + _TURN_TAGS_CHARACTERS
    return text in turn


def find_answer(row: Row) -> str | None:
    """Say where a row's prompt holds its answer, where it does not belong.

    In the context of a question the answer may stand (reading comprehension), and in earlier turns;
    the context of an SQL row is made of CREATE statements, where no query belongs.

    Args:
        row: question, context, history, answer, db_id, prompt.

    Returns:
        The place with some letters around; None when it is not there.
    """
    answer = collapse_spaces(row["answer"])
    if not answer or not row["prompt"]:
        return None
    for name in ("question", "context"):
        if collapse_spaces(row[name]) == answer:
            return f"the {name} is the answer"
    if len(answer) < MIN_ANSWER_CHARACTERS:
        return None
    prompt = collapse_spaces(row["prompt"])
    if answer not in prompt:
        return None
    told = (*(row["history"] or ()), *(row.get("steps") or ()))
    turns = [collapse_spaces(turn["content"]) for turn in told]
    context = [] if row["db_id"] else [collapse_spaces(row["context"])]
    for text in sorted((*turns, *context), key=len, reverse=True):
        # Only what holds the answer: a turn such as "a" would cut the answer itself to pieces.
        if answer in text:
            prompt = prompt.replace(text, "\n")  # which no folded text holds
    place = prompt.find(answer)
    if place < 0:
        return None
    return prompt[max(0, place - _AROUND) : place + len(answer) + _AROUND]


def collapse_spaces(text: str | None) -> str:
    """Return a text with every white space as one blank."""
    return " ".join((text or "").split())
