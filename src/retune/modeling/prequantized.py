"""Snapshots that are quantized already: which kind, and what a recipe has to say about it.

Only `config.json` is read, so that a wrong recipe is refused before any weight is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from retune.errors import ConfigError
from retune.text_files import read_json_object

PLAIN: Final = "none"
NF4: Final = "nf4"
MXFP4: Final = "mxfp4"


def quantized_as(folder: Path) -> str:
    """Return how a snapshot's weights are stored.

    Args:
        folder: A snapshot folder.

    Returns:
        ``none``, ``nf4`` (bitsandbytes), ``mxfp4`` (gpt-oss), or the name of another method.

    Raises:
        ConfigError: The configuration is no JSON object.
    """
    path = folder / "config.json"
    config = _read_config(path) if path.is_file() else {}
    found = config.get("quantization_config")
    # An image-text model may say so of its text part alone.
    found = found or (config.get("text_config") or {}).get("quantization_config")
    if not found:
        return PLAIN
    method = str(found.get("quant_method", "bitsandbytes"))
    if method != "bitsandbytes":
        return method
    if found.get("load_in_4bit"):
        return str(found.get("bnb_4bit_quant_type", "fp4"))
    return "8-bit bitsandbytes"


def _read_config(path: Path) -> dict[str, Any]:
    return read_json_object(path, ConfigError)


def check_quantization(folder: Path, kind: str) -> None:
    """Refuse a recipe that does not fit how its base is stored.

    Args:
        folder: The base's snapshot folder.
        kind: `quantization.kind` of the recipe.

    Raises:
        ConfigError: The base is NF4 and the recipe wants it unquantized, or it is stored in a way
            that adapters cannot be trained over.
    """
    found = quantized_as(folder)
    if found in (PLAIN, MXFP4) or found == NF4 == kind:
        return
    if found == NF4:
        raise ConfigError(
            f"quantization.kind: is {kind}, but {folder} is quantized to NF4 already. Write "
            "quantization.kind: nf4 to train adapters over it as it is, or name the unquantized "
            "model in model.id."
        )
    raise ConfigError(
        f"model.id: {folder} is quantized ({found}), which nothing is trained over here. Name the "
        "unquantized model, or one in NF4 (bitsandbytes) or MXFP4 (gpt-oss)."
    )
