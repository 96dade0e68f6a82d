"""A tokenizer as llama.cpp has it: byte-level BPE whose way of parting text llama.cpp names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
from retune.errors import ConfigError

if TYPE_CHECKING:
    from gguf import GGUFWriter

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_2 = _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
_PARTED_BY_BYTES = ("ByteLevel", True)
_BYTES_ALONE = ("ByteLevel", False)
_NAMES: dict[tuple[tuple[Any, ...], ...], str] = {
    (_PARTED_BY_BYTES,): "gpt-2",
    (("Digits", True), _PARTED_BY_BYTES): "smollm",
    (("Split", _LLAMA_3), _BYTES_ALONE): "llama-bpe",
    (("Split", _QWEN_2), _BYTES_ALONE): "qwen2",
}
"""llama.cpp's name for each way of parting text before its merges."""
_TAKES_WHOLE_WORDS = "llama-bpe"
"""The one way under which llama.cpp takes a word that is a token without merging it."""


def name_pre_tokenizer(folder: Path) -> str:
    """Return llama.cpp's name for how a tokenizer parts text.

    Args:
        folder: With `tokenizer.json`.

    Raises:
        ConfigError: It is of another kind, or parts text in a way that llama.cpp has no name for:
            it would be read in another way without a word.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no tokenizer.json, from which GGUF files are written here.")
    found = json.loads(path.read_text("utf-8"))
    model = found["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = "SentencePiece" if model.get("byte_fallback") else model.get("type")
        raise _unknown(path, f"is a tokenizer of the kind {kind}, not byte-level BPE")
    name = _NAMES.get(_steps(found.get("pre_tokenizer")))
    if name is None:
        raise _unknown(path, "parts text in a way that llama.cpp has no name for")
    if bool(model.get("ignore_merges")) != (name == _TAKES_WHOLE_WORDS):
        raise _unknown(path, f"parts text like {name}, but treats words that are tokens otherwise")
    normalizer = (found.get("normalizer") or {}).get("type")
    if normalizer not in (None, "NFC") or (normalizer == "NFC" and name != "qwen2"):
        raise _unknown(path, f"rewrites text first ({normalizer})")
    return name


def add_vocabulary(writer: GGUFWriter, folder: Path, rows: int) -> None:
    """Write a tokenizer into a file: tokens, their kinds, merges, special ids, chat template.

    Args:
        writer: Of the file.
        folder: The tokenizer's.
        rows: Of the embedding; rows without a token get an unused one.

    Raises:
        ConfigError: As `name_pre_tokenizer`.
    """
    from gguf import SpecialVocab

    name = name_pre_tokenizer(folder)
    tokenizer = load_tokenizer(folder)
    texts = {place: text for text, place in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    kinds = [_kind(place, texts, added) for place in range(rows)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list([texts.get(place, f"[PAD{place}]") for place in range(rows)])
    writer.add_token_types(kinds)
    merges = bool(json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["merges"])
    special = SpecialVocab(folder, load_merges=merges, n_vocab=rows)
    # Explicit, since llama.cpp's own default differs from one way of parting text to another.
    ids = tokenizer("a")["input_ids"]
    special.add_special_token["bos"] = ids[0] == tokenizer.bos_token_id
    special.add_special_token["eos"] = ids[-1] == tokenizer.eos_token_id
    if isinstance(tokenizer.chat_template, str):
        special.chat_template = tokenizer.chat_template
    special.add_to_gguf(writer, quiet=True)
    others = [each for each in end_token_ids(tokenizer, folder) if each != tokenizer.eos_token_id]
    if others and "eot" not in special.special_token_ids:
        writer.add_eot_token_id(others[0])


def _kind(place: int, texts: Mapping[int, str], added: Mapping[int, Any]) -> int:
    from gguf import TokenType

    if place not in texts:
        return int(TokenType.UNUSED)
    if place not in added:
        return int(TokenType.NORMAL)
    return int(TokenType.CONTROL if added[place].special else TokenType.USER_DEFINED)


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> tuple[tuple[Any, ...], ...]:
    if pre_tokenizer is None:
        return ()
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return tuple(_step(each) for each in steps)


def _step(step: Mapping[str, Any]) -> tuple[Any, ...]:
    kind = step["type"]
    if kind == "ByteLevel" and not step.get("add_prefix_space"):
        return (kind, step.get("use_regex", True))
    if kind == "Digits":
        return (kind, step["individual_digits"])
    if kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        return (kind, step["pattern"].get("Regex"))
    return (kind, "other")


def _unknown(path: Path, found: str) -> ConfigError:
    return ConfigError(
        f"{path}: {found}; a GGUF file would read text otherwise than this model. Use llama.cpp's "
        "own converter (--converter PATH/convert_hf_to_gguf.py), or export --as merged."
    )
