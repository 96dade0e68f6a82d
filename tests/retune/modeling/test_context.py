"""How many tokens a model reads at a time."""

from __future__ import annotations

import pytest
from transformers import (
    BloomConfig,
    FalconConfig,
    Gemma3Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MptConfig,
    PretrainedConfig,
    Qwen2Config,
)

from retune.modeling.context import read_context

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "original_max_position_embeddings": 512,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (LlamaConfig(max_position_embeddings=300), 300),
        (GPT2Config(n_positions=128), 128),
        (MptConfig(max_seq_len=77), 77),
        (BloomConfig(), None),
        (MambaConfig(), None),
        (FalconConfig(alibi=True), None),
        (FalconConfig(alibi=False, max_position_embeddings=60), 60),
        (Qwen2Config(max_position_embeddings=900, use_sliding_window=True, sliding_window=8), 900),
        (Gemma3Config(text_config={"max_position_embeddings": 90, "sliding_window": 9}), 90),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, PretrainedConfig) else None,
)
def test_each_family_says_it_in_its_own_way(config: PretrainedConfig, limit: int | None) -> None:
    """Positions that are learned or trained; a window that slides is no limit, ALiBi has none."""
    assert read_context(config) == limit


@pytest.mark.parametrize(
    ("settings", "stated", "limit"),
    [
        ({"rope_type": "linear", "factor": 4.0}, 100, 400),
        ({"rope_type": "dynamic", "factor": 2.0}, 100, 200),
        (YARN, 1024, 4096),
        (YARN, 4096, 4096),
        (LLAMA3, 4096, 4096),
    ],
    ids=["linear", "dynamic", "yarn, not stated", "yarn, stated", "llama3"],
)
def test_stretched_positions_count(settings: dict[str, object], stated: int, limit: int) -> None:
    """Factor times what was trained; some configurations state the stretched length already."""
    config = LlamaConfig(max_position_embeddings=stated, rope_scaling=dict(settings))
    assert read_context(config) == limit
