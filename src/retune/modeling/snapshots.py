"""Finding a model: a local snapshot folder, or a hub id downloaded once at a fixed revision."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from retune.data.chats.tokenizers import tokenizer_digest
from retune.digests import digest_json
from retune.errors import ConfigError
from retune.model_records import BaseRef, ScoredModel, digest_snapshot
from retune.modeling.head_files import HEAD_WEIGHTS
from retune.modeling.methods.adapter_folders import is_adapter, named_base, named_method
from retune.text_files import BYTE_ORDER_MARK, read_json_object

WEIGHT_PATTERNS = ("*.safetensors", "*.safetensors.index.json")
_TERMS = ("README.md", "LICENSE*")
"""What the hub has of a model's licence, which goes with whatever is made of it."""
_FILES_BUT_WEIGHTS = ("*.json", "*.jinja", "*.model", "*.txt", "tokenizer*", *_TERMS)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_SETTINGS = ("config.json", "generation_config.json")
_LENGTH_BYTES = 8
"""A file of safetensors begins with the length of its header."""
_FILES = (*WEIGHT_PATTERNS, *_FILES_BUT_WEIGHTS)
_NOT_USED = ("*/*", "consolidated*")
"""The same weights once more, in folders such as `original/` and `metal/` of gpt-oss or under the
names of another library. On the hub, `*` stands for slashes too."""


def locate_base(model: str, revision: str | None, *, with_weights: bool = True) -> BaseRef:
    """Return the unquantized snapshot that a recipe names.

    Args:
        model: An existing folder, or a hub id.
        revision: Branch, tag or commit on the hub; None is its main branch.
        with_weights: Whether the weights of a hub id are downloaded; else only what a tokenizer
            needs, once it is sure that the weights may be read.

    Returns:
        The snapshot, its content digest and, for a hub id, the resolved commit.

    Raises:
        ConfigError: The folder lacks a part, or the hub does not give the model.
    """
    if Path(model).is_dir():
        return _describe_folder(Path(model).resolve(), model_id=model)
    return _download(model, revision, with_weights)


def check_snapshot(folder: Path) -> None:
    """Look whether a folder holds what loading a model needs.

    Args:
        folder: A snapshot folder.

    Raises:
        ConfigError: The configuration, the weights or the tokenizer are missing, or a file begins
            with a mark that the library which loads it does not take.
    """
    if not (folder / "config.json").is_file():
        if is_adapter(folder):
            raise ConfigError(_adapter_instead(folder))
        raise ConfigError(f"{folder}: no config.json. Expected a model saved by save_pretrained.")
    _refuse_adapter_within(folder)
    if not any(list(folder.glob(pattern)) for pattern in WEIGHT_PATTERNS):
        pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
        found = f" (found {', '.join(pickled[:3])})" if pickled else ""
        raise ConfigError(
            f"{folder}: no *.safetensors{found}. Save the weights with "
            "model.save_pretrained(folder); pickled weights are not loaded, since a pickle can run "
            "any code."
        )
    _check_files(folder)
    tokenizer_digest(folder)
    _refuse_marked(folder)
    _check_settings(folder)


def _refuse_adapter_within(folder: Path) -> None:
    """Refuse an adapter that lies beside a `config.json`, as some trainers save it.

    transformers would load the base that the adapter names, whatever weights lie beside it.
    """
    if not is_adapter(folder):
        return
    own = [
        path
        for path in sorted(folder.glob("*.safetensors"))
        if not path.name.startswith("adapter_") and path.name != HEAD_WEIGHTS
    ]
    if not own:
        raise ConfigError(_adapter_instead(folder))
    raise ConfigError(
        f"{folder}: holds the weights of a model ({own[0].name}) and an adapter "
        "(adapter_config.json): which of the two is meant, it does not say. Move the adapter's "
        "files into a folder of their own."
    )


def _check_settings(folder: Path) -> None:
    """Look at the settings that are read here, and not by a library that would say what is wrong.

    Raises:
        ConfigError: A file is no JSON object, or an id in `generation_config.json` is none.
    """
    settings = {}
    for name in _SETTINGS:
        path = folder / name
        settings[name] = read_json_object(path, ConfigError) if path.is_file() else {}
    path = folder / "generation_config.json"
    for name, several in (("eos_token_id", True), ("pad_token_id", False)):
        found = settings[path.name].get(name)
        ids = found if several and isinstance(found, list) else [found]
        if found is not None and any(type(each) is not int for each in ids):
            expected = "a number or a list of numbers" if several else "a number"
            raise ConfigError(
                f"{path}: {name} is {found!r}, expected {expected}: ids of the tokenizer's tokens, "
                "not their texts. Correct the entry, or take it out."
            )


def _refuse_marked(folder: Path) -> None:
    for path in sorted(folder.glob("*.json")):
        with path.open("rb") as file:
            if file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK:
                raise ConfigError(
                    f"{path}: begins with a byte-order mark, which transformers does not read. "
                    "Save it as UTF-8 without one."
                )


