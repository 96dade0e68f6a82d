"""A version's weights and tokenizer in one folder, as transformers reads them."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from retune.data.chats.tokenizers import TOKENIZER_FILES
from retune.hard_links import link_or_copy
from retune.model_records import ChampionRef
from retune.modeling.snapshots import WEIGHT_PATTERNS
from retune.publishing.shards import copy_weights

_SETTINGS = ("config.json", "generation_config.json")


def copy_snapshot(
    version: ChampionRef, target: Path, max_shard_size: str, *, linked: bool = False
) -> None:
    """Copy a version's weights, tokenizer and settings into one folder.

    Args:
        version: Plain weights.
        target: The folder.
        max_shard_size: Largest size of one file of weights.
        linked: Whether weights are linked as they are: for a folder that is soon gone.

    Raises:
        OSError: The disk is full or not writable.
    """
    copy_named(version.weights, target, _SETTINGS)
    if linked:
        for pattern in WEIGHT_PATTERNS:
            for path in version.weights.glob(pattern):
                link_or_copy(path, target / path.name)
    else:
        copy_weights(version.weights, target, max_shard_size)
    # The tokenizer's folder has the release's own generation settings, where there are any.
    copy_named(version.tokenizer, target, (*TOKENIZER_FILES, "generation_config.json"))


def copy_named(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy those files of some names that there are."""
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
