"""Putting a saved adapter of any method on a model, with all of its weights and no others."""

from __future__ import annotations

from pathlib import Path

from peft import PeftConfig, PeftModel, PromptLearningConfig, get_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from retune.errors import ConfigError
from retune.modeling.methods.bottleneck import register_bottleneck
from retune.modeling.methods.prompt_learning import prompt_model

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
    _check_names(adapted, folder)
    return adapted.eval()


def _put(model: PreTrainedModel, folder: Path) -> PeftModel:
    config = _read_settings(folder)
    if not isinstance(config, PromptLearningConfig):
        return PeftModel.from_pretrained(model, folder)
    config.inference_mode = True
    adapted = prompt_model(model, config)
    adapted.load_adapter(folder, "default")
    return adapted


def _read_settings(folder: Path) -> PeftConfig:
    kind = PEFT_TYPE_TO_CONFIG_MAPPING[PeftConfig._get_peft_type(str(folder))]
    return kind.from_pretrained(str(folder))


def _check_names(adapted: PeftModel, folder: Path) -> None:
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
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
