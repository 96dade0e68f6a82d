"""What folders say of a classification head: whether there is one, and its labels. Loads no torch.

A snapshot with a head is one of transformers' sequence classifiers: its `config.json` names the
class and the labels. What is put on a base (an adapter, or a head alone) has the labels in
`head.json` beside its weights, since the base's own configuration knows none.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retune.errors import ConfigError
from retune.model_records import ScoredModel
from retune.text_files import read_json_object

HEAD_FILE = "head.json"
HEAD_WEIGHTS = "head.safetensors"
"""Weights of a head that was trained alone, over a frozen base."""
_CLASSIFIER = "ForSequenceClassification"


def write_head(folder: Path, labels: Sequence[str]) -> None:
    """Write the labels of a head beside the weights of what is put on a base.

    Args:
        folder: Of the adapter, or of the head alone.
        labels: In the order of the head's figures.
    """
    text = json.dumps({"labels": list(labels)}, ensure_ascii=False, indent=2)
    (folder / HEAD_FILE).write_text(text + "\n", encoding="utf-8")


def read_labels(folder: Path) -> tuple[str, ...] | None:
    """Return the labels of a head, in the order of its figures.

    Args:
        folder: A snapshot, or what is put on one.

    Returns:
        The labels; None where the folder has no head.

    Raises:
        ConfigError: A file is broken, or the labels have no names.
    """
    if (folder / HEAD_FILE).is_file():
        return tuple(str(label) for label in _read(folder / HEAD_FILE)["labels"])
    if not is_classifier_snapshot(folder):
        return None
    names = {int(place): name for place, name in _read(folder / "config.json")["id2label"].items()}
    return tuple(str(names[place]) for place in sorted(names))


def is_classifier_snapshot(folder: Path) -> bool:
    """Tell a snapshot with a classification head from one that writes."""
    path = folder / "config.json"
    if not path.is_file():
        return False
    return any(str(name).endswith(_CLASSIFIER) for name in _read(path).get("architectures") or ())


def has_head(scored: ScoredModel) -> bool:
    """Tell whether a model names classes by a head and writes nothing."""
    if scored.adapter is not None and (scored.adapter / HEAD_FILE).is_file():
        return True
    return is_classifier_snapshot(scored.weights)


def _read(path: Path) -> dict[str, Any]:
    return read_json_object(path, ConfigError)
