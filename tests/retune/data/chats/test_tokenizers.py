"""Tokenizers of snapshot folders."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sentencepiece import SentencePieceTrainer

from retune.data.chats.templates import locate_shipped, read_template
from retune.data.chats.tokenizers import (
    end_token_ids,
    load_decoder,
    load_tokenizer,
    tokenizer_digest,
)
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


CHANGES: dict[str, dict[str, object]] = {
    "as it is": {},
    "spaces cleaned up": {"clean_up_tokenization_spaces": True},
    "class of a family": {"tokenizer_class": "GPT2Tokenizer"},
    "no class": {"tokenizer_class": None},
}


@pytest.mark.parametrize("change", CHANGES)
def test_ids_are_shown_as_the_tokenizer_writes_them(
    snapshot: Snapshot, copied: Copy, change: str
) -> None:
    """Each token alone, marks among them, and a text with letters of several bytes, cut too."""
    folder = copied(snapshot("llama"))
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | CHANGES[change]))
    tokenizer, decode = load_tokenizer(folder), load_decoder(folder)
    ids = tokenizer("  Não é o mesmo , isto . É ?\n<|end|>日本")["input_ids"]
    stretches = [[each] for each in range(len(tokenizer))] + [ids, ids[:-1], ids[1:], []]
    assert [decode(each) for each in stretches] == [tokenizer.decode(each) for each in stretches]


SHOW = """
import sys
from pathlib import Path
from retune.data.chats.tokenizers import load_decoder
load_decoder(Path(sys.argv[1]))([1, 2, 3])
print([name for name in ("torch", "transformers") if name in sys.modules])
"""


def test_showing_ids_imports_no_torch(snapshot: Snapshot) -> None:
    """`retune check` on stored rows does nothing else that needs it: half of its time."""
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(snapshot("llama"))],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n"


def test_a_token_that_only_the_settings_add_is_shown(snapshot: Snapshot, copied: Copy) -> None:
    """The file of the library does not know it."""
    folder = copied(snapshot("llama"))
    known = len(load_tokenizer(folder))
    config = folder / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    settings["added_tokens_decoder"] = {str(known): {"content": "<|more|>", "special": True}}
    config.write_text(json.dumps(settings))
    tokenizer = load_tokenizer(folder)
    assert tokenizer.decode([known]) == "<|more|>"
    assert load_decoder(folder)([known]) == "<|more|>"


def test_a_broken_tokenizer_is_told_when_it_is_shown(snapshot: Snapshot, copied: Copy) -> None:
    """As when it is loaded for work."""
    folder = copied(snapshot("llama"))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_decoder(folder)([1])
