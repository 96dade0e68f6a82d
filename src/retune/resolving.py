"""Finding a model that a person names, whatever kind it is, so that it can be scored.

A name is the word ``base``, an address ``models:/name@alias`` or ``models:/name/3`` of the MLflow
registry, a folder with a snapshot, an adapter or both (a bundle), or a hub id. What is found is
known by its content, so that a model which a run has scored already is not scored again:
`merge_adapter`, `bundle_adapter` and `train_adapter` digest the files that are digested here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from retune.data.chats.tokenizers import tokenizer_digest
from retune.digests import digest_folder, digest_json
from retune.errors import ConfigError
from retune.model_records import BaseRef, ModelRef, ScoredModel, is_bundle, locate_bundle
from retune.modeling.methods.adapter_folders import (
    check_adapter,
    doubt_base,
    is_adapter,
    own_base,
)
from retune.modeling.snapshots import locate_base
from retune.recipe.loading import LoadedRecipe
from retune.records import LOG_FOLDER
from retune.registry.versions.finding import locate_version
from retune.tracking import check_tracking

ModelKind = Literal["base", "snapshot", "adapter", "bundle", "registered"]

BASE = "base"
_ADDRESS = "models:/"
_VERSION = re.compile(r"models:/(?P<name>[^/@:]+)(?:@(?P<alias>[^/@:]+)|/(?P<version>[0-9]+))")
_BESIDE = ("README.md", ".git", ".cache", "manifest.json")
"""What may lie in a model's folder and is none of it; an artifact of the store has a manifest."""
_DIGITS_SHOWN = 8
_KINDS = "base, a folder with a model or an adapter, a hub id (owner/name), models:/name@alias"


@dataclass(frozen=True)
class EvaluatedModel:
    """A model to score.

    Attributes:
        name: What it is called, in lines and columns.
        kind: What was found under the name.
        scored: What scorers load.
        tokenizer: The snapshot whose tokenizer and chat template make its rows.
        adapter_digest: Of an adapter on the recipe's own model; None for all others.
        doubt: Why an adapter may be one of another model; None where nothing says so.
    """

    name: str
    kind: ModelKind
    scored: ScoredModel
    tokenizer: BaseRef
    adapter_digest: str | None = None
    doubt: str | None = None

    def over(self, model: ModelRef) -> EvaluatedModel:
        """Return an adapter on the weights that a recipe trains over: quantized, as in a run.

        Args:
            model: What `quantize_model` made of the recipe's model.
        """
        digest = digest_json({"adapter": self.adapter_digest, "model": model.digest})
        weights = model.weights(self.tokenizer)
        scored = self.scored.model_copy(update={"digest": digest, "weights": weights})
        return replace(self, scored=scored)


def resolve_model(
    text: str, loaded: LoadedRecipe | None, tracking_uri: str, cache: Path | None = None
) -> EvaluatedModel:
    """Find the model that a text names.

    Args:
        text: As a person wrote it; a relative folder starts at the working directory, else at the
            recipe's root.
        loaded: The recipe: its model is `base`, and what adapters are put on. None where there is
            none: an adapter then has to name its base itself.
        tracking_uri: Address of the MLflow registry.
        cache: Where versions of a remote registry are downloaded to.

    Returns:
        The model, its name and its tokenizer.

    Raises:
        ConfigError: It is none of these, or lacks a part, or an adapter does not fit its base.
        ArtifactError: Files of a registered version are gone.
        ServiceError: MLflow does not answer.
    """
    if text == BASE and loaded is not None:
        base = _recipe_base(loaded)
        return EvaluatedModel(BASE, "base", base.as_scored(), base)
    if text.startswith(_ADDRESS):
        return _registered(text, tracking_uri, cache)
    folder = next((path for path in _places(text, loaded) if path.is_dir()), None)
    if folder is None:
        return _of_hub(text, loaded)
    if is_bundle(folder):
        return _bundle(folder.resolve())
    if is_adapter(folder):
        return _adapter(folder, loaded)
    return _snapshot(folder)


class Address(NamedTuple):
    """An address of the MLflow registry; it has an alias or a version."""

    name: str
    alias: str | None
    version: int | None

    @property
    def wanted(self) -> int | str:
        """The version's number, or the alias that points to it."""
        return self.version if self.version is not None else str(self.alias)


def read_address(text: str) -> Address | None:
    """Read an address of the MLflow registry.

    Args:
        text: As a person wrote it.

    Returns:
        Its parts; None where the text is no address but a folder or a hub id.

    Raises:
        ConfigError: It begins like an address, and is none.
    """
    if not text.startswith(_ADDRESS):
        return None
    found = _VERSION.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"{text}: not an address of the MLflow registry. Expected models:/name@alias "
            "(models:/text-to-sql@champion) or models:/name/version (models:/text-to-sql/3)."
        )
    version = found["version"]
    return Address(found["name"], found["alias"], int(version) if version else None)


