"""Pairs of answers to one prompt, whichever way a public layout keeps them.

| layout           | prompt                             | answers                |
|------------------|------------------------------------|------------------------|
| TRL, explicit    | `prompt`: a text or messages       | texts or messages      |
| TRL, implicit    | what both conversations begin with | whole conversations    |
| Anthropic HH     | the same, in one text each         | `Human:`, `Assistant:` |
| UltraFeedback    | `prompt`, and again in the answers | whole conversations    |
| Alpaca           | `instruction`, `input`             | texts                  |
| ShareGPT, OpenAI | `conversations`, `messages`        | one turn each          |
| ms-swift         | `messages`, the last one chosen    | `rejected_response`    |
| OpenAI's own     | `input`: `{"messages": [...]}`     | `preferred_output`     |

`system` and `history` may stand beside each of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retune.data.formats.beside import read_beside
from retune.data.formats.cells import (
    Cells,
    Row,
    as_list,
    as_text,
    ascii_of,
    is_blank,
    name_keys,
    refuse_rivals,
)
from retune.data.formats.dialogue import join_before, read_turns
from retune.data.formats.marks import check_row
from retune.data.formats.names import CONTEXT_NAMES, keys_for
from retune.data.formats.turn import Turn, names_a_role, read_turn
from retune.data.formats.turns import fields_of_turns
from retune.errors import DataError
from retune.recipe.sections.data import ColumnsConfig

_CHOSEN = ("chosen", "preferred", "preferred_output", "chosen_response", "response_chosen")
_REJECTED = (
    "rejected",
    "non_preferred_output",
    "rejected_response",
    "response_rejected",
    "rejected_messages",
    "dispreferred",
)
_ASKED = ("prompt", "messages", "conversations", "conversation", "question", "instruction", "input")
_SAID_BY = re.compile(r"(?:\A|\n\n)\s*(Human|Assistant):[ \t]*")
_LEAST_WORDS = 3
"""A shorter prompt may well be how both answers begin of themselves."""


@dataclass(frozen=True)
class PairFields:
    """A pair in the one layout.

    Attributes:
        history: Messages before the question.
        question: What is answered.
        context: A text beside the question; empty where there is none.
        chosen: The wanted answer.
        rejected: The other one.
    """

    history: tuple[dict[str, Any], ...]
    question: str
    context: str
    chosen: str
    rejected: str


def read_pair(row: Row) -> PairFields:
    """Read a pair of answers.

    Args:
        row: The row as it stands in its file.

    Returns:
        The prompt and both answers.

    Raises:
        DataError: It is no pair, or cannot be told apart into a prompt and two answers; the message
            is the reason alone.

    Example:
        >>> pair = read_pair({"prompt": "2 + 2 =", "chosen": "4", "rejected": "5"})
        >>> pair.question, pair.chosen, pair.rejected
        ('2 + 2 =', '4', '5')
    """
    check_row(row, "pairs")
    cells = Cells("instruction", ColumnsConfig())
    refuse_rivals("question", cells.rivals(row, "question"))
    beside = read_beside(row, cells)
    asked = _asked(row)
    chosen_one: tuple[str, Any] | None = None
    if asked is not None and not keys_for(_CHOSEN, tuple(row)):
        asked, chosen_one = _ends_with_chosen(*asked)
    answers = [chosen_one or _answer(row, _CHOSEN), _answer(row, _REJECTED)]
    if asked is None:
        asked, answers = _split_text(row, answers)
    chosen, rejected = (_turns(key, value) for key, value in answers)
    shared = _shared(chosen, rejected)
    prompt = _prompt(asked, chosen[:shared])
    last = [
        _last(turns[shared:], answers[place][0]) for place, turns in enumerate((chosen, rejected))
    ]
    if last[0].strip() == last[1].strip():
        raise DataError("chosen and rejected are the same text, so that nothing is preferred")
    context = _context(row, asked)
    fields = fields_of_turns(
        [*join_before(beside.before, prompt), Turn("assistant", last[0])],
    )
    if fields["steps"]:
        raise DataError("the prompt calls tools, which pairs do not support")
    first, second = _without_prompt(last, asked)
    return PairFields(tuple(fields["history"]), fields["question"], context, first, second)


def _answer(row: Row, names: tuple[str, ...]) -> tuple[str, Any]:
    keys = keys_for(names, tuple(row))
    key = next((key for key in keys if not is_blank(row[key])), keys[0] if keys else None)
    if key is None:
        raise DataError(f"no {names[0]!r}; the line has {name_keys(row)}")
    if is_blank(row[key]):
        raise DataError(f"{ascii_of(key)} is empty: expected text")
    return key, as_list(row[key])


def _asked(row: Row) -> tuple[str, Any] | None:
    keys = keys_for(_ASKED, tuple(row))
    key = next((key for key in keys if not is_blank(row[key])), None)
    if key is None:
        if "prompt" in row and row["prompt"] is not None:
            raise DataError("the prompt is empty: the last of the turns must be the user's")
        return None
    value = as_list(row[key])
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list):
        if not is_blank(value.get("tools")):
            raise DataError("the prompt has tools, which pairs do not support")
        value = value["messages"]
    return key, value


def _ends_with_chosen(key: str, value: Any) -> tuple[tuple[str, Any], tuple[str, Any] | None]:
    """Take the wanted answer off the end of a conversation, where no key of its own has it."""
    if not isinstance(value, list) or len(value) < 2 or names_a_role(value[-1]) is None:
        return (key, value), None
    if read_turn(value[-1], len(value)).role != "assistant":
        return (key, value), None
    return (key, value[:-1]), (key, value[-1:])


def _turns(key: str, value: Any) -> list[Turn]:
    """Return an answer as turns: one, or the whole conversation."""
    if isinstance(value, Mapping):
        value = [value if names_a_role(value) else {"role": "assistant", **value}]
    if not isinstance(value, list):
        return [Turn("assistant", as_text(key, value))]
    turns = read_turns(value)
    if not turns:
        raise DataError(f"{ascii_of(key)} holds no turn")
    return turns


def _shared(chosen: Sequence[Turn], rejected: Sequence[Turn]) -> int:
    """Return with how many turns both begin; the last turn of each is its answer."""
    most = min(len(chosen), len(rejected)) - 1
    return next((at for at in range(most) if chosen[at] != rejected[at]), most)


def _last(turns: Sequence[Turn], key: str) -> str:
    if len(turns) != 1:
        raise DataError(
            f"{ascii_of(key)} goes on with {len(turns)} turns where the two part: expected one "
            "answer each to one prompt"
        )
    (turn,) = turns
    if turn.role != "assistant":
        raise DataError(f"{ascii_of(key)} ends with a turn of {turn.role!r}, expected 'assistant'")
    if not turn.learned:
        raise DataError(f"{ascii_of(key)} is marked as not to be learned, or as a bad answer")
    if turn.calls or turn.thinking:
        what = "calls a tool" if turn.calls else "has a thought of its own"
        raise DataError(f"{ascii_of(key)} {what}, which pairs do not support")
    return turn.content


def _prompt(asked: tuple[str, Any] | None, shared: Sequence[Turn]) -> list[Turn]:
    """Return the turns of the prompt, which the answers may repeat."""
    if asked is None:
        return list(shared)
    key, value = asked
    stated = (
        [read_turn({"role": "user", "content": as_text(key, value)}, 1)]
        if not isinstance(value, list)
        else read_turns(value)
    )
    if stated and stated[-1].role == "assistant" and not shared:
        # What ends with an answer is a whole conversation; its last answer is what is chosen.
        raise DataError(
            f"{ascii_of(key)} ends with an answer already: expected it to end with the question"
        )
    if not shared:
        return stated
    said = [turn.content.strip() for turn in stated if turn.role == "user"]
    told = [turn.content.strip() for turn in shared if turn.role == "user"]
    if said != told and (len(stated) > 1 or said[0] not in told):
        raise DataError(
            f"{ascii_of(key)} and what chosen and rejected begin with are two different prompts: "
            "keep one of both"
        )
    return list(stated if len(stated) > len(shared) else shared)


def _context(row: Row, asked: tuple[str, Any] | None) -> str:
    """Return the text beside an instruction."""
    key = next(
        (key for key in keys_for(CONTEXT_NAMES, tuple(row)) if not is_blank(row[key])),
        None,
    )
    if key is None or asked is None or key == asked[0]:
        return ""
    return as_text(key, row[key])


def _split_text(row: Row, answers: list[tuple[str, Any]]) -> tuple[None, list[tuple[str, Any]]]:
    """Read two texts that hold the whole conversation, as Anthropic's HH has them."""
    if any(isinstance(value, str) and not _SAID_BY.match(value) for _, value in answers):
        raise DataError(f"no 'prompt'; the line has {name_keys(row)}")
    return None, [(key, _transcript(value)) for key, value in answers]


def _transcript(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    parts = _SAID_BY.split(value)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[who], "content": said.strip()}
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]


def _without_prompt(last: Sequence[str], asked: tuple[str, Any] | None) -> tuple[str, str]:
    """Return two texts without the prompt, where both begin with it."""
    first, second = last
    prompt = asked[1] if asked is not None else None
    if not isinstance(prompt, str) or len(prompt.split()) < _LEAST_WORDS:
        return first, second
    rests = [text[len(prompt) :].lstrip() for text in last if text.startswith(prompt)]
    if len(rests) < len(last):
        return first, second
    if not all(rests):
        raise DataError(
            "chosen or rejected is nothing but the prompt: expected an answer behind it"
        )
    return rests[0], rests[1]
