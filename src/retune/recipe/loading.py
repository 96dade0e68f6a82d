"""Loads a recipe: file, old names, overrides, validation, and where its relative paths start."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retune.errors import ConfigError
from retune.recipe.credentials import masked
from retune.recipe.document import read_document
from retune.recipe.overrides import apply_overrides, apply_variants, names_variant
from retune.recipe.problems import report
from retune.recipe.recipe import Recipe
from retune.recipe.translation import translate
from retune.recipe.validation import validated

ROOT_MARKS = ("pyproject.toml", ".git", ".retune")


@dataclass(frozen=True, slots=True)
class LoadedRecipe:
    """A recipe, and the place that its relative paths start from.

    Args:
        recipe: The typed recipe.
        path: Absolute path of the file it came from.
        root: Folder that relative paths start from.
        notes: One line per old name that was translated or ignored; show them to the user.
    """

    recipe: Recipe
    path: Path
    root: Path
    notes: tuple[str, ...] = ()

    def resolve(self, path: Path) -> Path:
        """Make a path of the recipe absolute.

        Args:
            path: As written; `~` is the home folder.

        Returns:
            The absolute path, from the root where it was relative. It need not exist.

        Raises:
            ConfigError: It names the home folder of a user that this machine does not know, or is
                longer than any file's name can be.
        """
        try:
            absolute = _absolute(self.root / path.expanduser())
        except RuntimeError as error:
            raise ConfigError(f"{self.path}: {path}: {error}; write the folder out") from error
        try:
            os.lstat(absolute)
        except OSError as error:
            # Whoever looks for the file would get it instead of an answer.
            if error.errno == errno.ENAMETOOLONG:
                shown = f"{str(path)[:60]}…"
                raise ConfigError(
                    f"{self.path}: {shown}: no file can have a name of {len(str(path)):,} "
                    "characters; correct the path"
                ) from error
        return absolute

    def resolve_model(self, model_id: str) -> str:
        """Tell a model's folder from its name on the hub.

        Args:
            model_id: `model.id` as written.

        Returns:
            The absolute folder where there is one, else the name unchanged.

        Raises:
            ConfigError: It reads as a folder, and there is none.
        """
        folder = self.resolve(Path(model_id))
        if folder.is_dir():
            return str(folder)
        if folder.exists():
            raise ConfigError(
                f"{self.path}: model.id: {folder} is a file; expected the folder of "
                "a model with its tokenizer"
            )
        if _reads_as_folder(model_id):
            raise ConfigError(
                f"{self.path}: model.id: there is no folder {folder}; expected a "
                "model with its tokenizer, or a name on the hub (owner/name)"
            )
        if (
            folder.parent != self.root
            and folder.parent.is_dir()
            and self.recipe.model.revision is None
        ):
            raise ConfigError(
                f"{self.path}: model.id: the folder {folder.parent} has no "
                f"{folder.name}; if this is a name on the hub, give model.revision"
            )
        return model_id


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Load a recipe from a YAML file.

    The files that it names need not exist.

    Args:
        path: The recipe's file.
        overrides: `path=value` texts that win over the file, the value in YAML; a later one wins
            over an earlier one, and all over the variants that one of them chooses.

    Returns:
        The recipe with its root and the notes on old names.

    Raises:
        ConfigError: The file cannot be read, or something in it or in an override is wrong; one
            message lists all of it with file, line, path, what was found and what is expected.
    """
    document = read_document(path)
    notes = translate(document) + apply_variants(document, overrides)
    notes += apply_overrides(document, [each for each in overrides if not names_variant(each)])
    # Once more: an override may have brought a whole section with old names in it.
    notes += translate(document)
    recipe = validated(document)
    if recipe is None or document.problems:
        raise ConfigError(report(document.source, document.problems))
    absolute = _absolute(path)
    return LoadedRecipe(recipe, absolute, find_root(absolute.parent), tuple(map(masked, notes)))


def find_root(folder: Path) -> Path:
    """Return the folder that relative paths start from.

    Args:
        folder: Where to begin to look, upwards.

    Returns:
        The first that holds one of `ROOT_MARKS`, or `folder` where none does.
    """
    for candidate in (folder, *folder.parents):
        if any((candidate / mark).exists() for mark in ROOT_MARKS):
            return candidate
    return folder


def _absolute(path: Path) -> Path:
    # Not Path.resolve: a link stays as the user sees it, and ".." is taken as written.
    return Path(os.path.abspath(path))


def _reads_as_folder(model_id: str) -> bool:
    return model_id.startswith((".", "/", "~")) or model_id.count("/") > 1