def _recipe_base(loaded: LoadedRecipe) -> BaseRef:
    model = loaded.recipe.model
    return locate_base(loaded.resolve_model(model.id), model.revision)


def _places(text: str, loaded: LoadedRecipe | None) -> tuple[Path, Path]:
    path = Path(text).expanduser()
    return path.absolute(), path.absolute() if loaded is None else loaded.resolve(path)


def _registered(text: str, uri: str, cache: Path | None) -> EvaluatedModel:
    address = read_address(text)
    assert address is not None
    check_tracking(uri)
    located = locate_version(uri, address.name, address.wanted, cache_folder=cache)
    tokenizer = BaseRef(
        digest=located.digest,
        folder=located.tokenizer,
        model_id=text,
        revision=None,
        tokenizer_digest=tokenizer_digest(located.tokenizer),
    )
    return EvaluatedModel(text, "registered", located.as_scored(), tokenizer)


def _adapter(folder: Path, loaded: LoadedRecipe | None) -> EvaluatedModel:
    named = own_base(folder, Path.absolute if loaded is None else loaded.resolve)
    if loaded is None:
        if named is None:
            raise ConfigError(
                f"{folder}: an adapter that does not say which folder on this machine its base is "
                "in. Name the recipe that it was trained by with --recipe, or merge it first."
            )
        return _adapter_on(folder, locate_base(str(named), None))
    base = _recipe_base(loaded)
    other = locate_base(str(named), None) if named is not None else base
    on_recipe = other.digest == base.digest
    found = _adapter_on(folder, base if on_recipe else other)
    names = (base.model_id, loaded.recipe.model.id)
    return replace(
        found,
        adapter_digest=_digest_adapter(folder) if on_recipe else None,
        doubt=doubt_base(folder, found.tokenizer.folder, names) if named is None else None,
    )


def _digest_adapter(folder: Path) -> str:
    """Return the digest that `train_adapter`'s record of an adapter has."""
    return digest_folder(folder, without=(LOG_FOLDER, *_BESIDE))


def _adapter_on(folder: Path, used: BaseRef) -> EvaluatedModel:
    check_adapter(folder, used.folder)
    # As `AdapterRef.as_scored` has it.
    model = digest_json({"base": used.digest, "quantization": "none"})
    scored = ScoredModel(
        digest=digest_json({"adapter": _digest_adapter(folder), "model": model}),
        weights=used.folder,
        adapter=folder,
        tokenizer=used.folder,
    )
    return EvaluatedModel(_name_of(folder), "adapter", scored, used)


def _bundle(folder: Path) -> EvaluatedModel:
    weights, adapter = locate_bundle(folder)
    base = locate_base(str(weights), None)
    check_adapter(adapter, weights)
    # The digest of `bundle_adapter`'s record, by which a run has scored it.
    scored = ScoredModel(
        digest=digest_folder(folder, without=_BESIDE),
        weights=weights,
        adapter=adapter,
        tokenizer=weights,
    )
    return EvaluatedModel(_name_of(folder), "bundle", scored, base)


def _snapshot(folder: Path) -> EvaluatedModel:
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"{folder}: neither a model nor an adapter: there is no config.json and no "
            "adapter_config.json in it. Expected a folder that save_pretrained wrote."
        )
    base = locate_base(str(folder), None)
    if (folder / "manifest.json").is_file():
        base = base.model_copy(update={"digest": digest_folder(folder, without=_BESIDE)})
    return EvaluatedModel(_name_of(folder), "snapshot", base.as_scored(), base)


def _of_hub(text: str, loaded: LoadedRecipe | None) -> EvaluatedModel:
    first, second = _places(text, loaded)
    looked = " or ".join(dict.fromkeys((str(first), str(second))))
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", text) or text.startswith((".", "-")):
        raise ConfigError(f"{text!r}: there is no folder {looked}. Expected {_KINDS}.")
    try:
        base = locate_base(text, None)
    except ConfigError as error:
        raise ConfigError(
            f"{text!r}: there is no folder {looked}, and as a name on the hub it cannot be used: "
            f"{error.message} Expected {_KINDS}."
        ) from error
    return EvaluatedModel(text, "snapshot", base.as_scored(), base)


def _name_of(folder: Path) -> str:
    """Name a folder; one of the store by its stage and the first digits of its key."""
    if re.fullmatch(r"[0-9a-f]{32,}", folder.name):
        return f"{folder.parent.name}/{folder.name[:_DIGITS_SHOWN]}"
    return folder.name
