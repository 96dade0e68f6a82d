"""The texts that a quantized model is compared on when a recipe names none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retune.data.chats.rendering import render_prompt
from retune.data.jsonl import read_jsonl
from retune.data.tokenizers import Tokenizer
from retune.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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


def reference_perplexity(
    model: PreTrainedModel, tokenizer: Tokenizer, references: Sequence[Reference]
) -> float:
    """Return the perplexity of reference texts: answers given their prompts, plain texts alone.

    Args:
        model: In evaluation mode.
        tokenizer: The model's own, with a chat template.
        references: Either all with a prompt or all without.

    Returns:
        The token-weighted perplexity; answers include their end token.

    Raises:
        ScoringError: Nothing can be scored.
    """
    from retune.scoring.perplexity import perplexity, text_perplexity
    from retune.scoring.text_losses import answer_losses

    if any(reference.prompt is None for reference in references):
        return text_perplexity(model, tokenizer, [reference.text for reference in references])
    prompts = [
        render_prompt(tokenizer, [{"role": "user", "content": str(reference.prompt)}])
        for reference in references
    ]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    texts = [reference.text for reference in references]
    answer_ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    pairs = [
        (prompt, [*answer, tokenizer.eos_token_id])
        for prompt, answer in zip(prompt_ids, answer_ids, strict=True)
    ]
    pad_id = int(tokenizer.pad_token_id)
    return perplexity(answer_losses(model, pairs, batch_size=16, pad_id=pad_id))
