"""Tiny random snapshots, built from the real configuration classes and saved like a hub download.

Run as a script, it writes all families below a folder: ``python tests/tiny_models.py FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PretrainedConfig,
    Qwen3Config,
)

REPOSITORY = Path(__file__).resolve().parents[1]
TOKENIZER = REPOSITORY / "assets" / "base_tiny"

GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
CHATML_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def family_config(family: str, vocabulary: int) -> PretrainedConfig:
    """Return a two-layer configuration of a family, 64 wide, for NF4 blocks of 64."""
    common = {"vocab_size": vocabulary, "hidden_size": 64, "num_hidden_layers": 2}
    attention = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    if family == "llama":
        return LlamaConfig(**common, **attention, intermediate_size=128)
    if family == "qwen3":
        return Qwen3Config(**common, **attention, intermediate_size=128)
    if family == "gemma3":
        return Gemma3TextConfig(
            **common,
            **attention,
            intermediate_size=128,
            sliding_window=64,
            query_pre_attn_scalar=16,
        )
    if family == "gpt2":
        return GPT2Config(vocab_size=vocabulary, n_embd=64, n_layer=2, n_head=4, n_positions=1024)
    raise ValueError(family)


def write_snapshot(folder: Path, family: str, *, seed: int = 0) -> Path:
    """Write a random model of a family with a tokenizer and the family's kind of template.

    Args:
        folder: Where to; made when missing.
        family: llama, qwen3, gemma3 or gpt2.
        seed: Of the weights.

    Returns:
        The folder.
    """
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    if family == "gemma3":
        turns = ["<start_of_turn>", "<end_of_turn>"]
        tokenizer.add_special_tokens({"additional_special_tokens": turns})
        tokenizer.bos_token = tokenizer.eos_token
        tokenizer.chat_template = GEMMA_TEMPLATE
    elif family == "qwen3":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        tokenizer.eos_token = "<|im_end|>"
        tokenizer.chat_template = CHATML_TEMPLATE
    elif family == "gpt2":
        tokenizer.chat_template = None
    config = family_config(family, len(tokenizer))
    config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    config.bos_token_id = tokenizer.bos_token_id
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    if family == "gemma3":
        end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
        model.generation_config.eos_token_id = [tokenizer.eos_token_id, end]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    for name in ("llama", "qwen3", "gemma3", "gpt2"):
        print(write_snapshot(Path(sys.argv[1]) / name, name))
