"""Greedy decoding of a padded batch, for models whose layers all keep every key and value.

The library's own `generate` copies the whole cache at each token, reads a batch's prompts in one
pass, and computes rows that have ended until the last one has. Here the cache has room for the
answers from the start, a CPU reads prompts in passes that stay in its own cache, and rows that have
ended leave the batch. Positions, masks and padding (on the left) are those of `generate`, and so
are the tokens in float32; in 16 bits, up to rounding, which another shape of a batch changes. Other
models, whose caches or inputs are made otherwise, are left to it.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import torch
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from retune.inference.batching import pad_sequences

_INPUTS = {"input_ids", "attention_mask", "position_ids", "past_key_values", "logits_to_keep"}
_CPU_TOKENS = 512
"""Tokens of prompts that a CPU reads in one pass: what more of them make leaves its cache."""
_DROPPED = 0.25
"""Part of the rows that has to have ended before the others are copied together."""


def can_decode(model: PreTrainedModel) -> bool:
    """Say whether a model is decoded here as `generate` would.

    Args:
        model: Plain, or with an adapter on it.

    Returns:
        False for sliding windows, recurrent layers, own ways to make inputs, positions that are no
        argument, learned positions before the prompt, and adapters that start behind some tokens
        of it, which `generate` looks for.
    """
    for settings in getattr(model, "peft_config", {}).values():
        if settings.is_prompt_learning or getattr(settings, "alora_invocation_tokens", None):
            return False
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    kind = type(inner)
    if (
        not isinstance(inner, GenerationMixin)
        or kind.generate is not GenerationMixin.generate
        or kind.prepare_inputs_for_generation is not GenerationMixin.prepare_inputs_for_generation
        or inner.config.is_encoder_decoder
        or kind._is_stateful
        or not inspect.signature(kind.forward).parameters.keys() >= _INPUTS
    ):
        return False
    layers = DynamicCache(config=inner.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    pad_id: int,
    end_ids: Collection[int],
    max_new_tokens: int,
) -> list[list[int]]:
    """Continue prompts greedily.

    Args:
        model: One that `can_decode` takes, in evaluation mode.
        prompts: Token ids per prompt, none empty.
        pad_id: Any id.
        end_ids: Ids that end an answer.
        max_new_tokens: Most tokens written per prompt, at least one.

    Returns:
        New ids per prompt, up to and with the first end.
    """
    # The longest first, so that a pass has little padding.
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    with torch.inference_mode():
        batch = _read([prompts[row] for row in order], model, pad_id, max_new_tokens)
        written: list[list[int]] = [[] for _ in prompts]
        rows: list[int | None] = list(order)
        """Whose tokens each row of the batch holds; None for one that has ended."""
        for left in reversed(range(max_new_tokens)):
            for at, token in enumerate(batch.tokens.tolist()):
                row = rows[at]
                if row is not None:
                    written[row].append(token)
                    rows[at] = None if token in end_ids else row
            going = [at for at, row in enumerate(rows) if row is not None]
            if not going or not left:
                break
            if len(going) <= (1 - _DROPPED) * len(rows):
                batch.keep(going)
                rows = [rows[at] for at in going]
            batch.step(model)
    return written


class _RoomyLayer(DynamicLayer):
    """Keys and values of one layer, in tensors that have room for what will be written."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        super().__init__()
        self._room = [keys, values]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._fill(length)

    def _fill(self, length: int) -> None:
        self.keys, self.values = (each[:, :, :length] for each in self._room)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write behind what is there; return all that is there now."""
        start, length = self.get_seq_length(), self.get_seq_length() + key_states.shape[-2]
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, start:length] = states
        self._fill(length)
        return self.keys, self.values

    def keep(self, rows: torch.Tensor) -> None:
        """Leave the other rows out."""
        rows = rows.to(self.device)
        self._room = [each.index_select(0, rows) for each in self._room]
        self._fill(self.get_seq_length())


class _Batch:
    """Rows that are written, and the token that each got last.

    Args:
        layers: Keys and values per layer, of the first `length` places of the mask.
        mask: Of prompts and of all that may be written, ``(rows, places)``.
        length: Places that have been read.
        tokens: The next ones, ``(rows,)``.
    """

    def __init__(
        self,
        layers: Sequence[tuple[torch.Tensor, torch.Tensor]],
        mask: torch.Tensor,
        length: int,
        tokens: torch.Tensor,
    ) -> None:
        self._cache = DynamicCache()
        self._cache.layers = [_RoomyLayer(keys, values, length) for keys, values in layers]
        self._mask, self._length, self.tokens = mask, length, tokens
        self._positions = mask[:, :length].sum(1, keepdim=True)

    def keep(self, rows: Sequence[int]) -> None:
        """Leave the other rows out."""
        kept = torch.tensor(rows, device=self._mask.device)
        for layer in self._cache.layers:
            layer.keep(kept)
        self._mask, self._positions = self._mask[kept], self._positions[kept]
        self.tokens = self.tokens[kept]

    def step(self, model: PreTrainedModel) -> None:
        """Read the last tokens, and find the next."""
        self._length += 1
        mask, tokens = self._mask[:, : self._length], self.tokens.unsqueeze(1)
        self.tokens = _next_tokens(model, tokens, mask, self._positions, self._cache)
        self._positions = self._positions + 1


def _read(
    prompts: Sequence[Sequence[int]], model: PreTrainedModel, pad_id: int, written: int
) -> _Batch:
    """Read prompts, the longest first, into one cache with room for so many tokens each."""
    device, longest = model.device, len(prompts[0])
    mask = torch.zeros((len(prompts), longest + written), dtype=torch.long, device=device)
    mask[:, longest:] = 1
    layers: list[tuple[torch.Tensor, torch.Tensor]] = []
    tokens: list[torch.Tensor] = []
    start = 0
    while start < len(prompts):
        width = len(prompts[start])
        rows = max(1, _CPU_TOKENS // width) if device.type == "cpu" else len(prompts)
        ids, read = pad_sequences(prompts[start : start + rows], pad_id, "left")
        ids, read = ids.to(device), read.to(device)
        cache = DynamicCache(config=model.config)
        tokens.append(_next_tokens(model, ids, read, (read.cumsum(-1) - 1).clamp(min=0), cache))
        part, places = slice(start, start + len(ids)), slice(longest - width, longest)
        mask[part, places] = read
        for at, layer in enumerate(cache.layers):
            if not start:
                layers.append((_with_room(layer.keys, mask), _with_room(layer.values, mask)))
            for room, found in zip(layers[at], (layer.keys, layer.values), strict=True):
                room[part, :, places] = found
            # At once: only one layer of the prompts is held twice.
            del found
            layer.keys = layer.values = None
        start += rows
    return _Batch(layers, mask, longest, torch.cat(tokens))


def _with_room(found: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    # Zeros: what is masked is multiplied by 0, which numbers that are none would outlive.
    rows, places = mask.shape
    return found.new_zeros((rows, found.shape[1], places, found.shape[3]))


def _next_tokens(
    model: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    cache: DynamicCache,
) -> torch.Tensor:
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits
    found: torch.Tensor = logits[:, -1].argmax(-1)
    return found
