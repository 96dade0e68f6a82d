"""Whether training can go on from a version: what it was trained as, and over which base."""

from __future__ import annotations

from typing import Any

from retune.errors import ConfigError
from retune.recipe.recipe import Recipe
from retune.registry.records import VersionManifest

KEY = "retrain.start_from"
_NO_PART_OF_WEIGHTS = ("dropout",)


def refuse_unlike_origin(manifest: VersionManifest, recipe: Recipe, base: str) -> None:
    """Refuse a version whose adapter cannot be what this recipe trains.

    Args:
        manifest: Of the version.
        recipe: Of the training that would go on from it.
        base: Content digest of its base.

    Raises:
        ConfigError: Base or method differ; the message names how.
    """
    if manifest.base != base:
        raise ConfigError(
            f"{KEY}: {name_version(manifest)}, the champion, was trained over "
            f"{manifest.base_name}, whose content is not that of model.id: {recipe.model.id}. An "
            "adapter means nothing over other weights: write that model.id, or "
            f"{KEY}: base."
        )
    theirs = manifest.recipe["method"]
    ours = recipe.model_dump(mode="json")["method"]
    names = sorted((theirs.keys() | ours.keys()) - set(_NO_PART_OF_WEIGHTS))
    unlike = [name for name in names if theirs.get(name) != ours.get(name)]
    if unlike:
        told = "; ".join(
            f"method.{x} is {_said(ours, x)} here, {_said(theirs, x)} there" for x in unlike
        )
        raise ConfigError(
            f"{KEY}: the adapter of {name_version(manifest)}, the champion, is of another form: "
            f"{told}. Write method as it was trained, or {KEY}: base."
        )


def name_version(manifest: VersionManifest) -> str:
    """Return what messages call a version."""
    return f"{manifest.model_name} version {manifest.version}"


def _said(method: dict[str, Any], name: str) -> str:
    return str(method[name]) if name in method else "not set"
