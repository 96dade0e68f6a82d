"""How many tokens a model reads at a time, by its configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig

_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "max_sequence_length")
"""What families call it; the first that is there counts."""
_STATED_EXTENDED = frozenset({"longrope", "su", "llama3", "default", "proportional"})
"""Ways to stretch rotary positions whose configurations state the stretched length themselves."""


def read_context(config: PretrainedConfig) -> int | None:
    """Return how many tokens a model can read at a time.

    A sliding window is none of it: it bounds how far a layer looks back, not how long a text is.
    Where rotary positions are stretched by a factor, the stretched length counts.

    Args:
        config: Of any model; of an image-text model the text part counts.

    Returns:
        Tokens; None for a model without such a limit (ALiBi that is computed anew, state spaces) or
        one that does not say.
    """
    text = config.get_text_config()
    if getattr(text, "alibi", False):
        return None
    found = (getattr(text, name, None) for name in _NAMES)
    limit = next((each for each in found if isinstance(each, int) and each > 0), None)
    if limit is None:
        return None
    return max(limit, _stretched(limit, _rotary_settings(text)))


def _rotary_settings(config: PretrainedConfig) -> Mapping[str, Any]:
    for name in ("rope_parameters", "rope_scaling"):
        settings = getattr(config, name, None)
        if isinstance(settings, Mapping):
            return settings
    return {}


def _stretched(limit: int, settings: Mapping[str, Any]) -> int:
    # Families with settings of their own for each kind of layer state the stretched length.
    kind = settings.get("rope_type", settings.get("type", "default"))
    factor = settings.get("factor")
    if kind in _STATED_EXTENDED or not isinstance(factor, int | float):
        return limit
    original = settings.get("original_max_position_embeddings")
    return int((original if isinstance(original, int) else limit) * factor)
