"""Whether two snapshots read a row alike: equal tokens, and the same chat template around it.

Equal files do. Files of a model that was loaded and saved again may differ and yet read alike, so
that then vocabularies, special tokens and the tokens of a few paragraphs are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from retune.data.chats.tokenizers import Tokenizer, load_tokenizer, tokenizer_digest
from retune.data.jsonl import read_jsonl
from retune.errors import ScoringError
from retune.modeling.reference import REFERENCE_TEXT
from retune.records import Source

Likeness = Literal["alike", "other_template", "other_tokens"]
"""alike: the same rows can be used. other_template: an answer has the same tokens, its prompt may
not. other_tokens: figures per token cannot be compared."""

_PROBES = (
    "São 3 cafés, 1.250,00 €\n\tSELECT  nome\r\nFROM t WHERE x >= '' ; 👩‍👧 \u00a0 日本",
    " a  b ",
)
_ROWS_TOKENIZED = 8


def compare_tokenizers(one: Path, other: Path, template: Source | None) -> Likeness:
    """Compare what two snapshots make of a row.

    Args:
        one: A snapshot folder.
        other: Another.
        template: Chat template that replaces that of both, if any.

    Returns:
        How alike they are.

    Raises:
        ConfigError: A folder holds no tokenizer.
    """
    if tokenizer_digest(one) == tokenizer_digest(other):
        return "alike"
    first, second = load_tokenizer(one, template), load_tokenizer(other, template)
    if not _same_tokens(first, second):
        return "other_tokens"
    return "alike" if first.chat_template == second.chat_template else "other_template"


def _same_tokens(first: Tokenizer, second: Tokenizer) -> bool:
    special = ("bos_token", "eos_token")
    if [getattr(first, name) for name in special] != [getattr(second, name) for name in special]:
        return False
    if first.get_vocab() != second.get_vocab():
        return False
    texts = [str(value["text"]) for _, value in read_jsonl(REFERENCE_TEXT)] + list(_PROBES)
    ids = [each(texts, add_special_tokens=False)["input_ids"] for each in (first, second)]
    return bool(ids[0] == ids[1])


def refuse_other_tokenizer(tokenizer: Tokenizer, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a model that reads other words in the ids of the rows.

    Args:
        tokenizer: Of the model to score.
        rows: Of a side's `rows.parquet`; tokenized once, by the base's tokenizer.

    Raises:
        ScoringError: Its tokenizer gives the first prompts other ids.
    """
    if not rows:
        return
    prompts = [row["prompt"] for row in rows[:_ROWS_TOKENIZED]]
    ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    if ids != [row["prompt_ids"] for row in rows[:_ROWS_TOKENIZED]]:
        raise ScoringError(
            "the model to score has another tokenizer than the base of this recipe (a champion of "
            "another family?), so the two cannot be compared on the same tokens. Register models "
            "of another family under another registry.model_name."
        )
