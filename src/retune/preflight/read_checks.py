"""Refusing what a model cannot read: tokens without a row in it, texts over its context."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from retune.data.chats.tokenizers import Tokenizer, end_token_ids
from retune.errors import ConfigError
from retune.modeling.context import read_context
from retune.preflight.reads import Reading

_RESIZE = (
    "Give the model rows for them (model.resize_token_embeddings(len(tokenizer)), then "
    "save_pretrained), or use the tokenizer that belongs to the weights."
)


def check_tokens(
    model: PreTrainedModel, tokenizer: Tokenizer, folder: Path, readings: Iterable[Reading]
) -> None:
    """Refuse tokens that the model has no row for.

    Args:
        model: The model, or its meta model.
        tokenizer: Of the base.
        folder: The base, for the end and padding tokens of its `generation_config.json`.
        readings: What it would be given to read.

    Raises:
        ConfigError: A token that occurs, or that pads or ends a text, has no row.
    """
    rows = _rows_of(model)
    where = f"{folder}: the model has {rows:,} rows of embeddings, ids 0 to {rows - 1:,}"
    for name, token in (("pad", tokenizer.pad_token_id), ("end", tokenizer.eos_token_id)):
        if not 0 <= int(token) < rows:
            raise ConfigError(
                f"{where}, but the tokenizer's {name} token {_shown(tokenizer, int(token))} is "
                f"none of them. {_RESIZE}"
            )
    _check_generation(where, folder, rows, end_token_ids(tokenizer, folder))
    for reading in readings:
        if reading.largest_id >= rows:
            raise ConfigError(
                f"{where}, but {reading.what} has the token "
                f"{_shown(tokenizer, reading.largest_id)}, and the tokenizer {len(tokenizer):,} "
                f"tokens. {_RESIZE}"
            )


def _check_generation(where: str, folder: Path, rows: int, ends: Sequence[int]) -> None:
    """Look at what `generation_config.json` says, which a release takes over."""
    path = folder / "generation_config.json"
    pad = json.loads(path.read_text("utf-8")).get("pad_token_id") if path.is_file() else None
    named = [("eos_token_id", each) for each in ends]
    named += [("pad_token_id", pad)] if isinstance(pad, int) else []
    for name, token in named:
        if not 0 <= token < rows:
            raise ConfigError(
                f"{where}, but {name} in {path.name} is {token}: whoever serves the release would "
                "fail on it, or never see it. Write an id of the tokenizer there, or take the "
                "entry out."
            )


def _rows_of(model: PreTrainedModel) -> int:
    """Return how many tokens both ends of a model know."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return min(int(end.weight.shape[0]) for end in ends if end is not None)


def _shown(tokenizer: Tokenizer, token: int) -> str:
    text = tokenizer.convert_ids_to_tokens(token) if token >= 0 else None
    return f"{token:,}" if text is None else f"{text} ({token:,})"


def check_lengths(model: PreTrainedModel, readings: Iterable[Reading], learned: int) -> None:
    """Refuse what is longer than the model's context.

    Args:
        model: The model, or its meta model.
        readings: What it would be given to read.
        learned: Learned positions that stand before each text.

    Raises:
        ConfigError: A row, or a prompt with the most tokens that are written behind it, is too
            long.
    """
    context = read_context(model.config)
    if context is None:
        return
    limit = context - learned
    less = f" ({context:,} less {learned} learned positions)" if learned else ""
    for reading in readings:
        if reading.longest <= limit or reading.cut:
            continue
        which = f" ({reading.where})" if reading.where else ""
        if not reading.writes:
            raise ConfigError(
                f"{reading.what}{which} has {reading.longest:,} tokens, over the model's context "
                f"of {limit:,}{less}. Write prompt.max_length: {limit} or less, which leaves "
                "longer rows out (limits.cut_targets says how many may be), or take a model with a "
                "longer context."
            )
        prompt = reading.longest - reading.writes
        rest = f"{limit - prompt} or less" if prompt < limit else "less"
        raise ConfigError(
            f"{reading.what}{which} has {prompt:,} tokens; with {reading.key} = {reading.writes} "
            f"that is over the model's context of {limit:,}{less}, so that it could not be "
            f"answered. Write {reading.key}: {rest}, or shorten the prompts (prompt.max_length)."
        )
