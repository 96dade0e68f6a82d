"""Going on from an adapter that was trained before: whether it fits a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.digests import digest_file, digest_tree
from retune.errors import ConfigError
from retune.model_records import BaseRef
from retune.modeling.methods.adapter_folders import (
    CONFIG,
    WEIGHTS,
    check_adapter,
    own_base,
    read_settings,
    read_shapes,
)
from retune.records import Source

if TYPE_CHECKING:
    from peft import PeftModel

_KEY = "training.start_from"
_SETTINGS = {
    "r": "method.r",
    "lora_alpha": "method.alpha",
    "use_rslora": "method.rslora",
    "use_dora": "method.dora",
    "bias": "method.bias",
}
"""What decides what an adapter's weights mean, by peft's names and the recipe's."""
_OF_ONE_LAYER = ("rank_pattern", "alpha_pattern")
_MOVING = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""First values that peft takes out of the base, by the beginnings of their names."""
_SHOWN = 3


def locate_start(folder: Path, base: BaseRef, resolve: Callable[[Path], Path]) -> Source:
    """Find the adapter that a recipe goes on from.

    Args:
        folder: As the recipe names it, absolute.
        base: The recipe's base.
        resolve: Makes a path of the recipe absolute.

    Returns:
        The folder and the digest of its two files.

    Raises:
        ConfigError: It is no LoRA adapter, or one of another base.
    """
    files = [folder / name for name in (CONFIG, WEIGHTS)]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise ConfigError(
            f"{_KEY}: {folder} has no {' and no '.join(missing)}. Expected the folder of a LoRA "
            "adapter, as save_pretrained or an earlier run (train_adapter) writes it."
        )
    config = read_settings(folder)
    if config.get("peft_type") != "LORA":
        raise ConfigError(
            f"{_KEY}: {folder} is an adapter of kind {config.get('peft_type')}; expected LORA."
        )
    _refuse_moved_base(folder, config.get("init_lora_weights"))
    if any(base.folder.glob("*.safetensors")):
        check_adapter(folder, base.folder)
    _refuse_other_base(folder, base, resolve)
    return Source(digest=digest_tree({p.name: digest_file(p) for p in files}), path=folder)


def _refuse_moved_base(folder: Path, init: object) -> None:
    """Refuse weights that mean something over what is left of a base without its first values."""
    if isinstance(init, str) and init.startswith(_MOVING):
        raise ConfigError(
            f"{_KEY}: {folder} was saved with init_lora_weights: {init}, so that it belongs on a "
            "base whose weights were changed at its start, not on the base as it is. Save it with "
            "save_pretrained(folder, path_initial_model_for_weight_conversion=...), or name an "
            "adapter without such first values."
        )


def _refuse_other_base(folder: Path, base: BaseRef, resolve: Callable[[Path], Path]) -> None:
    from retune.modeling.snapshots import locate_base

    named = own_base(folder, resolve)
    if named is not None and named != base.folder:
        other = locate_base(str(named), None)
        if other.digest != base.digest:
            raise ConfigError(
                f"{_KEY}: {folder} was trained over {named}, whose content is not that of "
                f"{base.folder}. Write model.id: {named}, or start from an adapter of this base."
            )


def check_start(folder: Path, adapted: PeftModel) -> None:
    """Refuse an adapter whose settings or weights are not those of the method.

    Args:
        folder: The adapter's folder.
        adapted: The model, or its meta model, with the method on it.

    Raises:
        ConfigError: The message names each setting or weight that differs.
    """
    theirs = read_settings(folder)
    ours = adapted.peft_config["default"].to_dict()
    wrong = [*_unlike_settings(ours, theirs)] or [*_unlike_weights(folder, adapted)]
    if wrong:
        raise ConfigError(
            f"{_KEY}: {folder} is not of the form of method: {'; '.join(wrong)}. Write method as "
            "the adapter was trained, or remove training.start_from."
        )


def _unlike_settings(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for name, key in _SETTINGS.items():
        if theirs.get(name, ours[name]) != ours[name]:
            yield f"{key} is {ours[name]} in the recipe, and {theirs[name]} there"
    for name in _OF_ONE_LAYER:
        if theirs.get(name):
            yield f"it has a {name}, which a recipe cannot write"


def _unlike_weights(folder: Path, adapted: PeftModel) -> Iterator[str]:
    from peft import get_peft_model_state_dict

    state = adapted.state_dict()
    learned = get_peft_model_state_dict(adapted, state, save_embedding_layers=False)
    expected = {name: tuple(weight.shape) for name, weight in learned.items()}
    found = read_shapes([folder / WEIGHTS])
    # Where an embedding is adapted, peft saves what lies under its adapter too.
    more = sorted(found.keys() - expected.keys() - state.keys())
    less = sorted(expected.keys() - found.keys())
    if less:
        yield f"it has no {_some(less)}, which method names"
    if more:
        yield f"it has {_some(more)}, which method does not name"
    for name in sorted(expected.keys() & found.keys()):
        if expected[name] != found[name]:
            yield f"{name} is {found[name]} there, and {expected[name]} by method"
            return


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
