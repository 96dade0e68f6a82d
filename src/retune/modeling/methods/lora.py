"""Adaptation methods as peft sees them, and what is refused before a model is adapted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from retune.errors import ConfigError
from retune.modeling.methods.stacked_weights import check_stacked
from retune.modeling.methods.targets import check_rank, find_targets
from retune.modeling.methods.whole_modules import name_modules as name_modules

_MOVE_THE_BASE = ("pissa", "olora")

Weights = dict[str, torch.Tensor]


def as_peft(
    *,
    r: int,
    alpha: int,
    dropout: float,
    target_modules: str | Sequence[str],
    rslora: bool,
    bias: str = "none",
    dora: bool = False,
    modules_to_save: Sequence[str] | None = None,
    init: bool | str = True,
    task_type: str = "CAUSAL_LM",
    tie: bool = False,
    trainable_tokens: Mapping[str, Sequence[int]] | None = None,
    target_parameters: Sequence[str] | None = None,
) -> PeftLoraConfig:
    """Return peft's form of the LoRA settings.

    Args:
        r: Rank of the update.
        alpha: Scale; the update is multiplied by ``alpha / r`` (``alpha / sqrt(r)`` with rslora).
        dropout: On the adapter's input, from 0 to 1.
        target_modules: Name endings of the layers to adapt, a regular expression, or
            ``all-linear``; see `find_targets`.
        rslora: Whether the scale is rank-stabilised.
        bias: Which biases of the base are trained: ``none``, ``all`` or ``lora_only``.
        dora: Whether magnitude and direction are trained apart.
        modules_to_save: Names of the modules that are trained as a whole; see `name_modules`.
        init: First values, as peft names them.
        task_type: What the model does, as peft names it.
        tie: Whether embedding and output head are trained as one; see `ties_whole`.
        trainable_tokens: Rows of the vocabulary that are trained; see `name_token_rows`.
        target_parameters: Name endings of the stacked weights to adapt; see `check_stacked`.

    Returns:
        A configuration.
    """
    targets = target_modules if isinstance(target_modules, str) else list(target_modules)
    return PeftLoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        use_rslora=rslora,
        bias=bias,
        use_dora=dora,
        modules_to_save=list(modules_to_save) if modules_to_save else None,
        init_lora_weights=init,
        task_type=task_type,
        ensure_weight_tying=tie,
        trainable_token_indices={n: list(ids) for n, ids in (trainable_tokens or {}).items()}
        or None,
        target_parameters=sorted(target_parameters) if target_parameters else None,
    )


def check_method(model: PreTrainedModel, config: PeftLoraConfig) -> None:
    """Refuse settings that do not fit a model, before anything is trained.

    Args:
        model: The model to adapt.
        config: From `as_peft`, not yet used.

    Raises:
        ConfigError: A name matches nothing or what cannot be adapted, the rank is larger than a
            layer, there are no biases, or the first values cannot be computed; the message says
            what there is.
    """
    targets, whole = config.target_modules or (), config.modules_to_save or ()
    named = targets if isinstance(targets, str) else sorted(targets)
    layers = find_targets(model, named, whole)
    check_rank(layers, config.r)
    check_stacked(model, config.target_parameters, r=config.r, whole=whole)
    if config.bias != "none" and not any(_has_bias(m) for m in layers.values()):
        raise ConfigError(
            f"method.bias: is {config.bias}, but no adapted layer of this model has a bias. "
            "Write none."
        )
    _check_first_values(layers, config.init_lora_weights)


def _check_first_values(layers: Mapping[str, nn.Module], init: bool | str) -> None:
    embeddings = [name for name, layer in layers.items() if isinstance(layer, nn.Embedding)]
    if init in _MOVE_THE_BASE and embeddings:
        raise ConfigError(
            f"method.init: {init} takes its first values out of linear layers, and {embeddings[0]} "
            "is an embedding. Write true, or leave it out of method.target_modules."
        )
    transposed = [name for name, layer in layers.items() if isinstance(layer, Conv1D)]
    if init == "olora" and transposed:
        raise ConfigError(
            f"method.init: olora does not work on {transposed[0]}, which keeps its weights "
            "transposed (Conv1D). Write pissa, or true."
        )


def initial_update(model: PeftModel) -> Weights | None:
    """Return the adapter's first values where its making took them out of the base.

    Args:
        model: Just adapted.

    Returns:
        A copy by the names of the saved file; None where the base is as it was.
    """
    config = model.peft_config["default"]
    if getattr(config, "init_lora_weights", None) not in _MOVE_THE_BASE:
        return None
    state = get_peft_model_state_dict(model)
    return {n: w.detach().clone().cpu() for n, w in state.items() if _matrix(n) is not None}


def fit_to_base(folder: Path, initial: Mapping[str, torch.Tensor]) -> None:
    """Rewrite a saved adapter so that it fits the base as it was before the adapter was made.

    Training saw ``W - s B0 A0 + s B A``. Over ``W`` the same is an adapter of twice the rank:
    ``[B, -B0] [A; A0]``, with its scale s kept (https://arxiv.org/abs/2404.02948, appendix).

    Args:
        folder: Where `save_pretrained` wrote it.
        initial: From `initial_update`.
    """
    weights = load_file(folder / "adapter_model.safetensors")
    for name, first in initial.items():
        learned = weights[name]
        is_a = _matrix(name) == "A"
        parts = [learned, first if is_a else -first]
        weights[name] = torch.cat([part.to(learned.dtype) for part in parts], dim=0 if is_a else 1)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["r"] *= 2
    config["lora_alpha"] *= math.sqrt(2) if config["use_rslora"] else 2
    config["init_lora_weights"] = True
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _matrix(name: str) -> str | None:
    return next((letter for letter in "AB" if f".lora_{letter}." in name), None)


def _has_bias(layer: nn.Module) -> bool:
    return getattr(layer, "bias", None) is not None
