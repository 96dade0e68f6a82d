"""Putting a saved adapter of any method on a model, with all of its weights and no others."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from peft import PeftConfig, PeftModel, PromptLearningConfig, get_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel

from retune.errors import ConfigError
from retune.modeling.methods.bottleneck import register_bottleneck
from retune.modeling.methods.prompt_learning import prompt_model

WEIGHTS = "adapter_model.safetensors"
_READS_BASE = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters")
"""Settings of adapters that read or replace weights of the base: empty where they do not."""
_SHOWN = 3


def put_saved(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Put a saved adapter on a model.

    Args:
        model: The base, as it was trained over or unquantized.
        folder: The adapter's folder.

    Returns:
        The adapted model in evaluation mode, its adapter frozen.

    Raises:
        ConfigError: The folder cannot be read, or its weights are not those that the adapter has on
            this model; peft would leave them out, or random, with a warning at most.
    """
    register_bottleneck()
    try:
        adapted = _put(model, folder)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"{folder}: this adapter cannot be put on the model ({error}). Use the base that it "
            "was trained on."
        ) from error
    check_names(adapted, folder)
    return adapted.eval()


def _put(model: PreTrainedModel, folder: Path) -> PeftModel:
    config = read_config(folder)
    if not isinstance(config, PromptLearningConfig):
        return _put_layers(model, config, folder)
    config.inference_mode = True
    adapted = prompt_model(model, config)
    adapted.load_adapter(folder, "default")
    return adapted


def _put_layers(model: PreTrainedModel, config: PeftConfig, folder: Path) -> PeftModel:
    if not any(weight.is_meta for weight in model.parameters()):
        return PeftModel.from_pretrained(model, folder)
    _refuse_unreadable(config, folder)
    adapted = PeftModel.from_pretrained(model, folder, low_cpu_mem_usage=True)
    # peft puts new layers where the old ones are: on the disk, where they have no values.
    state = get_peft_model_state_dict(adapted, adapted.state_dict(keep_vars=True))
    keys = {id(weight): key for key, weight in state.items()}
    with safe_open(folder / WEIGHTS, framework="pt", device=str(model.device)) as file:
        for module in adapted.modules():
            for name, weight in module.named_parameters(recurse=False):
                if id(weight) in keys:
                    value = file.get_tensor(keys[id(weight)]).to(weight.dtype)
                    setattr(module, name, nn.Parameter(value, requires_grad=False))
    return adapted


def _refuse_unreadable(config: PeftConfig, folder: Path) -> None:
    """Refuse what reads weights of the base beside its layers' own forward passes."""
    found = [name for name in _READS_BASE if getattr(config, name, None)]
    if getattr(config, "bias", "none") != "none":
        found.append("bias")
    if isinstance(config.target_modules, Collection) and any(
        "embed" in name or name == "wte" for name in config.target_modules
    ):
        found.append("target_modules")
    if found:
        raise ConfigError(
            f"{folder}: this adapter ({', '.join(found)}) cannot be put over a base whose layers "
            "are offloaded, since it reads their weights by itself. Write device.placement: cpu, "
            "or device."
        )


def read_config(folder: Path) -> PeftConfig:
    """Return peft's form of a saved adapter's settings."""
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftConfig._get_peft_type(str(folder))]
    return kind.from_pretrained(str(folder))


def check_names(adapted: PeftModel, folder: Path) -> None:
    """Refuse an adapter of which peft would leave out a weight, or make one up.

    Args:
        adapted: With the adapter on it.
        folder: The adapter's folder.

    Raises:
        ConfigError: Weights are missing, or belong to nothing.
    """
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        found = set(file.keys())
    state = adapted.state_dict()
    expected = set(get_peft_model_state_dict(adapted, state, save_embedding_layers=False))
    # Where an embedding is adapted, peft saves what lies under its adapter too.
    unexpected = sorted(found - expected - set(state))
    missing = sorted(expected - found)
    if missing or unexpected:
        raise ConfigError(
            f"{folder}: its weights are not those of an adapter on this model; missing: "
            f"{_some(missing)}; unexpected: {_some(unexpected)}. Use the base that it was trained "
            "on, or save the adapter anew with save_pretrained."
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more
