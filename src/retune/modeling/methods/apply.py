"""Putting a method of the recipe on a loaded model: one door for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from peft import PeftConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import PreTrainedModel

from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import ConfigError
from retune.modeling.methods.blocks import find_sub_layers
from retune.modeling.methods.bottleneck import as_bottleneck, register_bottleneck
from retune.modeling.methods.lora import as_peft, check_method
from retune.modeling.methods.prompt_checks import VirtualTokensConfig, check_prompt
from retune.modeling.methods.prompt_learning import (
    Prompted,
    as_p_tuning,
    as_prefix,
    as_prompt,
    draw_words,
    prompt_model,
    start_from_words,
)
from retune.modeling.methods.stacked_weights import list_stacked
from retune.modeling.methods.token_rows import name_token_rows, show_head_bias
from retune.modeling.methods.whole_modules import name_modules, ties_whole
from retune.recipe.sections import (
    BottleneckConfig,
    FrozenConfig,
    FullConfig,
    LowRankConfig,
    MethodConfig,
    PrefixConfig,
    PromptTuningConfig,
    PTuningConfig,
)


def apply_method(
    model: PreTrainedModel,
    method: MethodConfig,
    *,
    task_type: str = "CAUSAL_LM",
    whole: Sequence[str] = (),
    tokenizer: Path | None = None,
    gradient_checkpointing: bool = False,
) -> PreTrainedModel | PeftModel:
    """Put a method on a model: afterwards exactly what is trained requires gradients.

    The model may be on the meta device, where a method's shapes are made and no values.

    Args:
        model: Loaded, quantized or not; it is changed.
        method: The recipe's section.
        task_type: What the model does, as peft names it.
        whole: Ends of names of modules that are trained as a whole beside the method.
        tokenizer: Folder of the base's tokenizer, which an `init_text` and tokens are read with.
        gradient_checkpointing: Whether activations are computed again in the backward pass.

    Returns:
        The adapted model; the model itself where all of its weights or a part of them are trained.

    Raises:
        ConfigError: The method does not fit the model.
    """
    if isinstance(method, FullConfig):
        return model.requires_grad_(True)
    if isinstance(method, FrozenConfig):
        return _train_whole_alone(model, whole)
    if isinstance(method, LowRankConfig):
        return _add_low_rank(model, method, task_type, whole, tokenizer, gradient_checkpointing)
    if isinstance(method, BottleneckConfig):
        return _add_bottlenecks(model, method, task_type, whole)
    check_prompt(model, method, gradient_checkpointing=gradient_checkpointing)
    return _add_prompt(model, method, task_type, whole, tokenizer)


def _train_whole_alone(model: PreTrainedModel, whole: Sequence[str]) -> PreTrainedModel:
    names = name_modules(model, whole)
    if not names:
        raise ConfigError(
            "method.kind: frozen trains a classification head and nothing else, but this model "
            "has none. Add a head to the recipe (head: {}), or choose another method."
        )
    model.requires_grad_(False)
    for name in names:
        model.get_submodule(name).requires_grad_(True)
    return model


def _add_low_rank(
    model: PreTrainedModel,
    method: LowRankConfig,
    task_type: str,
    whole: Sequence[str],
    tokenizer: Path | None,
    gradient_checkpointing: bool,
) -> PeftModel:
    names = name_modules(model, [*(method.modules_to_save or ()), *whole])
    config = as_peft(
        r=method.r,
        alpha=method.alpha,
        dropout=method.dropout,
        target_modules=method.target_modules,
        rslora=method.rslora,
        bias=method.bias,
        dora=method.dora,
        modules_to_save=names,
        init=method.init,
        task_type=task_type,
        tie=ties_whole(model, names),
        trainable_tokens=name_token_rows(model, tokenizer, method.trainable_tokens, names),
        target_parameters=method.target_parameters,
    )
    check_method(model, config)
    if model.device.type == "meta":
        # Without values there is nothing to take first values from; their shapes are the same.
        config.init_lora_weights = True
    if getattr(model, "is_quantized", False):
        model = _prepare_quantized(model, gradient_checkpointing=gradient_checkpointing)
    adapted = _wrap(model, config)
    show_head_bias(adapted)
    return adapted


def _prepare_quantized(model: PreTrainedModel, *, gradient_checkpointing: bool) -> PreTrainedModel:
    """Prepare as peft does, which turns what is not packed into float32, but for stacked experts.

    These are most of a model's weights: in float32 those of a 20B model would take 76 GB.
    """
    experts = [(weight, weight.data) for weight in list_stacked(model).values()]
    for weight, data in experts:
        weight.data = data.new_empty(0)
    prepared = prepare_model_for_kbit_training(
        model, use_gradient_checkpointing=gradient_checkpointing
    )
    for weight, data in experts:
        weight.data = data
    return cast(PreTrainedModel, prepared)


def _add_bottlenecks(
    model: PreTrainedModel, method: BottleneckConfig, task_type: str, whole: Sequence[str]
) -> PeftModel:
    register_bottleneck()
    config = as_bottleneck(
        hidden_size=int(model.config.get_text_config().hidden_size),
        size=method.size,
        activation=method.activation,
        residual=method.residual,
        init_std=method.init_std,
        dropout=method.dropout,
        sub_layers=find_sub_layers(
            model, attention=method.after_attention, feed_forward=method.after_feed_forward
        ),
        modules_to_save=name_modules(model, whole),
        task_type=task_type,
    )
    return _wrap(model, config)


def _add_prompt(
    model: PreTrainedModel,
    method: VirtualTokensConfig,
    task_type: str,
    whole: Sequence[str],
    tokenizer: Path | None,
) -> Prompted:
    if isinstance(method, PrefixConfig):
        config = as_prefix(
            virtual_tokens=method.virtual_tokens,
            projection=method.projection,
            projection_size=method.projection_size,
            task_type=task_type,
        )
    elif isinstance(method, PTuningConfig):
        config = as_p_tuning(
            virtual_tokens=method.virtual_tokens,
            encoder=method.encoder,
            encoder_size=method.encoder_size,
            encoder_layers=method.encoder_layers,
            encoder_dropout=method.encoder_dropout,
            task_type=task_type,
        )
    else:
        config = as_prompt(virtual_tokens=method.virtual_tokens, task_type=task_type)
    config.modules_to_save = list(name_modules(model, whole)) or None
    first = _first_words(model, method, tokenizer)
    adapted = prompt_model(model, config)
    _name_once(config)
    if first:
        start_from_words(adapted, first)
    return adapted


def _first_words(
    model: PreTrainedModel, method: VirtualTokensConfig, tokenizer: Path | None
) -> list[int]:
    if not isinstance(method, PromptTuningConfig):
        return []
    if method.init_text is None or tokenizer is None:
        return draw_words(model.config.get_text_config().vocab_size, method.virtual_tokens)
    ids = load_tokenizer(tokenizer)(method.init_text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise ConfigError(
            f"method.init_text: {method.init_text!r} has no tokens for this model's tokenizer. "
            "Write some words, or null for words drawn at random."
        )
    return [int(token) for token in ids]


def _wrap(model: PreTrainedModel, config: PeftConfig) -> PeftModel:
    adapted = cast(PeftModel, get_peft_model(model, config))
    _name_once(config)
    return adapted


def _name_once(config: PeftConfig) -> None:
    # peft adds the names of a classifier's head to those that are there.
    if config.modules_to_save:
        config.modules_to_save = sorted(set(config.modules_to_save))
