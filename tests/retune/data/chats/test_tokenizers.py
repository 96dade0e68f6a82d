"""Tokenizers of snapshot folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sentencepiece import SentencePieceTrainer

from retune.data.chats.templates import locate_shipped, read_template
from retune.data.chats.tokenizers import end_token_ids, load_tokenizer, tokenizer_digest
from retune.errors import ConfigError

Snapshot = Callable[[str], Path]
Copy = Callable[[Path], Path]


def test_a_tokenizer_without_template_gets_the_plain_one(snapshot: Snapshot) -> None:
    """GPT-2 has none, and headings for roles are what it can read."""
    tokenizer = load_tokenizer(snapshot("gpt2"))
    assert tokenizer.chat_template == read_template(locate_shipped("headings"))
    chat = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A"},
    ]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == (
        "### System\nS\n### User\nQ\n### Assistant\nA<|end|>"
    )


def test_another_template_takes_the_place_of_the_own(snapshot: Snapshot) -> None:
    """A recipe may name one."""
    source = locate_shipped("instruction_pt")
    tokenizer = load_tokenizer(snapshot("llama"), source)
    assert tokenizer.chat_template == read_template(source)


def test_a_folder_without_tokenizer_is_refused(snapshot: Snapshot, copied: Copy) -> None:
    """The message says which file is missing and how to write it."""
    folder = copied(snapshot("llama"))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match=r"no tokenizer. Expected tokenizer.json"):
        load_tokenizer(folder)


@pytest.mark.parametrize("text", ["{", "{}", ""])
def test_a_broken_tokenizer_is_a_config_error(snapshot: Snapshot, copied: Copy, text: str) -> None:
    """The library raises a plain Exception for some of these."""
    folder = copied(snapshot("llama"))
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(ConfigError, match="its tokenizer cannot be loaded"):
        load_tokenizer(folder)


def test_a_tokenizer_without_end_token_is_refused(snapshot: Snapshot, copied: Copy) -> None:
    """No answer could ever end."""
    folder = copied(snapshot("llama"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="has no eos_token"):
        load_tokenizer(folder)


def test_a_missing_padding_token_is_the_end_token(snapshot: Snapshot, copied: Copy) -> None:
    """Padding is masked by position, so that the id does not matter."""
    folder = copied(snapshot("llama"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(folder).pad_token == "<|end|>"


def test_end_tokens_are_those_of_tokenizer_and_model(snapshot: Snapshot) -> None:
    """Gemma's turns end with a token that its tokenizer does not call the end."""
    tokenizer = load_tokenizer(snapshot("gemma3"))
    ends = [
        tokenizer.convert_ids_to_tokens(i) for i in end_token_ids(tokenizer, snapshot("gemma3"))
    ]
    assert ends == ["<|end|>", "<end_of_turn>"]


def test_the_digest_moves_with_the_template(snapshot: Snapshot, copied: Copy) -> None:
    """Another template makes other prompts, and the weights do not count."""
    folder = copied(snapshot("llama"))
    (folder / "model.safetensors").write_bytes(b"other")
    assert tokenizer_digest(folder) == tokenizer_digest(snapshot("llama"))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert tokenizer_digest(folder) != tokenizer_digest(snapshot("llama"))


@pytest.mark.parametrize("name", ["tokenizer.model"])
def test_a_sentencepiece_model_alone_is_a_tokenizer(
    snapshot: Snapshot, copied: Copy, name: str
) -> None:
    """Older releases have no tokenizer.json; text goes into the pieces and comes back."""
    folder = copied(snapshot("llama"))
    for path in folder.glob("*token*"):
        path.unlink()
    rows = (f"o conserto da peça {n} fica por {7 * n} reais em Natal" for n in range(200))
    with (folder / name).open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=rows,
            model_writer=file,
            vocab_size=120,
            model_type="bpe",
            character_coverage=1.0,
            minloglevel=2,
        )
    settings = {"tokenizer_class": "LlamaTokenizer", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(folder)
    ids = tokenizer("o conserto da peça", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[0] == "▁o"
    assert tokenizer.decode(ids) == "o conserto da peça"


def test_a_broken_sentencepiece_model_sends_to_no_package(snapshot: Snapshot, copied: Copy) -> None:
    """To have tiktoken installed, as transformers would, does not help."""
    folder = copied(snapshot("llama"))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(ConfigError, match=r"cannot be loaded from tokenizer\.model") as caught:
        load_tokenizer(folder)
    assert "pip install" not in str(caught.value)
