"""Adapter folders as peft saves them: which base they were trained on, and whether one fits.

peft itself leaves out, with a warning at most, what it finds no place for: an adapter of a deeper
model would be scored with half of its layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from retune.errors import ConfigError
from retune.modeling.head_files import HEAD_WEIGHTS
from retune.modeling.methods.adapter_shapes import list_misfits
from retune.text_files import read_json_object

Shapes = dict[str, tuple[int, ...]]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_SHOWN = 3


def is_adapter(folder: Path) -> bool:
    """Tell the folder of what is put on a base (an adapter, a head alone) from a model's."""
    return (folder / CONFIG).is_file() or (folder / HEAD_WEIGHTS).is_file()


def named_base(folder: Path) -> str | None:
    """Return what an adapter calls its base: a hub id, or a folder.

    Args:
        folder: The adapter's folder.

    Returns:
        None where it does not say.

    Raises:
        ConfigError: The adapter's configuration is broken.
    """
    if not (folder / CONFIG).is_file():
        return None
    named = _read_json(folder / CONFIG).get("base_model_name_or_path")
    return named if isinstance(named, str) and named else None


def named_method(folder: Path) -> str:
    """Return what peft calls the method of an adapter, such as ``LORA``; of a head, ``HEAD``.

    Args:
        folder: The adapter's folder.

    Raises:
        ConfigError: The adapter's configuration is broken.
    """
    if not (folder / CONFIG).is_file():
        return "HEAD"
    return str(read_settings(folder).get("peft_type"))


def read_settings(folder: Path) -> dict[str, Any]:
    """Read an adapter's configuration.

    Args:
        folder: The adapter's folder.

    Raises:
        ConfigError: It is no JSON object.
    """
    return _read_json(folder / CONFIG)


def doubt_base(folder: Path, base: Path, names: Sequence[str]) -> str | None:
    """Say that an adapter names another base than it is put on, where that one is not here.

    Args:
        folder: The adapter's folder.
        base: Folder of the snapshot that it is put on.
        names: What that snapshot is called; the first is shown.

    Returns:
        One sentence; None where it names this one, or none.
    """
    named = named_base(folder)
    if named is None or named in {*names, str(base)}:
        return None
    return (
        f"{folder}: this adapter names {named} as its base, and is put on {names[0]}, "
        "whose layers have the same shapes. If these are other weights, what it says means "
        f"nothing: write model.id: {named}."
    )


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
    if (folder / HEAD_WEIGHTS).is_file():
        return None
    named = named_base(folder)
    path = resolve(Path(named)) if named else None
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
    if (folder / HEAD_WEIGHTS).is_file():
        # One matrix, whose width loading compares.
        return
    config = _read_json(folder / CONFIG)
    if not (folder / WEIGHTS).is_file():
        raise ConfigError(
            f"{folder}: {CONFIG} without {WEIGHTS}{_pickled(folder)}. Save the adapter with "
            "save_pretrained; pickled weights are not loaded, since a pickle can run any code."
        )
    adapter = read_shapes([folder / WEIGHTS])
    layers = read_shapes(sorted(base.glob("*.safetensors")))
    unfit = list(list_misfits(config, adapter, _read_json(base / "config.json"), layers))
    if unfit:
        more = f" and {len(unfit) - _SHOWN} more" if len(unfit) > _SHOWN else ""
        raise ConfigError(
            f"{folder}: this adapter does not fit {base}: {'; '.join(unfit[:_SHOWN])}{more}. It "
            "was trained on another model: evaluate it with a recipe whose model.id is that one."
        )


def _pickled(folder: Path) -> str:
    found = sorted(path.name for path in folder.glob("adapter_model.bin"))
    return f" (found {found[0]})" if found else ""


def _read_json(path: Path) -> dict[str, Any]:
    return read_json_object(path, ConfigError)


def read_shapes(files: list[Path]) -> Shapes:
    """Read the heads of weight files; no weights are loaded.

    Args:
        files: Of safetensors.

    Returns:
        The shape of each weight by its name.

    Raises:
        ConfigError: A file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    shapes: Shapes = {}
    for path in files:
        try:
            with safe_open(path, framework="np") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{path}: not a file of safetensors ({error}).") from error
    return shapes
