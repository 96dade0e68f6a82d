"""The shipped base and its Portuguese rows as prompts, answers and token ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from retune.data.chats.rendering import render_prompt
from retune.inference.loaded_models import LoadedModel, load_scored_model
from retune.model_records import ScoredModel

REPOSITORY = Path(__file__).resolve().parents[2]
BASE = REPOSITORY / "assets" / "base_tiny"


class Chat(NamedTuple):
    """One row's token ids."""

    prompt: list[int]
    answer: list[int]


@cache
def read_schemas() -> dict[str, str]:
    """Return the text of each database's schema."""
    path = REPOSITORY / "assets" / "text_to_sql_pt" / "databases.jsonl"
    values = map(json.loads, path.read_text("utf-8").splitlines())
    return {value["db_id"]: value["schema"] for value in values}


def load_base(folder: Path = BASE) -> LoadedModel:
    """Load the base in evaluation mode, as scoring does."""
    return load_scored_model(ScoredModel(digest="", weights=folder, tokenizer=BASE))


def read_chats(loaded: LoadedModel, side: str, count: int) -> list[Chat]:
    """Return the first rows of a side as the recipe asks them, from the first on again if need be.

    Args:
        loaded: Whose tokenizer writes them.
        side: train or test.
        count: How many.

    Returns:
        Prompts that end where the answer begins, and answers with their end token.
    """
    rows = read_rows(side, count)
    tokenize = loaded.tokenizer
    prompts = [render_prompt(tokenize, [{"role": "user", "content": ask_row(row)}]) for row in rows]
    asked = tokenize(prompts, add_special_tokens=False)["input_ids"]
    answers = tokenize([row["query"] for row in rows], add_special_tokens=False)["input_ids"]
    chats = [Chat(one, [*two, loaded.end_ids[0]]) for one, two in zip(asked, answers, strict=True)]
    return list(islice(cycle(chats), count))


def read_rows(side: str, count: int) -> list[dict[str, str]]:
    """Return the first rows of a side, as many as there are.

    Args:
        side: train or test.
        count: How many.
    """
    path = REPOSITORY / "assets" / "text_to_sql_pt" / f"{side}.jsonl"
    return list(map(json.loads, path.read_text("utf-8").splitlines()[:count]))


def ask_row(row: Mapping[str, str]) -> str:
    """Return what the recipe asks for a row: the schema, and the question behind it."""
    return f"{read_schemas()[row['db_id']]}\n{row['question']}"