def _adapter_instead(folder: Path) -> str:
    """Say what an adapter's folder is, and how to go on from it."""
    base, method = named_base(folder), named_method(folder)
    named = f"over {base}" if base else "over a base that it does not name"
    further = (
        f"and training.start_from: {folder} to train it further"
        if method == "LORA"
        else f"and train it anew: a training goes on from adapters of LoRA alone, not of {method}"
    )
    return (
        f"{folder}: is an adapter {named} (adapter_config.json), not a model: it has no weights of "
        f"its own. Write model.id: {base or 'its base'}, {further}; to score it as it is, name the "
        "folder in retune evaluate."
    )


def _check_files(folder: Path) -> None:
    """Refuse files of weights that are not there, cut, or stand for others."""
    for index in sorted(folder.glob("*.safetensors.index.json")):
        wanted = set(weight_map(index).values())
        missing = sorted(wanted - {path.name for path in folder.iterdir()})
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise ConfigError(
                f"{folder}: {len(missing)} of {len(wanted)} files of weights are missing: "
                f"{', '.join(missing[:3])}{more} ({index.name} names them). Copy or download them."
            )
    for path in sorted(folder.glob("*.safetensors")):
        _check_header(path)


def weight_map(index: Path) -> dict[str, str]:
    """Read which file holds each weight.

    Args:
        index: A file `*.safetensors.index.json`.

    Returns:
        Names of files by names of weights.

    Raises:
        ConfigError: It is no index.
    """
    found = read_json_object(index, ConfigError).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise ConfigError(
            f"{index}: no index of weights: its weight_map names no file for each of them. Copy or "
            "download it again."
        )
    return found


def _check_header(path: Path) -> None:
    """Read how many bytes a file of weights has to have, and compare."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(_LENGTH_BYTES)
        if first == b"version ":
            raise ConfigError(
                f"{path}: stands for a file of Git LFS that was not fetched. Run git lfs pull in "
                "its folder."
            )
        length = int.from_bytes(first, "little")
        try:
            if length > size:
                raise ValueError(f"its header alone would be {length:,} bytes long")
            header = json.loads(file.read(length))
            ends = [e["data_offsets"][1] for n, e in header.items() if n != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(
                f"{path}: no file of safetensors ({error}). Copy or download it again."
            ) from error
    wanted = _LENGTH_BYTES + length + max(ends, default=0)
    if wanted != size:
        raise ConfigError(
            f"{path}: has {size:,} bytes, and by its header {wanted:,}: it was cut or damaged on "
            "the way. Copy or download it again."
        )


def _describe_folder(folder: Path, model_id: str) -> BaseRef:
    check_snapshot(folder)
    return BaseRef(
        digest=digest_snapshot(folder),
        folder=folder,
        model_id=model_id,
        revision=None,
        tokenizer_digest=tokenizer_digest(folder),
        weight_bytes=_weight_bytes(folder),
        local=True,
    )


def weigh_model(model: ScoredModel) -> int:
    """Return the size of a model's weights in bytes, with those of what is put over them.

    Args:
        model: Where its parts lie.
    """
    parts = (model.weights, model.adapter)
    return sum(_weight_bytes(part) for part in parts if part is not None)


def _weight_bytes(folder: Path) -> int:
    """Return the size of the files of a snapshot, or of an adapter, that hold weights."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _download(model: str, revision: str | None, with_weights: bool) -> BaseRef:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = _FILES if with_weights else _FILES_BUT_WEIGHTS
        folder = Path(
            snapshot_download(
                model,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(_NOT_USED),
            )
        )
        if not with_weights and not _weight_bytes(folder):
            # Files beside the weights may be open where the weights are gated.
            HfApi().auth_check(model)
            size = _size_on_hub(HfApi().model_info(model, revision=revision, files_metadata=True))
        else:
            size = _weight_bytes(folder)
    except HFValidationError as error:
        raise ConfigError(
            f"model.id {model!r}: neither a folder nor a hub id ({error})."
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"model.id {model!r}: not a local folder, and the hub did not give it "
            f"({type(error).__name__}). Check the spelling and the network; for a gated model "
            "accept its licence and set HF_TOKEN; without network, point model.id at a snapshot "
            "folder."
        ) from error
    if with_weights:
        check_snapshot(folder)
    # A snapshot's folder is named by its commit, which stands for the content.
    return BaseRef(
        digest=digest_json({"hub": model, "commit": folder.name}),
        folder=folder,
        model_id=model,
        revision=folder.name,
        tokenizer_digest=tokenizer_digest(folder),
        weight_bytes=size,
    )


def _size_on_hub(info: Any) -> int:
    files = [each for each in info.siblings or () if _is_used(each.rfilename)]
    return sum(each.size or 0 for each in files)


def _is_used(name: str) -> bool:
    unused = any(fnmatch(name, pattern) for pattern in _NOT_USED)
    return name.endswith(".safetensors") and not unused
