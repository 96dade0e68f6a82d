"""Several rows in one sequence, none of which sees another.

Where a row begins is said by its positions, which start again at 0. transformers makes a mask out
of them that keeps rows apart, as long as it is given no other mask. Not every model passes its
positions on to that mask (gpt-oss does not), and peft drops them before virtual tokens: so the
model at hand is asked before it is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from retune.errors import ConfigError
from retune.preflight.steps import plan_packs
from retune.training.task_scores import measuring_mode

LENGTHS = "seq_lengths"
"""Column of a packed sequence's row lengths, as TRL names it; its trainer drops other columns."""
PLACES = "places"
"""Column of what a sequence holds: places of rows; for checks, and dropped by the trainer."""
_SEEN_PART = 1e-3
_OTHER_PART = 0.1


def pack_rows(rows: Dataset, max_length: int) -> Dataset:
    """Put rows together into sequences.

    Args:
        rows: With `input_ids` and `labels`.
        max_length: Most tokens of a sequence.

    Returns:
        One row per sequence, with the lengths of what it holds.
    """
    lengths = [len(ids) for ids in rows["input_ids"]]
    plan = plan_packs(lengths, max_length)
    pieces = [{**_join(rows, places), PLACES: places} for places in plan]
    columns = {
        name: pa.array([piece[name] for piece in pieces], pa.list_(pa.int64()))
        for name in ("input_ids", "labels", LENGTHS, PLACES)
    }
    return Dataset(pa.table(columns))


def _join(rows: Dataset, places: Sequence[int]) -> dict[str, list[int]]:
    parts = [rows[place] for place in places]
    return {
        "input_ids": [token for part in parts for token in part["input_ids"]],
        # The first token of a row has nothing before it to be predicted from.
        "labels": [label for part in parts for label in (-100, *part["labels"][1:])],
        LENGTHS: [len(part["input_ids"]) for part in parts],
    }


class PackedCollator:
    """Batches packed sequences with positions and no mask, and plain rows as TRL does.

    Args:
        pad_id: Written behind the shorter sequences of a batch.
        attention: Implementation in use. Flash attention takes positions for one sequence only, so
            that a batch becomes one.
    """

    def __init__(self, pad_id: int, attention: str) -> None:
        self._pad_id = pad_id
        self._plain = DataCollatorForLanguageModeling(pad_token_id=pad_id)
        self._flat = (
            DataCollatorForLanguageModeling(pad_token_id=pad_id, padding_free=True)
            if attention.startswith("flash")
            else None
        )

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Make a batch of what the trainer gives."""
        if LENGTHS not in examples[0]:
            return dict(self._plain(examples))
        if self._flat is not None:
            return dict(self._flat(examples))

        def column(values: list[list[int]], padding: int) -> torch.Tensor:
            rows = [torch.tensor(value) for value in values]
            return pad_sequence(rows, batch_first=True, padding_value=padding)

        return {
            "input_ids": column([one["input_ids"] for one in examples], self._pad_id),
            "labels": column([one["labels"] for one in examples], -100),
            "position_ids": column([_positions(one[LENGTHS]) for one in examples], 0),
        }


def _positions(lengths: Sequence[int]) -> list[int]:
    return [place for length in lengths for place in range(length)]


def refuse_leaks(model: torch.nn.Module, rows: Dataset, collate: PackedCollator) -> None:
    """See on the model itself that packed rows do not see each other.

    The second row of a pair is read behind two first rows of one length, and by itself. Behind
    another row its logits must be the same to rounding, and close to those without any.

    Args:
        model: To be trained, on its device.
        rows: Its training rows.
        collate: As in training.

    Raises:
        ConfigError: They do, or the model loses the positions.
    """
    shortest = sorted(range(len(rows)), key=lambda at: len(rows[at]["input_ids"]))
    if len(shortest) < 2:
        return
    first, second = (rows[at]["input_ids"] for at in shortest[:2])
    # Other tokens, all of which stand in the vocabulary.
    other = [first[-1 - place] for place in range(len(first))]
    if other == first:
        other = [second[0]] * len(first)
    with measuring_mode(model), torch.no_grad():
        behind, behind_other = (
            _logits(model, collate, [before, second])[-len(second) :] for before in (first, other)
        )
        alone = _logits(model, collate, [second])
    spread = float(alone.std())
    seen = float((behind - behind_other).abs().max())
    moved = float((behind - alone).abs().max())
    if not (seen <= _SEEN_PART * spread and moved <= _OTHER_PART * spread):
        raise ConfigError(
            "training.packing: this model lets packed rows see each other. A row's logits move by "
            f"{seen:.2g} when another row is put before it and by {moved:.2g} against the row by "
            f"itself (their spread is {spread:.2g}), under {attention_of(model)} attention. Write "
            "training.packing: false, or choose another model.attention (flash_attention_2 keeps "
            "rows apart by itself). No step was taken."
        )


def _logits(
    model: torch.nn.Module, collate: PackedCollator, rows: Sequence[Sequence[int]]
) -> torch.Tensor:
    example = {
        "input_ids": [token for row in rows for token in row],
        "labels": [token for row in rows for token in row],
        LENGTHS: [len(row) for row in rows],
    }
    device = next(model.parameters()).device
    batch = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in collate([example]).items()
        if name != "labels"
    }
    logits: torch.Tensor = model(**batch, use_cache=False).logits[0].float()
    return logits[-sum(len(row) for row in rows) :]


def attention_of(model: torch.nn.Module) -> str:
    """Return the implementation of attention that a model uses."""
    config: Any = model.config
    return str(config.get_text_config()._attn_implementation)
