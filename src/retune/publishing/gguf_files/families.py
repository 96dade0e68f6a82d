"""Families whose weights llama.cpp knows under the same roles, and what it has to be told of them.

Only families are here whose whole computation the format describes; each other is refused by name,
since a file that leaves something out loads without a word and answers wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retune.errors import ConfigError

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from transformers import PretrainedConfig

_ROPES = ("default", "linear", "llama3")


@dataclass(frozen=True)
class Family:
    """How llama.cpp has a family.

    Attributes:
        architecture: Its name there.
        permuted: Whether rotated pairs of query and key lie beside each other there, and half a
            head apart in transformers.
    """

    architecture: str
    permuted: bool


FAMILIES = {
    "llama": Family("llama", permuted=True),
    "mistral": Family("llama", permuted=True),
    "qwen2": Family("qwen2", permuted=False),
    "qwen3": Family("qwen3", permuted=False),
}
"""By `model_type`."""


def family_of(config: PretrainedConfig) -> Family:
    """Return how llama.cpp has a model.

    Args:
        config: Of the snapshot.

    Raises:
        ConfigError: The family, or something special of this model, cannot be written.
    """
    found = FAMILIES.get(config.model_type)
    if found is None:
        raise ConfigError(
            f"model type {config.model_type}: cannot be written as GGUF here, only "
            f"{', '.join(FAMILIES)}. Use llama.cpp's own converter (--converter "
            "PATH/convert_hf_to_gguf.py), or export --as merged."
        )
    special = _special(config)
    if special:
        raise ConfigError(
            f"{config.model_type}: {special}, which cannot be written as GGUF here. Use "
            "llama.cpp's own converter (--converter PATH/convert_hf_to_gguf.py), or export --as "
            "merged."
        )
    return found


def rope_of(config: PretrainedConfig) -> dict[str, float | str]:
    """Return a model's settings of rotary positions."""
    return dict(getattr(config, "rope_parameters", None) or {"rope_type": "default"})


def head_width(config: PretrainedConfig) -> int:
    """Return how wide an attention head is."""
    width = getattr(config, "head_dim", None)
    return int(width or config.hidden_size // config.num_attention_heads)


def add_hyperparameters(writer: GGUFWriter, config: PretrainedConfig) -> None:
    """Say what llama.cpp has to know of a model beside its weights.

    Args:
        writer: Of a file whose architecture is set.
        config: Of the snapshot; of a known family.
    """
    rope, width = rope_of(config), head_width(config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10000.0)))
    writer.add_vocab_size(config.vocab_size)
    if rope["rope_type"] == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))


def _special(config: PretrainedConfig) -> str | None:
    """Say what of a model no entry of the format stands for here."""
    rope = rope_of(config).get("rope_type", "default")
    if rope not in _ROPES:
        return f"positions of rope_type {rope} (known: {', '.join(_ROPES)})"
    if getattr(config, "sliding_window", None) is not None and getattr(
        config, "use_sliding_window", True
    ):
        return f"attention within a window of {config.sliding_window} tokens"
    if getattr(config, "mlp_bias", False):
        return "biases in the feed-forward layers (mlp_bias)"
    if config.hidden_act != "silu":
        return f"activation {config.hidden_act}"
    if getattr(config, "quantization_config", None) is not None:
        return "quantized weights"
    return None
