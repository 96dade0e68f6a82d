"""Finding what is to be served: a registered version with what proves it, or any other model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from retune.recipe.loading import LoadedRecipe
from retune.registry.versions.finding import Alias, alias_target, resolve_version
from retune.registry.versions.proving import ANSWERS_FILE, read_answers
from retune.resolving import read_address, resolve_model
from retune.serving.messages import ServedModel


@dataclass(frozen=True)
class ModelSource:
    """Where a model to serve is looked for.

    Attributes:
        text: Its name as a person wrote it: an address of the registry, a folder, a hub id.
        uri: Address of MLflow.
        cache: Where versions of a remote registry are downloaded to.
        recipe: The recipe whose base an adapter is put on; None for the one that it names.
        name: What clients call the model; None for its own name.
    """

    text: str
    uri: str
    cache: Path | None = None
    recipe: LoadedRecipe | None = None
    name: str | None = None

    def beside(self, alias: Alias) -> ModelSource:
        """Return where another version of the same model is looked for, by its alias."""
        address = read_address(self.text)
        assert address is not None  # Of a folder there are no aliases; the command refuses that.
        return replace(self, text=f"models:/{address.name}@{alias}")

    def find(self) -> ServedModel:
        """Find the model as it is now.

        Raises:
            ConfigError: There is none of this name, or it lacks a part.
            ArtifactError: Files of a version are gone, or nothing proves it.
            ServiceError: MLflow does not answer.
        """
        address = read_address(self.text)
        if address is None:
            found = resolve_model(self.text, self.recipe, self.uri, self.cache)
            return ServedModel(name=self.name or found.name, address=self.text, scored=found.scored)
        number, folder = resolve_version(
            self.uri, address.name, address.wanted, cache_folder=self.cache
        )
        # By its number from here on: the alias may move while it is looked at.
        exact = f"models:/{address.name}/{number}"
        found = resolve_model(exact, self.recipe, self.uri, self.cache)
        return ServedModel(
            name=self.name or address.name,
            address=exact,
            version=number,
            scored=found.scored,
            answers=read_answers(folder / ANSWERS_FILE, exact),
        )

    def target(self) -> int | None:
        """Return the version that the alias points to now; None where it is no alias, or unset.

        Raises:
            ServiceError: MLflow does not answer.
        """
        address = read_address(self.text)
        if address is None or address.alias is None:
            return None
        return alias_target(self.uri, address.name, address.alias)

    @property
    def follows(self) -> bool:
        """Whether it can become another version."""
        address = read_address(self.text)
        return address is not None and address.alias is not None
