"""Which class a snapshot is loaded with: image-text models as their text part, MXFP4 dequantized.

A snapshot such as Gemma 3 4B holds a vision tower beside the text model. Nothing here reads
images, so the text part is loaded alone: its weights are found in the files under the names that
the whole model gives them, and the tower stays on the disk.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    Mxfp4Config,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers import __version__ as transformers_version
from transformers.utils import GENERATION_CONFIG_NAME

from retune.errors import ConfigError
from retune.model_records import WHOLE, StagePlace
from retune.modeling.offloading import offload_options, removed_on_error, settle_offloaded
from retune.modeling.prequantized import MXFP4, PLAIN, quantized_as
from retune.modeling.read_weights import opened_weights
from retune.modeling.snapshots import weight_map
from retune.text_files import read_json_object

_EMBEDDING, _HEAD = "embed_tokens.weight", "lm_head.weight"
_TEXT_PARTS = ("language_model", "text_model")
_NO_SETTINGS = {
    "config",
    "key_mapping",
    "quantization_config",
    "attn_implementation",
    "device_map",
    "offload_folder",
    "state_dict",
    "generation_config",
}


@dataclass(frozen=True)
class Architecture:
    """What a snapshot folder is loaded as.

    Attributes:
        config: Of the text model, without what its files say about quantization.
        model_class: The class of transformers for it.
        is_part: Whether the files hold more than this, such as a vision tower.
        renames: Patterns of names in the files, and what they are called in the text model.
        quantized: How the files are quantized; see `quantized_as`.
    """

    config: PretrainedConfig
    model_class: type[PreTrainedModel]
    is_part: bool
    renames: dict[str, str]
    quantized: str

    @property
    def options(self) -> dict[str, Any]:
        """What `from_pretrained` is given beside the folder."""
        options: dict[str, Any] = {}
        if self.is_part:
            options |= {"config": self.config, "key_mapping": self.renames}
        if self.quantized == MXFP4:
            # There are kernels for it on some devices, but no backward pass on any.
            options["quantization_config"] = Mxfp4Config(dequantize=True)
        return options


def read_architecture(folder: Path, auto: Any = AutoModelForCausalLM) -> Architecture:
    """Find out what a snapshot folder is loaded as.

    Args:
        folder: A snapshot folder.
        auto: Auto class of transformers for what the model is to do.

    Returns:
        Its text model.

    Raises:
        ConfigError: transformers has no such model for text.
    """
    refuse_unknown(folder)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever its checks of a setting do
        raise ConfigError(f"{folder}: its config.json cannot be read ({error}).") from error
    mapping, text = auto._model_mapping, config.get_text_config(decoder=True)
    is_part, renames = text is not config and type(text) in mapping, {}
    if is_part:
        renames = _renames(_names(folder))
        _complete(text, config, renames)
        config = text
    if type(config) not in mapping or hasattr(config, "vision_config"):
        raise ConfigError(
            f"{folder}: transformers has no text model of its own for {config.model_type} "
            f"({auto.__name__}). Name a model that only reads text."
        )
    model_class = mapping[type(config)]
    first = model_class[0] if isinstance(model_class, tuple) else model_class
    return Architecture(config, first, is_part, renames, quantized_as(folder))


def refuse_unknown(folder: Path) -> None:
    """Refuse a kind of model that the installed transformers does not have.

    Its own message sends to newer releases, which are not what this environment is pinned to.

    Args:
        folder: A snapshot folder.

    Raises:
        ConfigError: `model_type` is missing or unknown.
    """
    path = folder / "config.json"
    config = read_json_object(path, ConfigError)
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in CONFIG_MAPPING:
        return
    if not kind:
        raise ConfigError(
            f"{path}: names no model_type. Expected the config.json of a model of transformers, as "
            "save_pretrained writes it."
        )
    own = (
        " It brings code of its own (auto_map), which is not run here."
        if config.get("auto_map")
        else ""
    )
    raise ConfigError(
        f"{path}: model_type is {kind}, which transformers {transformers_version} does not have."
        f"{own} Name a model of a family that it has, or a conversion of this one to such a "
        "family; where a later transformers has it, it takes a later retune."
    )


def open_snapshot(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    auto: Any = AutoModelForCausalLM,
    place: StagePlace = WHOLE,
    **options: Any,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a snapshot as its text model, with whatever of it is missing made up by transformers.

    Args:
        folder: A snapshot folder.
        dtype: Of the weights that are not quantized.
        device: Where it goes.
        auto: Auto class of transformers for what the model is to do.
        place: Whether a part of it stays on the disk, or all of it is computed on the CPU.
        options: More for `from_pretrained`; settings of the configuration too.

    Returns:
        The model, and which of its weights were `missing_keys` or `mismatched_keys`.

    Raises:
        ConfigError: transformers has no such model for text.
    """
    found = read_architecture(folder, auto)
    device = torch.device("cpu") if place.placement == "cpu" else device
    options = {"device_map": {"": device}, **found.options, **options}
    if place.placement == "offloaded":
        options |= offload_options(_sketch(found, auto, dtype), device, place)
    quantizes = found.quantized == PLAIN and options.get("quantization_config") is not None
    # Files that hold more than the model are meant to.
    quiet = _quiet() if "config" in options else nullcontext()
    if quantizes:
        options.setdefault("config", found.config)
    if "config" in options:
        # With a configuration of its own, `from_pretrained` takes no settings of it.
        for name in set(options) - _NO_SETTINGS:
            setattr(options["config"], name, options.pop(name))
    offloaded = place.placement == "offloaded"
    with quiet, ExitStack() as while_loading:
        if offloaded:
            while_loading.enter_context(removed_on_error(options["offload_folder"]))
        if quantizes:
            options |= {"state_dict": while_loading.enter_context(opened_weights(folder))}
            options |= _generation_options(folder)
        model, info = (found.model_class if "config" in options else auto).from_pretrained(
            None if quantizes else folder,
            dtype=dtype,
            local_files_only=True,
            output_loading_info=True,
            # They are listed in what is returned; else transformers prints a table of them, and
            # raises an error that points at it.
            ignore_mismatched_sizes=True,
            **options,
        )
        if found.is_part or found.quantized != PLAIN:
            forget_conversions(model)
        if offloaded:
            settle_offloaded(model, device, options["offload_folder"])
    return model, info


