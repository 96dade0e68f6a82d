"""Whether the weights of an adapter belong to a base: said of each method by what it must match.

Low-rank matrices have the sides of the layers that they stand beside, a bottleneck the width of the
model, learned inputs too, and learned keys and values those of every block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from retune.modeling.methods.module_names import ends

Shapes = Mapping[str, tuple[int, ...]]
Config = Mapping[str, Any]

_LEARNED = "prompt_embeddings"
_STACKED = 3
_NAMES = {
    "hidden": ("hidden_size", "n_embd"),
    "blocks": ("num_hidden_layers", "n_layer"),
    "heads": ("num_key_value_heads", "num_attention_heads", "n_head"),
    "all_heads": ("num_attention_heads", "n_head"),
}
"""A size of a model, and what families call it in `config.json`; the first that is there counts."""


def list_misfits(adapter: Config, weights: Shapes, base: Config, layers: Shapes) -> Iterator[str]:
    """Say what of an adapter has no place in a base.

    Args:
        adapter: `adapter_config.json`.
        weights: Shapes of the adapter's weights.
        base: `config.json` of the base.
        layers: Shapes of the base's weights.

    Yields:
        One sentence part for each misfit; none for a method that is not known here.
    """
    sizes = _sizes(base)
    method = adapter.get("peft_type")
    if method == "LORA":
        yield from _unfit_layers(adapter, weights, layers)
    elif method == "BOTTLENECK":
        yield from _unfit_bottlenecks(adapter, sizes, layers)
    elif method in ("PROMPT_TUNING", "P_TUNING"):
        yield from _unfit_inputs(weights, sizes)
    elif method == "PREFIX_TUNING":
        yield from _unfit_keys(adapter, weights, sizes)


def _sizes(base: Config) -> dict[str, int]:
    # Of an image-text model, the part that reads text.
    text = {**base, **(base.get("text_config") or {})}
    named = {
        size: next((text[name] for name in names if isinstance(text.get(name), int)), None)
        for size, names in _NAMES.items()
    }
    found = {size: value for size, value in named.items() if value}
    if isinstance(text.get("head_dim"), int):
        found["head"] = text["head_dim"]
    elif {"hidden", "all_heads"} <= found.keys():
        found["head"] = found["hidden"] // found["all_heads"]
    return found


def _unfit_layers(adapter: Config, weights: Shapes, layers: Shapes) -> Iterator[str]:
    experts = {str(each).rpartition(".")[0] for each in adapter.get("target_parameters") or ()}
    for name, shape in weights.items():
        layer, is_lora, _ = name.removeprefix("base_model.model.").partition(".lora_A.")
        other = weights.get(name.replace(".lora_A.", ".lora_B."))
        ending = _from_block_on(layer)
        # The head may share the weights of the embedding, and then is in no file.
        if not is_lora or other is None or ending is None:
            continue
        wanted = (other[0], shape[1])
        # peft puts the adapters of one module's parameters around each other.
        holder = layer.partition(".base_layer")[0]
        if any(ends(holder, each) for each in experts):
            yield from _unfit_experts(holder, wanted, layers)
            continue
        found = [s for n, s in layers.items() if ends(n, f"{ending}.weight")]
        if not found:
            yield f"the base has no layer {layer}"
        # Conv1D keeps its weights the other way round, bitsandbytes two of 4 bits in a byte.
        elif not {wanted, wanted[::-1], (wanted[0] * wanted[1] // 2, 1)} & set(found):
            yield f"{layer} is {_by(wanted)} there and {_by(found[0])} in the base"


def _unfit_experts(holder: str, wanted: tuple[int, int], layers: Shapes) -> Iterator[str]:
    below = [s for n, s in layers.items() if f".{_from_block_on(holder)}." in f".{n}"]
    stacked = [shape for shape in below if len(shape) >= _STACKED]
    # Which of the parameters is meant stands in no name: one that fits is enough. A file may keep
    # each expert apart, which loading compares.
    if not below:
        yield f"the base has no {holder}"
    elif stacked and not any(_holds(shape, wanted) for shape in stacked):
        yield f"{holder} has no weights of {_by(wanted)} in the base, as it has there"


def _holds(stacked: tuple[int, ...], wanted: tuple[int, int]) -> bool:
    if len(stacked) == _STACKED:
        return stacked[1:] in (wanted, wanted[::-1])
    # Blocks of MXFP4: experts x out x blocks of bytes, of which each has two values.
    return (stacked[1], 2 * math.prod(stacked[2:])) == wanted


def _unfit_bottlenecks(adapter: Config, sizes: Mapping[str, int], layers: Shapes) -> Iterator[str]:
    width = adapter.get("hidden_size")
    if "hidden" in sizes and width != sizes["hidden"]:
        yield f"its bottlenecks are made for a width of {width}, the base has {sizes['hidden']}"
    for name in adapter.get("target_modules") or ():
        ending = _from_block_on(str(name))
        if ending is not None and not any(f".{ending}." in f".{each}" for each in layers):
            yield f"the base has no {name}"


def _unfit_inputs(weights: Shapes, sizes: Mapping[str, int]) -> Iterator[str]:
    shape = weights.get(_LEARNED)
    if shape is None:
        yield f"it has no {_LEARNED}"
    elif "hidden" in sizes and shape[-1] != sizes["hidden"]:
        yield f"its learned inputs are {shape[-1]} wide, those of the base {sizes['hidden']}"


def _unfit_keys(adapter: Config, weights: Shapes, sizes: Mapping[str, int]) -> Iterator[str]:
    shape = weights.get(_LEARNED)
    if shape is None:
        yield f"it has no {_LEARNED}"
        return
    blocks = adapter.get("num_layers")
    if isinstance(blocks, int) and "blocks" in sizes and blocks != sizes["blocks"]:
        yield f"it has keys and values for {blocks} blocks, the base has {sizes['blocks']}"
    elif {"blocks", "heads", "head"} <= sizes.keys():
        wanted = 2 * sizes["blocks"] * sizes["heads"] * sizes["head"]
        if shape[-1] != wanted:
            yield f"its keys and values take {shape[-1]:,} numbers, those of the base {wanted:,}"


def _from_block_on(layer: str) -> str | None:
    """Cut what stands before the list of blocks, which differs between a class and its files."""
    parts = layer.split(".")
    place = next((at for at, part in enumerate(parts) if part.isdecimal()), 0)
    return ".".join(parts[place - 1 :]) if place else None


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
