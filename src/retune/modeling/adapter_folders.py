"""Adapter folders as peft saves them: which base they were trained on, and whether one fits.

peft itself leaves out, with a warning at most, what it finds no place for: an adapter of a deeper
model would be scored with half of its layers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from retune.errors import ConfigError

Shapes = dict[str, tuple[int, ...]]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_SHOWN = 3


def is_adapter(folder: Path) -> bool:
    """Tell an adapter's folder from a model's."""
    return (folder / CONFIG).is_file()


def own_base(folder: Path, resolve: Callable[[Path], Path]) -> Path | None:
    """Return the folder of the base that an adapter names.

    Args:
        folder: The adapter's folder.
        resolve: Makes a path absolute; a run writes `model.id` as its recipe has it.

    Returns:
        The folder where it exists and holds a tokenizer; None where the adapter names a hub id, a
        folder of another machine, or weights without a tokenizer, such as a run's quantized ones.

    Raises:
        ConfigError: The adapter's configuration is broken.
    """
    named = _read_config(folder).get("base_model_name_or_path")
    path = resolve(Path(named)) if isinstance(named, str) and named else None
    if path is None or not (path / "config.json").is_file():
        return None
    return path.resolve() if any(path.glob("tokenizer*")) else None


def check_adapter(folder: Path, base: Path) -> None:
    """Refuse an adapter that was trained on a model of another shape.

    Args:
        folder: The adapter's folder.
        base: Folder of the snapshot that it is put on.

    Raises:
        ConfigError: Its weights are missing or unreadable, or name layers that the base does not
            have in that size.
    """
    config = _read_config(folder)
    if not (folder / WEIGHTS).is_file():
        raise ConfigError(
            f"{folder}: {CONFIG} without {WEIGHTS}. Save the adapter with save_pretrained."
        )
    adapter = _read_shapes([folder / WEIGHTS])
    if config.get("peft_type") != "LORA":
        return
    layers = _read_shapes(sorted(base.glob("*.safetensors")))
    unfit = list(_unfit_layers(adapter, layers))
    if unfit:
        more = f" and {len(unfit) - _SHOWN} more" if len(unfit) > _SHOWN else ""
        raise ConfigError(
            f"{folder}: this adapter does not fit {base}: {'; '.join(unfit[:_SHOWN])}{more}. It "
            "was trained on another model: evaluate it with a recipe whose model.id is that one."
        )


def _unfit_layers(adapter: Shapes, layers: Shapes) -> Iterator[str]:
    for name, shape in adapter.items():
        layer, is_lora, _ = name.removeprefix("base_model.model.").partition(".lora_A.")
        other = adapter.get(name.replace(".lora_A.", ".lora_B."))
        parts = layer.split(".")
        place = next((at for at, part in enumerate(parts) if part.isdecimal()), 0)
        # The head may share the weights of the embedding, and then is in no file.
        if not is_lora or other is None or place == 0:
            continue
        # From the block's list on: what stands before differs between a class and its checkpoint.
        ending = ".".join([*parts[place - 1 :], "weight"])
        found = [s for n, s in layers.items() if n == ending or n.endswith(f".{ending}")]
        wanted = (other[0], shape[1])
        if not found:
            yield f"the base has no layer {layer}"
        # Conv1D keeps its weights the other way round.
        elif not {wanted, wanted[::-1]} & set(found):
            yield f"{layer} is {_by(wanted)} there and {_by(found[0])} in the base"


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON ({error}).") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: expected a JSON object with peft's settings.")
    return config


def _read_shapes(files: list[Path]) -> Shapes:
    """Read the heads of weight files; no weights are loaded."""
    from safetensors import SafetensorError, safe_open

    shapes: Shapes = {}
    for path in files:
        try:
            with safe_open(path, framework="np") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{path}: not a file of safetensors ({error}).") from error
    return shapes