def _generation_options(folder: Path) -> dict[str, Any]:
    """Return what `from_pretrained` would read of a folder beside configuration and weights."""
    if not (folder / GENERATION_CONFIG_NAME).is_file():
        return {}
    return {"generation_config": GenerationConfig.from_pretrained(folder)}


def _sketch(found: Architecture, auto: Any, dtype: torch.dtype) -> PreTrainedModel:
    """Return the model without weights, by which its blocks are found."""
    config = copy.deepcopy(found.config)
    if getattr(config, "quantization_config", None) is not None:
        # Its layers are sized as what they are loaded as.
        del config.quantization_config
    with torch.device("meta"):
        return cast(PreTrainedModel, auto.from_config(config, dtype=dtype))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from listing the whole vision tower as weights that nobody expected."""
    logger = logging.getLogger("transformers.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def plain_config(folder: Path) -> PretrainedConfig:
    """Return the configuration that unquantized weights of a snapshot's text model are saved with.

    Args:
        folder: A snapshot folder.
    """
    config = read_architecture(folder).config
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config
    return config


def forget_conversions(model: PreTrainedModel) -> None:
    """Keep `save_pretrained` from giving weights the names of the files that they came from.

    transformers 5 turns every renaming and dequantizing of loading back when it saves: an MXFP4
    model's dequantized weights would be saved as its packed blocks, under the packed names.

    Args:
        model: Just loaded.
    """
    if getattr(model, "_weight_conversions", None) is not None:
        del model._weight_conversions


def dequantized(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model with plain weights in place of its 4-bit ones.

    Args:
        model: Loaded; it is changed.
    """
    if not getattr(model, "is_loaded_in_4bit", False):
        return model
    plain = cast(PreTrainedModel, model.dequantize())
    plain.is_loaded_in_4bit = False
    forget_conversions(plain)
    return plain


def _complete(text: PretrainedConfig, whole: PretrainedConfig, renames: dict[str, str]) -> None:
    """Put into a text part's configuration what the whole model's says for it."""
    text.tie_word_embeddings = whole.tie_word_embeddings
    text.dtype = text.dtype or whole.dtype
    quantization = getattr(whole, "quantization_config", None)
    if quantization is not None:
        skipped = quantization.get("llm_int8_skip_modules") or ()
        own = [_renamed(name, renames) for name in skipped] or None
        text.quantization_config = {**quantization, "llm_int8_skip_modules": own}


def _renamed(name: str, renames: dict[str, str]) -> str:
    for pattern, target in renames.items():
        name = re.sub(pattern, target, name)
    return name


def _names(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return list(weight_map(index))
    names: list[str] = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names += file.keys()
    return names


def _renames(names: list[str]) -> dict[str, str]:
    """Find under which prefix the files hold the text model; the layout changed over the years."""
    found: dict[str, str] = {}
    for ending, target in ((_EMBEDDING, "model."), (_HEAD, "")):
        prefixes = {name.removesuffix(ending) for name in names if name.endswith(ending)}
        for prefix in sorted(prefixes):
            if any(part in prefix.split(".") for part in _TEXT_PARTS):
                own = prefix + (ending.removesuffix("weight") if ending == _HEAD else "")
                found["^" + re.escape(own)] = target + ("lm_head." if ending == _HEAD else "")
    # Longest first: `language_model.` is the beginning of `language_model.lm_head.`.
    return dict(sorted(found.items(), key=lambda each: -len(each[0])))
