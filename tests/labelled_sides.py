"""Small sides of rows with labels, as `prepare_sides` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retune.data.chats.tokenizers import load_tokenizer
from retune.data.schemas import CHAT_SCHEMA
from retune.data.tables import write_table
from retune.digests import digest_folder
from retune.records import SideRef


def write_labelled_side(
    folder: Path, snapshot: Path, texts: Sequence[tuple[str, str | None]]
) -> SideRef:
    """Write texts and labels as one side's chats.

    Args:
        folder: Where to; made when missing.
        snapshot: Its tokenizer and template make the rows.
        texts: Text and label of each row.

    Returns:
        The side.
    """
    tokenizer = load_tokenizer(snapshot)

    def as_row(at: int, text: str, label: str | None) -> dict[str, Any]:
        prompt = text
        if tokenizer.chat_template:
            prompt = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
        answer = label or "outra coisa"
        written = answer + tokenizer.eos_token
        return {
            "row_id": f"r{at}",
            "group": f"g{at}",
            "db_id": None,
            "label": label,
            "question": text,
            "prompt": prompt,
            "answer": answer,
            "prompt_ids": tokenizer(prompt, add_special_tokens=False)["input_ids"],
            "answer_ids": tokenizer(written, add_special_tokens=False)["input_ids"],
            "loss_mask": None,
        }

    folder.mkdir(parents=True, exist_ok=True)
    rows = [as_row(at, text, label) for at, (text, label) in enumerate(texts)]
    write_table(folder / "rows.parquet", rows, CHAT_SCHEMA)
    return SideRef(digest=digest_folder(folder), folder=folder)
