"""The texts that a quantized model is compared on when a recipe names none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from retune.data.jsonl import read_jsonl
from retune.errors import DataError

REFERENCE_TEXT = Path(__file__).with_name("reference_text.jsonl")
"""A few of our own paragraphs in Portuguese and English."""


@dataclass(frozen=True)
class Reference:
    """One text to compare a quantized model on.

    Attributes:
        text: What is scored.
        prompt: The user message that it answers; None for a plain text.
    """

    text: str
    prompt: str | None = None


def read_references(path: Path) -> list[Reference]:
    """Read a JSON Lines file of ``{"text": ...}``, or ``{"prompt": ..., "text": ...}`` for answers.

    Args:
        path: The file.

    Returns:
        The texts, in order.

    Raises:
        DataError: A line has no text, or there is no line.
    """
    references = []
    for line, value in read_jsonl(path):
        text, prompt = value.get("text"), value.get("prompt")
        if not isinstance(text, str) or not text or not isinstance(prompt, str | None):
            raise DataError(f'{path}:{line}: expected {{"text": "..."}}, if wanted with "prompt".')
        references.append(Reference(text, prompt))
    if not references:
        raise DataError(f"{path}: no texts to compare the quantized model on.")
    return references
