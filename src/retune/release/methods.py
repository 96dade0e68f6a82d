"""Methods and releases in words: what was trained, how large it is, how it became the model."""

from __future__ import annotations

from retune.model_records import AdapterRef, MergedRef
from retune.recipe.recipe import Recipe
from retune.recipe.sections import LowRankConfig, MethodConfig
from retune.recipe.sections.method import (
    BottleneckConfig,
    FrozenConfig,
    FullConfig,
    PrefixConfig,
    PTuningConfig,
)


def describe_method(method: MethodConfig, quantization: str) -> str:
    """Say how a model was adapted, with what decides the size of the adapter.

    Args:
        method: The recipe's section.
        quantization: Of the weights that it was trained over.

    Returns:
        A sentence part, such as ``LoRA over NF4 weights, r = 16, alpha = 32``.
    """
    if isinstance(method, FullConfig):
        return "full fine-tuning: all weights"
    over = f" over {quantization.upper()} weights" if quantization != "none" else ""
    if isinstance(method, FrozenConfig):
        return f"a classification head alone{over}"
    if isinstance(method, LowRankConfig):
        name = "DoRA" if method.dora else "LoRA"
        whole = method.modules_to_save
        also = f", and all of {', '.join(whole)}" if whole else ""
        return f"{name}{over}, r = {method.r}, alpha = {method.alpha}{also}"
    if isinstance(method, BottleneckConfig):
        places = [
            name
            for name, is_there in (
                ("attention", method.after_attention),
                ("the feed-forward layers", method.after_feed_forward),
            )
            if is_there
        ]
        return f"bottleneck adapters{over}, size = {method.size}, after {' and '.join(places)}"
    tokens = f"{method.virtual_tokens} virtual tokens"
    if isinstance(method, PrefixConfig):
        return f"prefix tuning{over}, {tokens} in every block"
    if isinstance(method, PTuningConfig):
        return f"P-tuning{over}, {tokens} out of an {method.encoder.upper()}"
    return f"prompt tuning{over}, {tokens}"


def describe_training(recipe: Recipe, quantization: str) -> str:
    """Say everything that a recipe trains: its method, and what follows supervised fine-tuning.

    Args:
        recipe: The recipe.
        quantization: Of the weights that are trained over.

    Returns:
        A sentence part, such as ``LoRA, r = 16, alpha = 32, then DPO on pairs of answers``.
    """
    after = (
        ("DPO on pairs of answers", recipe.dpo),
        ("GRPO on rewards of its own answers", recipe.grpo),
    )
    method = describe_method(recipe.method, quantization)
    return ", then ".join([method, *(name for name, section in after if section is not None)])


def describe_release(adapter: AdapterRef, release: MergedRef) -> str:
    """Say how what was trained became the model that is released.

    Args:
        adapter: What was trained.
        release: What came of it.

    Returns:
        A sentence part.
    """
    if release.bundled:
        return "the adapter lies beside these weights and cannot be merged into them"
    if adapter.kind == "full":
        return "these are the trained weights"
    if adapter.kind == "frozen":
        return "the head stands on the base's own weights"
    return "the adapter is merged into these weights"
