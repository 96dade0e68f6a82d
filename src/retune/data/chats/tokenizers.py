"""Tokenizers of snapshot folders: loading, end tokens, and a template for those without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from retune.data.chats.templates import FALLBACK_TEMPLATE, locate_shipped, read_template
from retune.digests import digest_file, digest_tree
from retune.errors import ConfigError
from retune.records import Source
from retune.text_files import MARK, read_json_object

if TYPE_CHECKING:
    from tokenizers import Tokenizer as BackendTokenizer
    from transformers import PreTrainedTokenizerBase

    Tokenizer: TypeAlias = PreTrainedTokenizerBase
else:
    Tokenizer = Any

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)

_PLAIN_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Classes of transformers that take a tokenizer.json as it is."""
_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
"""What the library of that name writes."""


def tokenizer_digest(folder: Path) -> str:
    """Return the digest of a snapshot's tokenizer, template included.

    Args:
        folder: A snapshot folder.

    Returns:
        64 hexadecimal digits; two snapshots with equal ones tokenize alike.

    Raises:
        ConfigError: The folder holds no tokenizer.
    """
    found = {
        name: digest_file(folder / name) for name in TOKENIZER_FILES if (folder / name).is_file()
    }
    if not {"tokenizer.json", "vocab.json", *_SENTENCEPIECE} & set(found):
        raise ConfigError(
            f"{folder}: no tokenizer. Expected tokenizer.json (or vocab.json, tokenizer.model) "
            "next to the weights. Save it with tokenizer.save_pretrained(folder), "
            "or correct model.id."
        )
    return digest_tree(found)


def load_tokenizer(folder: Path, template: Source | None = None) -> Tokenizer:
    """Load a snapshot's tokenizer, ready for chats.

    Args:
        folder: A snapshot folder.
        template: Chat template to use in place of its own.

    Returns:
        The tokenizer, with a chat template in any case: for one without (GPT-2) that is `headings`.

    Raises:
        ConfigError: The folder holds no tokenizer, or one without an end token, or without a
            default one of several chat templates.
    """
    from transformers import AutoTokenizer

    tokenizer_digest(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # the tokenizers library raises plain ones for a broken file
        _check_config(folder)
        raise ConfigError(_unloadable(folder, error)) from error
    if tokenizer.eos_token is None:
        raise ConfigError(
            f"{folder}: the tokenizer has no eos_token, so no answer could ever end. "
            "Set it in tokenizer_config.json."
        )
    if tokenizer.pad_token is None:
        # Padding is masked everywhere by position, never by id, so sharing the id is safe.
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = _without_mark(tokenizer.chat_template)
    if template is not None or tokenizer.chat_template is None:
        tokenizer.chat_template = read_template(template or locate_shipped(FALLBACK_TEMPLATE))
    if isinstance(tokenizer.chat_template, dict) and "default" not in tokenizer.chat_template:
        names = ", ".join(tokenizer.chat_template)
        raise ConfigError(
            f"{folder}: its tokenizer has several chat templates ({names}), and none of the name "
            "default. Save the one to use as a .jinja file and name that in prompt.template."
        )
    return tokenizer


def load_decoder(folder: Path) -> Callable[[Sequence[int]], str]:
    """Return what writes token ids as text, as the snapshot's tokenizer does.

    Only for showing rows: transformers takes seconds to import, which the tokenizer's own library
    does without wherever it gives the same text.

    Args:
        folder: A snapshot folder.

    Raises:
        ConfigError: As `load_tokenizer`.
    """
    known = _read_plain_backend(folder)
    whole = cache(partial(load_tokenizer, folder))

    def decode(ids: Sequence[int]) -> str:
        # A token that only tokenizer_config.json adds is none of the library's.
        if known is not None and all(known.id_to_token(each) is not None for each in set(ids)):
            return str(known.decode(list(ids), skip_special_tokens=False))
        return str(whole().decode(list(ids)))

    return decode


def _read_plain_backend(folder: Path) -> BackendTokenizer | None:
    """Return the library's tokenizer; None where transformers would go over what it decodes."""
    from tokenizers import Tokenizer as BackendTokenizer

    config = folder / "tokenizer_config.json"
    if not config.is_file() or not (folder / "tokenizer.json").is_file():
        return None
    try:
        settings = read_json_object(config, ConfigError)
        # A class of one family may put a decoder of its own in place of the file's.
        if settings.get("tokenizer_class") not in _PLAIN_CLASSES:
            return None
        if settings.get("clean_up_tokenization_spaces"):
            return None
        return BackendTokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # noqa: BLE001 - plain ones; transformers, asked next, says what is wrong
        return None


def _without_mark(template: Any) -> Any:
    """Take the byte-order mark off a template, or off each of several by name.

    The library keeps one that an editor put before the template in a snapshot's file, and every
    prompt would begin with it.
    """
    if isinstance(template, dict):
        return {name: _without_mark(text) for name, text in template.items()}
    return template.removeprefix(MARK) if isinstance(template, str) else template


def _unloadable(folder: Path, error: Exception) -> str:
    """Say why a tokenizer cannot be loaded; transformers names packages that would not help."""
    if (folder / "tokenizer.json").is_file():
        return f"{folder}: its tokenizer cannot be loaded ({error})."
    files = [name for name in (*_SENTENCEPIECE, "vocab.json") if (folder / name).is_file()]
    return (
        f"{folder}: its tokenizer cannot be loaded from {', '.join(files)} "
        f"({type(error).__name__}). There is no tokenizer.json: the file is damaged, or of a kind "
        "that only the model's own code reads. Take the tokenizer of a release that has "
        "tokenizer.json, or convert it where it loads: "
        "AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
    )


def _check_config(folder: Path) -> None:
    """Look whether a model's settings can be read: a tokenizer is chosen by them.

    Raises:
        ConfigError: They cannot, and the tokenizer is not to blame.
    """
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        return
    try:
        AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises whatever its checks of a setting do
        raise ConfigError(f"{folder}: its config.json cannot be read ({error}).") from error


def end_token_ids(tokenizer: Tokenizer, folder: Path) -> list[int]:
    """Return the ids that end an answer: the tokenizer's, then those of `generation_config.json`.

    Args:
        tokenizer: A loaded tokenizer.
        folder: The snapshot folder it came from.

    Returns:
        Distinct ids, the tokenizer's end token first.
    """
    ids = [int(tokenizer.eos_token_id)]
    path = folder / "generation_config.json"
    if path.is_file():
        also = read_json_object(path, ConfigError).get("eos_token_id")
        ids += also if isinstance(also, list) else [also] if also is not None else []
    return list(dict.fromkeys(ids))
