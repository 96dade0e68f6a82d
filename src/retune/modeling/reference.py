"""The texts that a quantized model is compared on when a recipe names none."""

from __future__ import annotations

from pathlib import Path

from retune.data.jsonl import read_jsonl
from retune.errors import DataError

REFERENCE_TEXT = Path(__file__).with_name("reference_text.jsonl")
"""A few of our own paragraphs in Portuguese and English."""


def read_texts(path: Path) -> list[str]:
    """Read the ``text`` of each line of a JSON Lines file.

    Args:
        path: The file.

    Returns:
        The texts, in order.

    Raises:
        DataError: A line has no text, or there is no line.
    """
    texts = []
    for line, value in read_jsonl(path):
        if not isinstance(value.get("text"), str) or not value["text"]:
            raise DataError(f'{path}:{line}: expected {{"text": "..."}}.')
        texts.append(value["text"])
    if not texts:
        raise DataError(f"{path}: no texts to compare the quantized model on.")
    return texts
