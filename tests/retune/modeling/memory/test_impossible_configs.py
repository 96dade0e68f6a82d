"""Sizes and ids of a `config.json` that no model can be built with are told as such."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import ConfigError
from retune.modeling.memory.meta_model import build_meta_model

Snapshot = Callable[[str], Path]
Copy = Callable[[Path], Path]


def changed(folder: Path, **settings: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **settings}), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pad_token_id": 99_999}, r"Its pad_token_id is 99999, and vocab_size"),
        ({"vocab_size": -1}, "no causal language model can be built"),
    ],
)
def test_a_model_that_cannot_be_built_says_why(
    snapshot: Snapshot, copied: Copy, settings: dict[str, Any], said: str
) -> None:
    """The assertions of torch name neither the file nor the setting."""
    folder = changed(copied(snapshot("llama")), **settings)
    with pytest.raises(ConfigError, match=said):
        build_meta_model(folder, dtype=torch.float32)


def test_a_wrong_setting_is_not_laid_on_the_tokenizer(snapshot: Snapshot, copied: Copy) -> None:
    """The settings are read first, to choose a tokenizer by them."""
    folder = changed(copied(snapshot("llama")), hidden_size="64")
    with pytest.raises(ConfigError, match=r"its config\.json cannot be read .*hidden_size"):
        load_tokenizer(folder)
