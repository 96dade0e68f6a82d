"""Opening a store by its address: a folder of this machine, or shared storage."""

from __future__ import annotations

import os
import re
from pathlib import Path

from retune.errors import ConfigError
from retune.recipe.loading import LoadedRecipe
from retune.spine.shared_store import SharedStore
from retune.spine.store import Store

_SHARED: dict[str, SharedStore] = {}
"""Shared stores that this process has opened, by address and by the folder of their cache."""


def is_shared(address: str) -> bool:
    """Tell an address of shared storage from a folder."""
    return "://" in address


def open_store(address: str | Path, caches: Path | None = None) -> Store:
    """Open a store.

    Args:
        address: A folder, or an address such as ``s3://bucket/prefix``; or the folder of the cache
            of one that this process has opened.
        caches: Folder of caches of shared stores; None for the one that this process has opened it
            with, else the user's.

    Returns:
        The store; of one address and folder of caches always the same.

    Raises:
        ConfigError: Nothing here can read such an address.
    """
    place = str(address).rstrip("/") or "/"
    known = _SHARED.get(place)
    if known is not None and caches in (None, known.root.parent):
        return known
    if not is_shared(place):
        return Store(Path(place))
    opened = SharedStore(place, default_caches() if caches is None else caches)
    _SHARED[place] = _SHARED[str(opened.root)] = opened
    return opened


def open_recipe_store(loaded: LoadedRecipe) -> Store:
    """Open the store that a recipe names.

    Raises:
        ConfigError: Nothing here can read its address.
    """
    config = loaded.recipe.store
    if isinstance(config.folder, str):
        caches = None if config.cache is None else loaded.resolve(config.cache)
        return open_store(config.folder, caches or default_caches())
    return Store(loaded.resolve(config.folder))


def open_folder(folder: Path) -> Store:
    """Open the store that a command names by `--store`.

    Args:
        folder: The store's folder.

    Raises:
        ConfigError: It is an address.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(folder)):
        raise ConfigError(
            f"--store {folder}: expected a folder. Name a shared store by a recipe that has it as "
            "store.folder, which says where MLflow is, too."
        )
    return Store(folder)


def default_caches() -> Path:
    """Return the user's folder of caches of shared stores."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root).absolute() / "retune" / "stores"
