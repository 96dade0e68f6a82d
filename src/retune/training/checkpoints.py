"""Sealed checkpoints: a manifest of sizes and digests, written last, says that one is complete.

transformers resumes from the highest number without looking: a folder that a crash left half
written fails on every resume, and one without its optimizer or random state resumes with other
weights and no error. Only sealed checkpoints are resumed from; the others are deleted.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from transformers import Trainer

from retune.digests import digest_file, list_files

SEAL = "sealed.json"


def write_no_cards(trainer: Trainer) -> None:
    """Let checkpoints have no model cards: two are written for each, and read by nobody.

    trl and peft compile a template and ask for the versions of all libraries each time, which in a
    small training takes as long as the rest of a checkpoint.

    Args:
        trainer: Built; it and its model are asked for cards by these names.
    """
    for owner, name in (
        (trainer, "create_model_card"),
        (trainer.model, "create_or_update_model_card"),
    ):
        if hasattr(owner, name):
            setattr(owner, name, _write_nothing)


def _write_nothing(*_: Any, **__: Any) -> None:
    """Stand in the place of what writes a card."""


def seal_checkpoint(folder: Path) -> None:
    """Declare a checkpoint complete.

    Args:
        folder: A checkpoint whose files have all been written.
    """
    files = {
        path.as_posix(): {
            "bytes": (folder / path).stat().st_size,
            "sha256": digest_file(folder / path),
        }
        for path in list_files(folder, without=(SEAL,))
    }
    write_atomically(folder / SEAL, json.dumps(files, indent=1))


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a kill leaves the old one or the new one, never half of it."""
    temporary = path.with_name(f"{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def is_sealed(folder: Path) -> bool:
    """Say whether a checkpoint is complete and undamaged."""
    try:
        files = dict(json.loads((folder / SEAL).read_text("utf-8")))
        return all(
            (folder / name).is_file()
            and (folder / name).stat().st_size == found["bytes"]
            and digest_file(folder / name) == found["sha256"]
            for name, found in files.items()
        )
    except (OSError, ValueError, TypeError, KeyError):
        # A seal that cannot be read, or is no mapping of files to figures, seals nothing.
        return False


def step_of(folder: Path) -> int:
    """Return the optimizer step in a checkpoint folder's name (``checkpoint-120`` is 120)."""
    return int(folder.name.rsplit("-", 1)[1])


def latest_sealed(folder: Path) -> Path | None:
    """Return the latest sealed checkpoint, and delete those that are not sealed.

    Args:
        folder: Folder of ``checkpoint-N`` folders; need not exist.

    Returns:
        The folder to resume from, or None.
    """
    sealed = []
    for checkpoint in folder.glob("checkpoint-*"):
        if is_sealed(checkpoint):
            sealed.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    return max(sealed, key=step_of, default=None)
