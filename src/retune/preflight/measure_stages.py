"""Stage `measure_stages`: what quantizing, scoring and merging need, before a weight is loaded.

How much memory there is is no part of it, so that what is stored is right on any machine:
`retune.preflight.memory_plan` holds it against the one at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig

from retune.data.chats.rendering import render_prompt
from retune.data.chats.tokenizers import load_tokenizer
from retune.data.tables import iterate_rows
from retune.digests import digest_json
from retune.errors import RetuneError
from retune.machine import Device
from retune.modeling.context import read_context
from retune.modeling.devices import pick_compute_dtype, pick_dtype
from retune.modeling.memory.meta_model import Meta4bit, build_meta_model
from retune.modeling.memory.model_sizes import Work, measure_model, weigh_modules
from retune.modeling.memory.stage_sizes import StageSizes
from retune.modeling.placement import FormSizes
from retune.modeling.prequantized import NF4, quantized_as
from retune.modeling.reference import read_references
from retune.preflight.stages import SizesInputs, SizesSettings
from retune.recipe.sections.model import Dtype
from retune.recipe.sections.scoring import Form
from retune.scoring.perplexity import fit_batch
from retune.spine.stage import Workdir

_CHECK_TOKENS = 64
"""As `retune.weights.equivalence` bounds the answers to checked rows."""
_REFERENCE_BATCH = 16
"""As `retune.weights.quantize` reads the reference text."""

SCORED, REFERENCE, CHECKED = "scored", "reference", "checked"
"""What is done with a model: scoring, reading the reference text, answering checked rows."""

Shape = tuple[int, int]
"""Tokens of the longest prompt, and of the longest prompt with its answer."""


def measure_stages(inputs: SizesInputs, settings: SizesSettings, work: Workdir) -> StageSizes:
    """Count what the stages around a training need.

    Args:
        inputs: The base, the rows and texts that it reads, and the kind of device.
        settings: How much is written, and what the base is trained in.
        work: Unused; the result is its record.

    Returns:
        Sizes by what is done; none where the work cannot be followed without weights.
    """
    try:
        return _record(_measure(inputs, settings))
    except RetuneError as error:
        return _record(StageSizes(digest="", scored={}, fault=error.message))


def _record(found: StageSizes) -> StageSizes:
    return found.model_copy(update={"digest": digest_json(found.model_dump(mode="json"))})


def _measure(inputs: SizesInputs, settings: SizesSettings) -> StageSizes:
    works = {
        SCORED: _scoring(inputs, settings),
        REFERENCE: [_texts(inputs, 0, _REFERENCE_BATCH)],
        CHECKED: _checking(inputs, settings.check_rows),
    }
    return size_stages(
        inputs.base.folder,
        works,
        device=inputs.device,
        forms=inputs.forms,
        dtype=settings.dtype,
        quantized=settings.quantization == NF4,
    )


def size_stages(
    folder: Path,
    works: Mapping[str, Sequence[Work]],
    *,
    device: Device,
    forms: Sequence[Form],
    dtype: Dtype,
    quantized: bool,
) -> StageSizes:
    """Count what the stages around a training need, from a model's configuration alone.

    Args:
        folder: Holds `config.json`.
        works: Batches of scoring (`SCORED`), of the reference text and of the checked rows.
        device: Kind of device.
        forms: That may be scored in, beside plain.
        dtype: `model.dtype` of the recipe.
        quantized: Whether training starts from 4 bits.

    Returns:
        The sizes, without a digest.

    Raises:
        ConfigError: The work cannot be followed without weights.
    """
    scorers = pick_dtype("auto", device.name, bfloat16=device.bfloat16)
    stored = pick_dtype(dtype, device.name, bfloat16=device.bfloat16)
    measured = {
        each: measure_model(folder, "plain", works, device=device, dtype=each)
        for each in dict.fromkeys((scorers, stored, torch.float32))
    }
    scored: dict[Form, FormSizes] = {"plain": measured[scorers][SCORED]}
    if NF4 in forms:
        only = {SCORED: works[SCORED]}
        scored["nf4"] = measure_model(folder, "nf4", only, device=device, dtype=scorers)[SCORED]
    compute = pick_compute_dtype("auto", device.name, bfloat16=device.bfloat16)
    trained = build_meta_model(folder, dtype=stored, quantized=quantized, compute_dtype=compute)
    weights, largest = weigh_modules(trained)
    return StageSizes(
        digest="",
        scored=scored,
        reference=measured[stored][REFERENCE],
        checked=measured[torch.float32][CHECKED],
        written=FormSizes(
            weights=weights,
            largest=largest,
            working=0,
            loading=_quantizing(trained, stored, device),
        )
        if quantized
        else None,
        in_four_bits=quantized_as(folder) == NF4,
        block_bytes=_largest_block(trained),
    )


def _scoring(inputs: SizesInputs, settings: SizesSettings) -> list[Work]:
    """Return the batches of the held-out rows and of the general text."""
    prompt, whole = _lengths(inputs.rows.folder, None)
    limit = read_context(_config(inputs.base.folder))
    written = min(settings.max_new_tokens, (limit or prompt + whole) - 1)
    rows = inputs.batch_size
    vocabulary = int(_config(inputs.base.folder).vocab_size)
    on_cpu = inputs.device.name == "cpu"
    fitting = fit_batch(rows, longest=max(1, whole), vocabulary=vocabulary, on_cpu=on_cpu)
    return [
        Work(rows=fitting, tokens=whole),
        Work(rows=rows, tokens=prompt, written=written),
        *([_texts(inputs, 1, rows)] if len(inputs.texts) > 1 else []),
    ]


def _checking(inputs: SizesInputs, check_rows: int) -> list[Work]:
    prompt, whole = _lengths(inputs.checked.folder, check_rows)
    answer = whole - prompt
    return [
        Work(rows=check_rows, tokens=whole, kept=answer + 1, losses=False),
        Work(rows=check_rows, tokens=prompt, written=min(_CHECK_TOKENS, answer + 8)),
    ]


def _texts(inputs: SizesInputs, place: int, rows: int) -> Work:
    """Return the largest batch of a file of texts: the longest, or windows of the context."""
    tokenizer = load_tokenizer(inputs.base.folder)
    references = read_references(inputs.texts[place].path)
    texts = [
        one.text
        if one.prompt is None
        else render_prompt(tokenizer, [{"role": "user", "content": one.prompt}]) + one.text
        for one in references
    ]
    ids: Sequence[Sequence[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    limit = read_context(_config(inputs.base.folder))
    longest = max(map(len, ids), default=1)
    return Work(rows=min(rows, len(ids)) or 1, tokens=max(1, min(longest, limit or longest)))


def _lengths(folder: Path, rows: int | None) -> Shape:
    prompts, wholes = [1], [2]
    for at, row in enumerate(iterate_rows(folder / "rows.parquet", ["prompt_ids", "answer_ids"])):
        if rows is not None and at >= rows:
            break
        prompts.append(len(row["prompt_ids"]))
        wholes.append(len(row["prompt_ids"]) + len(row["answer_ids"]))
    return max(prompts), max(wholes)


def _config(folder: Path) -> Any:
    return AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config(decoder=True)


def _quantizing(model: nn.Module, stored: torch.dtype, device: Device) -> int:
    """Return what is held of the largest layer that is quantized, while it is.

    Beside the weights themselves bitsandbytes' kernel of a GPU holds the result, half a byte each.
    What it has for a CPU is made of torch's operations. At their highest moment they hold, of each
    weight: itself as float32, scaled (4 bytes), its place among the 16 values as an integer (4) and
    as a byte (1), and half a byte twice, once shifted and once packed.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Meta4bit)]
    weights = max((layer.in_features * layer.out_features for layer in layers), default=0)
    if device.name != "cpu":
        return weights * stored.itemsize + weights // 2
    as_float32 = 0 if stored == torch.float32 else 4
    return weights * (stored.itemsize + as_float32 + 4 + 4 + 1 + 1)


def _largest_block(model: nn.Module) -> int:
    blocks = [
        sum(weight.nbytes for weight in (*block.parameters(), *block.buffers()))
        for module in model.modules()
        if isinstance(module, nn.ModuleList)
        for block in module
    ]
    return max(blocks, default=0)
