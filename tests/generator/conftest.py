"""A tokenizer trained once for the tests of this folder."""

from pathlib import Path

import pytest

from generator.tokenizer import train_tokenizer

# What the shipped base was made with.
VOCABULARY_SIZE = 4096
SEED = 0


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the tokenizer of the tiny base."""
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder, vocabulary_size=VOCABULARY_SIZE, seed=SEED)
    return folder
