"""What a model takes in each form while it is scored, counted on tensors without values.

Weights are those of a meta model. What the work needs is counted by running it on fake tensors, as
`retune.modeling.memory.estimate_memory` does for a training: losses at every position of a batch,
and the last step of writing, with the keys and values of all tokens before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PreTrainedModel

from retune.errors import ConfigError
from retune.machine import Device
from retune.modeling.devices import pick_dtype
from retune.modeling.memory.allocations import AllocationLog
from retune.modeling.memory.gpu_kernels import followed_kernels
from retune.modeling.memory.meta_model import build_meta_model, make_fake
from retune.modeling.placement import FormSizes
from retune.recipe.sections.scoring import Form
from retune.records import Record


class Work(Record):
    """One batch of scoring."""

    rows: int
    tokens: int
    """Of each row."""
    written: int = 0
    """Tokens that are written behind them, one at a time; 0: losses of tokens are read."""
    kept: int = 0
    """Last tokens of each row whose logits are read; 0: of all of them."""
    losses: bool = True
    """Whether losses are made of them; else they are kept as they are."""


def measure_model(
    folder: Path,
    form: Form,
    works: Mapping[str, Sequence[Work]],
    *,
    device: Device,
    dtype: torch.dtype | None = None,
    auto: Any = AutoModelForCausalLM,
) -> dict[str, FormSizes]:
    """Count what a model takes at some kinds of work.

    Args:
        folder: Holds `config.json`; weights need not be there.
        form: In which it is loaded.
        works: Batches by kind of work; of each kind the one that needs most counts.
        device: Where it is computed.
        dtype: Of the weights that are not quantized; None for that of scorers.
        auto: Auto class of transformers for what the model is to do.

    Returns:
        Its sizes in that form, by kind of work.

    Raises:
        ConfigError: The model cannot be built, or its work not be followed, without weights.
    """
    dtype = dtype or pick_dtype("auto", device.name, bfloat16=device.bfloat16)
    if dtype == torch.float32 and _has_experts(folder):
        # torch follows products of grouped experts in 16 bits alone: in 32 all is twice as large.
        half = measure_model(folder, form, works, device=device, dtype=torch.bfloat16, auto=auto)
        return {kind: _doubled(sizes) for kind, sizes in half.items()}
    model = build_meta_model(
        folder, dtype=dtype, quantized=form == "nf4", compute_dtype=dtype, auto=auto
    ).eval()
    weights, largest = weigh_modules(model)
    try:
        working = _follow(model, works, torch.device(device.name if device.present else "cpu"))
    except (RuntimeError, TypeError, NotImplementedError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{folder}: scoring cannot be followed without weights ({type(error).__name__}: "
            f"{error}). Its memory is not planned."
        ) from error
    return {
        kind: FormSizes(weights=weights, largest=largest, working=size)
        for kind, size in working.items()
    }


def _has_experts(folder: Path) -> bool:
    # Not through transformers: what is wrong with the file is said where the model is built.
    config = json.loads((folder / "config.json").read_text("utf-8"))
    text = {**config, **(config.get("text_config") or {})}
    return any(text.get(name) for name in ("num_local_experts", "num_experts"))


def _doubled(sizes: FormSizes) -> FormSizes:
    return FormSizes(
        weights=2 * sizes.weights, largest=2 * sizes.largest, working=2 * sizes.working
    )


def weigh_modules(model: nn.Module) -> tuple[int, int]:
    """Return the bytes of all weights, and of the module that holds most of them by itself.

    Args:
        model: On any device; weights that are shared count once.
    """
    own = [
        {
            id(tensor): tensor.nbytes
            for tensor in (*module._parameters.values(), *module._buffers.values())
            if tensor is not None
        }
        for module in model.modules()
    ]
    whole = {key: size for held in own for key, size in held.items()}
    return sum(whole.values()), max((sum(held.values()) for held in own), default=0)


def _follow(
    model: PreTrainedModel, works: Mapping[str, Sequence[Work]], device: torch.device
) -> dict[str, int]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    make_fake(model, mode, device)
    peaks: dict[Work, int] = {}
    for work in {each for kind in works.values() for each in kind}:
        log = AllocationLog()
        with followed_kernels(), torch.no_grad(), mode, log:
            held = log.numbers([*model.parameters(), *model.buffers()])
            since = log.mark()
            (_write if work.written else _read)(model, work, device)
            peaks[work] = log.size(log.peak(since) - held)
    return {kind: max((peaks[each] for each in some), default=0) for kind, some in works.items()}


def _read(model: Any, work: Work, device: torch.device) -> None:
    """Read a batch as `retune.inference.token_losses` does, or the check of a merge."""
    ids = torch.zeros((work.rows, work.tokens), dtype=torch.long, device=device)
    kept = work.kept or work.tokens
    logits = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        use_cache=False,
        logits_to_keep=kept,
    ).logits
    if not work.losses:
        torch.cat(list(logits)).float()
        return
    targets = ids[:, -kept:].unsqueeze(-1)
    (-logits.float().log_softmax(-1)).gather(-1, targets).squeeze(-1).double()


def _write(model: Any, work: Work, device: torch.device) -> None:
    """Read prompts into a cache, and give its layers room, as long as they are in the last round.

    A layer is copied and let go of before the next (`retune.inference.decoding`), or a token is put
    behind it (`generate`): of the cache, one layer is held twice.
    """
    tokens = work.tokens + work.written
    ids = torch.zeros((work.rows, tokens), dtype=torch.long, device=device)
    found = model(
        input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, logits_to_keep=1
    )
    found.logits[:, -1].float().argmax(-1)
    rooms = []
    for layer in getattr(found.get("past_key_values"), "layers", ()):
        if getattr(layer, "keys", None) is not None:
            rooms.append((layer.keys.clone(), layer.values.clone()))
            layer.keys = layer.values = None
