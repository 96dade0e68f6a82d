"""Models of several sizes with the shipped tokenizer, for how costs grow with them."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.bench.shipped import BASE
from retune.data.chats.tokenizers import load_tokenizer

SHAPES = {1: (256, 640), 4: (512, 1_600)}
"""Width, and width within a block, by how many times the shipped base's parameters that is."""


def find_base(folder: Path, times: int | None) -> Path:
    """Return the shipped base, or one of a size that is written for it."""
    return write_base(folder, times) if times else BASE


def write_base(folder: Path, times: int) -> Path:
    """Write the shipped base's shape with random weights, wider by some.

    Args:
        folder: Where the snapshot's folder goes.
        times: 1 or 4 times the parameters, to 2 %.

    Returns:
        The snapshot.
    """
    width, inner = SHAPES[times]
    config = AutoConfig.from_pretrained(BASE)
    config.hidden_size, config.intermediate_size = width, inner
    config.num_attention_heads = config.num_key_value_heads = width // config.head_dim
    config.dtype = torch.float32
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config)
    target = folder / f"base-{times}"
    model.save_pretrained(target)
    load_tokenizer(BASE).save_pretrained(target)
    return target
