"""What learned positions before the text cannot go with; refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from transformers import PretrainedConfig, PreTrainedModel

from retune.errors import ConfigError
from retune.modeling.context import read_context
from retune.recipe.sections import PrefixConfig, PromptTuningConfig, PTuningConfig

VirtualTokensConfig = PrefixConfig | PTuningConfig | PromptTuningConfig
_INSTEAD = "choose p_tuning or prompt (learned inputs), or lora"


def check_prompt(
    model: PreTrainedModel, method: VirtualTokensConfig, *, gradient_checkpointing: bool
) -> None:
    """Refuse a method of learned positions that does not fit a model.

    Args:
        model: The base.
        method: The recipe's section.
        gradient_checkpointing: Whether activations are computed again in the backward pass.

    Raises:
        ConfigError: The positions fill the model's context, or earlier keys and values do not
            reach all of its layers; the message says what to choose.
    """
    limit = read_context(model.config)
    if limit is not None and method.virtual_tokens >= limit:
        raise ConfigError(
            f"method.virtual_tokens: {method.virtual_tokens} leave no room for text in this "
            f"model's context of {limit} tokens. Write 100 or fewer."
        )
    if not isinstance(method, PrefixConfig):
        return
    if gradient_checkpointing:
        raise ConfigError(
            "method.kind: prefix does not go with training.gradient_checkpointing, which computes "
            "the blocks again without the learned keys and values, so that these would not be "
            f"trained. Write gradient_checkpointing: false; or {_INSTEAD}."
        )
    partial = _partial_attention(model.config)
    if partial:
        raise ConfigError(
            f"method.kind: prefix does not fit {model.config.model_type}: some of its layers "
            f"attend to a part of the text only ({partial}), and lose the learned keys and values "
            f"that stand before it. Instead {_INSTEAD}."
        )


def check_room(
    model: PreTrainedModel, method: VirtualTokensConfig, rows: Path, *columns: str
) -> None:
    """Refuse rows that are too long once the learned positions stand before them.

    Args:
        model: The base.
        method: The recipe's section.
        rows: Parquet file of the training rows.
        columns: Of token ids, which a training reads one after the other.

    Raises:
        ConfigError: The longest row and the learned positions are over the model's context.
    """
    limit = read_context(model.config)
    table = pq.read_table(rows, columns=list(columns))
    if limit is None or not len(table):
        return
    lengths = [pc.list_value_length(table[name]).to_numpy() for name in columns]
    longest = int(sum(lengths).max())
    if longest + method.virtual_tokens > limit:
        raise ConfigError(
            f"method.virtual_tokens: {method.virtual_tokens} before the longest row of "
            f"{longest} tokens are over the model's context of {limit}. Write at most "
            f"{max(limit - longest, 0)}, or leave the longest rows out of the data."
        )


def _partial_attention(config: PretrainedConfig) -> str | None:
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    if kinds:
        return ", ".join(sorted(kinds - {"full_attention"})) or None
    window = getattr(text, "sliding_window", None)
    return f"sliding_window: {window}" if window else None
