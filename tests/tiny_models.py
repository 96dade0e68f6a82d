"""Tiny random snapshots, built from the real configuration classes and saved like a hub download.

Run as a script, it writes all families below a folder: ``python tests/tiny_models.py FOLDER``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen3Config,
    SiglipVisionConfig,
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
# The rules of gpt-oss' own template that count here: one channel per message of the assistant,
# thinking in `analysis`, the answer in `final`, and <|return|> after the last answer alone.
HARMONY_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}"
    "{% if m['thinking'] is defined and loop.last %}<|start|>assistant<|channel|>analysis"
    "<|message|>{{ m['thinking'] }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m['content'] }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}<|start|>{{ m['role'] }}<|message|>{{ m['content'] }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
GEMMA_TOKENS = ("<start_of_turn>", "<end_of_turn>")
IMAGE_TOKENS = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")
HARMONY_TOKENS = ("<|start|>", "<|channel|>", "<|message|>", "<|return|>", "<|call|>")
EXPERTS = 4
MXFP4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""What 3 of the 4 bits stand for; the first bit is the sign."""


def family_config(family: str, vocabulary: int) -> PretrainedConfig:
    """Return a two-layer configuration of a family, 64 wide, for NF4 blocks of 64."""
    common = {"vocab_size": vocabulary, "hidden_size": 64, "num_hidden_layers": 2}
    attention = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    if family in ("llama", "tied_llama"):
        tied = family.startswith("tied")
        return LlamaConfig(**common, **attention, intermediate_size=128, tie_word_embeddings=tied)
    if family in ("qwen3", "tied_qwen3"):
        tied = family.startswith("tied")
        return Qwen3Config(**common, **attention, intermediate_size=128, tie_word_embeddings=tied)
    if family == "gemma3_image_text":
        return _image_text_config(vocabulary)
    if family == "gpt_oss":
        return GptOssConfig(
            **common,
            **attention,
            intermediate_size=64,
            num_local_experts=EXPERTS,
            num_experts_per_tok=2,
            sliding_window=64,
        )
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


def _image_text_config(vocabulary: int) -> Gemma3Config:
    text = family_config("gemma3", vocabulary)
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    # The tokens of an image are the last ones of the vocabulary; see `_tokenizer`.
    first, last, soft = range(vocabulary - len(IMAGE_TOKENS), vocabulary)
    return Gemma3Config(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        mm_tokens_per_image=4,
        boi_token_index=first,
        eoi_token_index=last,
        image_token_index=soft,
    )


def write_snapshot(folder: Path, family: str, *, seed: int = 0) -> Path:
    """Write a random model of a family with a tokenizer and the family's kind of template.

    Args:
        folder: Where to; made when missing.
        family: llama, qwen3 (both also as tied_...), gemma3, gemma3_image_text, gpt2, gpt_oss,
            gpt_oss_mxfp4 (whose experts are 4-bit blocks and scales, as on the hub), or nf4_llama
            (saved by bitsandbytes).
        seed: Of the weights.

    Returns:
        The folder.
    """
    if family == "nf4_llama":
        return _as_nf4(write_snapshot(folder.with_name("plain"), "llama", seed=seed), folder)
    if family == "gpt_oss_mxfp4":
        return _as_mxfp4(write_snapshot(folder, "gpt_oss", seed=seed))
    tokenizer = _tokenizer(family)
    config = family_config(family, len(tokenizer))
    for each in (config, config.get_text_config()):
        each.pad_token_id, each.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
        each.bos_token_id = tokenizer.bos_token_id
    torch.manual_seed(seed)
    model = _random_model(config)
    if family.startswith("gemma3"):
        end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
        model.generation_config.eos_token_id = [tokenizer.eos_token_id, end]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _random_model(config: PretrainedConfig) -> PreTrainedModel:
    auto = AutoModelForImageTextToText if hasattr(config, "vision_config") else AutoModelForCausalLM
    model = auto.from_config(config)
    for name, weight in model.named_parameters():
        # Made without values: memory as it was found. A real checkpoint has some.
        if isinstance(config, GptOssConfig) and ("experts" in name or "sinks" in name):
            torch.nn.init.normal_(weight, std=0.02)
    return model


def _tokenizer(family: str) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    if family.startswith("gemma3"):
        turns = [*GEMMA_TOKENS, *(IMAGE_TOKENS if family == "gemma3_image_text" else ())]
        tokenizer.add_special_tokens({"additional_special_tokens": turns})
        tokenizer.bos_token = tokenizer.eos_token
        tokenizer.chat_template = GEMMA_TEMPLATE
    elif family.endswith("qwen3"):
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        tokenizer.eos_token = "<|im_end|>"
        tokenizer.chat_template = CHATML_TEMPLATE
    elif family == "gpt_oss":
        tokenizer.add_special_tokens({"additional_special_tokens": list(HARMONY_TOKENS)})
        tokenizer.eos_token = "<|return|>"
        tokenizer.chat_template = HARMONY_TEMPLATE
    elif family == "gpt2":
        tokenizer.chat_template = None
    return tokenizer


def _as_mxfp4(folder: Path) -> Path:
    """Turn a gpt-oss snapshot's experts into blocks and scales, the form of its hub release."""
    weights = load_file(folder / "model.safetensors")
    for name in [n for n in weights if n.endswith(("gate_up_proj", "down_proj"))]:
        blocks, scales = pack_mxfp4(weights.pop(name).transpose(1, 2))
        weights |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["quantization_config"] = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    }
    config["dtype"] = "bfloat16"
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    return folder


def pack_mxfp4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to MXFP4: blocks of 32 values of 4 bits, each block with a power of two as scale.

    Args:
        weight: ``(experts, out, in)``, with ``in`` divisible by 32.

    Returns:
        Blocks ``(experts, out, in / 32, 16)``, two values a byte with the first one in the low
        bits, and scales ``(experts, out, in / 32)``: exponents plus 127.
    """
    blocks = weight.float().unflatten(-1, (-1, 32))
    largest = blocks.abs().amax(-1).clamp(min=2.0**-100)
    # The largest value is 6: with this exponent no value of the block is over it.
    exponents = torch.ceil(torch.log2(largest / MXFP4_VALUES[-1]))
    scaled = blocks / torch.exp2(exponents)[..., None]
    levels = torch.tensor(MXFP4_VALUES)
    codes = (scaled.abs()[..., None] - levels).abs().argmin(-1) + 8 * (scaled < 0)
    packed = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return packed.to(torch.uint8), (exponents + 127).to(torch.uint8)


def _as_nf4(plain: Path, target: Path) -> Path:
    """Quantize a snapshot's linear layers with bitsandbytes, as many on the hub are."""
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = AutoModelForCausalLM.from_pretrained(
        plain, quantization_config=config, device_map={"": "cpu"}
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(plain).save_pretrained(target)
    return target


if __name__ == "__main__":
    for name in ("llama", "qwen3", "gemma3", "gemma3_image_text", "gpt2", "gpt_oss"):
        print(write_snapshot(Path(sys.argv[1]) / name, name))
