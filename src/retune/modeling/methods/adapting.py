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
from retune.modeling.methods.whole_modules import name_modules as name_modules

_LINEAR = (nn.Linear, Conv1D)
"""What peft calls linear; layers of bitsandbytes are of the first."""
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
        target_modules: Name endings of the layers to adapt, or ``all-linear``.
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
        ConfigError: A name matches nothing, the rank is larger than a layer, there are no biases,
            or the first values cannot be computed; the message says what there is.
    """
    targets = config.target_modules
    check_target_modules(model, targets if isinstance(targets, str) else sorted(targets or ()))
    layers = _targeted(model, config)
    _check_rank(layers, config.r)
    check_stacked(model, config.target_parameters, r=config.r, whole=config.modules_to_save or ())
    if config.bias != "none" and not any(_has_bias(m) for m in layers.values()):
        raise ConfigError(
            f"method.bias: is {config.bias}, but no adapted layer of this model has a bias. "
            "Write none."
        )
    wrong = [name for name, layer in layers.items() if isinstance(layer, Conv1D)]
    if config.init_lora_weights == "olora" and wrong:
        raise ConfigError(
            f"method.init: olora does not work on {wrong[0]}, which keeps its weights transposed "
            "(Conv1D). Write pissa, or true."
        )


def check_target_modules(model: PreTrainedModel, target_modules: str | Sequence[str]) -> None:
    """Refuse target names that match no layer.

    Args:
        model: The model to adapt.
        target_modules: As in the recipe.

    Raises:
        ConfigError: A name matches nothing; the message lists what there is.
    """
    if isinstance(target_modules, str):
        return
    names = [name for name, module in model.named_modules() if _adaptable(module)]
    unknown = [t for t in target_modules if not any(_ends(n, t) for n in names)]
    if unknown:
        raise ConfigError(
            f"method.target_modules: {', '.join(unknown)} match no layer of this model. "
            f"It has: {_endings(names)}; or use all-linear."
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


def _targeted(model: PreTrainedModel, config: PeftLoraConfig) -> dict[str, nn.Module]:
    targets = config.target_modules
    found = {name: module for name, module in model.named_modules() if _adaptable(module)}
    if isinstance(targets, str):
        # As peft does: neither the output head nor what is trained as a whole, such as a
        # classification head.
        whole = {*(config.modules_to_save or ())}
        head = model.get_output_embeddings()
        return {
            name: module
            for name, module in found.items()
            if isinstance(module, _LINEAR) and module is not head and name not in whole
        }
    return {n: m for n, m in found.items() if any(_ends(n, target) for target in targets or ())}


def _check_rank(layers: Mapping[str, nn.Module], r: int) -> None:
    sizes = {name: _sides(layer) for name, layer in layers.items()}
    name = min(sizes, key=lambda each: min(sizes[each]), default=None)
    if name is not None and r > min(sizes[name]):
        width, height = sizes[name]
        raise ConfigError(
            f"method.r: {r} is larger than the smaller side of {name}, which is {width} x "
            f"{height}: an adapter of that rank is no smaller than the layer. Write at most "
            f"{min(sizes[name])}, or leave the layer out of method.target_modules."
        )


def _sides(layer: nn.Module) -> tuple[int, int]:
    # The weights of a 4-bit layer are packed, those of Conv1D and embeddings lie the other way.
    if hasattr(layer, "in_features"):
        return int(layer.in_features), int(layer.out_features)  # type: ignore[arg-type]
    width, height = layer.weight.shape  # type: ignore[misc]
    return int(width), int(height)


def _has_bias(layer: nn.Module) -> bool:
    return getattr(layer, "bias", None) is not None


def _ends(name: str, ending: str) -> bool:
    return f".{name}".endswith(f".{ending}")


def _endings(names: Sequence[str]) -> str:
    return ", ".join(sorted({name.rsplit(".", 1)[-1] for name in names}))


def _adaptable(module: object) -> bool:
    return isinstance(module, (*_LINEAR, nn.Embedding))
