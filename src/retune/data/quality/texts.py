"""What a row is compared by: its text, the same text folded, and hashes of both.

Folding leaves out what does not make another question: case, accents, white space, and the signs
between words (`Ok...` and `ok` are one message). Signs that change the sense stay: an operator
before a number or alone between words (`3 - 2`, `a < b`), and those of `C++` and `C#`. A text
without any word (`:)`) keeps all its signs, or every smiley would repeat every other.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from retune.digests import canonical_json

# Accents, and what shows nothing (soft hyphen, joiners, direction marks, variation selectors).
# Marks of other scripts stay: in Hindi, Thai or Japanese they are vowels, and no accents.
_ACCENTS = re.compile(
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
    "\u00ad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ufe00-\ufe0f\ufeff\ufff9-\ufffb]"
)
# Vowel signs are no \w for Python: without them a word of such a script would fall to pieces.
_MARKS = "".join(chr(c) for c in range(0x10000) if unicodedata.category(chr(c)) in {"Mn", "Mc"})
_WORD_OR_SIGN = re.compile(
    rf"[\w{_MARKS}]+(?:\+\+|\#)?"
    r"|[-+*/<>=^%]+(?=\s?\d)"
    r"|(?<=\w\s)[+*/<>=^]+(?=\s\w)"
)
PART = "\x1e"
"""What `row_text` puts between its parts; folding takes it for white space."""
_CONTENT = ("question", "context", "thinking", "answer", "label", "db_id")
_RARE_CONTENT = ("steps", "calls", "learned", "tools")


def row_text(row: Mapping[str, Any]) -> str:
    """Return what the model is asked, as rows are compared by it.

    Args:
        row: A row with the columns of `ROW_SCHEMA`.

    Returns:
        Earlier turns, question and context with `PART` between them; the answer itself where
        nothing is asked (plain text).
        System messages are left out, since one long one would make all rows alike, and so is the
        context of a row with a database: the database's name stands for it.
    """
    if not row["question"]:
        return str(row["answer"] or "")
    told = (*(row["history"] or ()), *(row.get("steps") or ()))
    turns = [turn["content"] for turn in told if turn["role"] != "system"]
    context = row["context"] if row["db_id"] is None else None
    return PART.join(part for part in ("\n".join(turns), row["question"], context) if part)


def written_text(row: Mapping[str, Any]) -> str:
    """Return all that a row holds but its context, for looks at single characters and patterns."""
    told = (*(row["history"] or ()), *(row.get("steps") or ()))
    turns = [text for turn in told for text in (turn["content"], turn.get("calls"))]
    parts = (*turns, row["question"], row["thinking"], row["answer"], row.get("calls"))
    return "\n".join(part for part in parts if part)


def fold(text: str) -> str:
    """Return a text without case, accents, signs between words, and needless white space.

    Args:
        text: Any text.

    Returns:
        Words, and signs that change the sense, with one space between them; folding it again
        changes nothing.
    """
    plain = text.lower() if text.isascii() else _without_accents(text)
    collapsed = " ".join(plain.split())
    return " ".join(_WORD_OR_SIGN.findall(collapsed)) or collapsed


def _without_accents(text: str) -> str:
    # Folding case can bring a mark back (İ), and decomposing can bring case back (℡): both twice.
    for _ in range(2):
        text = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    return text


def text_hash(text: str, db_id: str | None) -> int:
    """Return 64 bits that stand for a text, together with the database it asks about."""
    whole = text if db_id is None else f"{db_id}\x00{text}"
    return int.from_bytes(blake2b(whole.encode(), digest_size=8).digest(), "big")


def content_hash(row: Mapping[str, Any]) -> int:
    """Return 64 bits that stand for all that a row says, wherever it stands."""
    said = [_said(row["history"]), *(row[name] for name in _CONTENT)]
    # Only where they are there: the hash decides on a row's side, and must not move with columns
    # that a row does not have.
    rare = {name: _said(row[name]) for name in _RARE_CONTENT if row.get(name) not in (None, [])}
    return text_hash(canonical_json([*said, rare] if rare else said), None)


def _said(turns: Any) -> Any:
    if not isinstance(turns, list):
        return turns
    return [{key: value for key, value in turn.items() if value is not None} for turn in turns]


def write_hash(value: int) -> str:
    """Return a 64-bit hash as text of 16 hexadecimal digits."""
    return f"{value:016x}"
