"""What recipes and the registry need of a store, for `retune gc`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from retune.errors import ConfigError, DataError
from retune.recipe.loading import LoadedRecipe, load_recipe
from retune.records import Record
from retune.registry.references import References, find_references, list_models
from retune.spine.garbage import Needs, PossibleNeed
from retune.spine.opening import open_folder, open_recipe_store
from retune.spine.stage import Stage, key_parts
from retune.spine.store import Store
from retune.stages import STAGES
from retune.tracking.unsent import UnsentEntries
from retune.watching import WATCHER, SilentWatcher

RECIPES = Path("conf", "recipes")
"""Where recipes are looked for when none is named, from the working folder on."""


@dataclass(frozen=True)
class FoundRecipes:
    """Recipes of one store.

    Attributes:
        store: The store.
        recipes: Those that name it.
        elsewhere: Files of recipes that name another one.
    """

    store: Store
    recipes: tuple[LoadedRecipe, ...]
    elsewhere: tuple[Path, ...] = ()


def find_recipes(
    named: Sequence[Path], folder: Path | None, overrides: Sequence[str]
) -> FoundRecipes:
    """Find the recipes whose stages stay in a store.

    Args:
        named: Their files; none looks through `RECIPES`.
        folder: The store's folder; None for the one that the recipes name, which has to be one.
        overrides: Settings that win over each.

    Raises:
        ConfigError: There is no recipe, one is wrong, they name several stores, or the store is not
            in a folder of this machine.
    """
    paths = list(named) or sorted(RECIPES.glob("*.y*ml"))
    loaded = [load_recipe(path, overrides) for path in paths]
    stores = [open_recipe_store(each) for each in loaded]
    if folder is not None:
        wanted = open_folder(folder)
    elif len({each.address for each in stores}) == 1:
        wanted = stores[0]
    else:
        raise ConfigError(_say_which(paths, stores))
    if wanted.caches is not None:
        raise ConfigError(
            f"{wanted.address}: a store on shared storage is not cleaned up by retune gc: runs of "
            "other machines, which it cannot see, may be about to read what it would remove. "
            "Remove single artifacts there with the storage's own tools (docs/sharing.md); the "
            f"cache of it on this machine, {wanted.root}, may be deleted while no run is at work."
        )
    pairs = list(zip(loaded, stores, strict=True))
    own = tuple(each for each, store in pairs if store.address == wanted.address)
    if not own:
        raise ConfigError(
            f"no recipe names the store {wanted.address}, so that everything in it would be taken "
            f"for left behind. Name those that are in use: retune gc RECIPE... ({_looked(named)})"
        )
    elsewhere = tuple(each.path for each, store in pairs if store.address != wanted.address)
    return FoundRecipes(wanted, own, elsewhere)


def _say_which(paths: Sequence[Path], stores: Sequence[Store]) -> str:
    if not paths:
        return (
            f"there is no recipe in {RECIPES.absolute()}. Name those that are in use: "
            "retune gc RECIPE..."
        )
    named = ", ".join(sorted({each.address for each in stores}))
    return f"these recipes name several stores ({named}). Say which one is meant by --store FOLDER."


def _looked(named: Sequence[Path]) -> str:
    return "named were " + ", ".join(map(str, named)) if named else f"looked in {RECIPES}"


def gather_needs(
    found: FoundRecipes, tell: Callable[[str], object], *, with_rejected: bool
) -> Needs:
    """Find what stays because recipes or the registry refer to it.

    Args:
        found: The store, and its recipes.
        tell: Is told what is done, and what could not be known.
        with_rejected: As `find_references` takes it.

    Raises:
        ConfigError: Which versions there are cannot be known.
        ArtifactError: A ledger does not hold.
        ServiceError: MLflow does not answer.
    """
    WATCHER.set(SilentWatcher())
    keys: dict[str, str] = {}
    possible: list[PossibleNeed] = []
    for loaded in found.recipes:
        named, unknown = _plan(loaded, tell)
        keys = {**named, **keys}
        possible += unknown
    references = _find_references(found, with_rejected=with_rejected)
    keys = {**_find_unsent(found.store), **references.keys, **keys}
    return Needs(keys, references.digests, possible)


def _find_unsent(store: Store) -> dict[str, str]:
    """Return the artifacts of which files are still to be sent to MLflow."""
    unsent = UnsentEntries(store.root)
    entries = (entry for run_id in unsent.runs() for entry in unsent.entries(run_id))
    held = [store.holder(Path(str(entry["path"]))) for entry in entries if "path" in entry]
    return {key: "not sent to MLflow yet" for _, key in filter(None, held)}


def _plan(
    loaded: LoadedRecipe, tell: Callable[[str], object]
) -> tuple[dict[str, str], list[PossibleNeed]]:
    """Return the stage keys that a run would come to now, and what it would come to after those."""
    from flows.finetune import train_challenger
    from tasks.runs.opening import prepare_run

    reason = f"recipe {loaded.recipe.name}"
    try:
        run = prepare_run(loaded, planning=True)
        train_challenger(run)
    except (ConfigError, DataError) as error:
        # Its rows or its model are not here just now: whatever it made may be needed again.
        told = str(error).splitlines()[0]
        tell(f"{loaded.path}: cannot be planned, so that all that it may need stays: {told}")
        return {}, list(_list_possible(loaded, STAGES.values(), f"{reason} may need it"))
    named = {line.key: reason for line in run.lines if line.key}
    waiting = {line.name for line in run.lines if not line.key}
    stages = [stage for name, stage in STAGES.items() if name in waiting]
    return named, list(_list_possible(loaded, stages, f"{reason} may need it"))


def _list_possible(
    loaded: LoadedRecipe, stages: Iterable[Stage[..., Any]], reason: str
) -> Iterator[PossibleNeed]:
    for stage in stages:
        try:
            settings = stage.settings.of(loaded.recipe)
        except ValidationError:
            continue  # Of a section that this recipe does not have.
        parts = key_parts(stage, Record(), settings)
        del parts["input"]
        yield PossibleNeed(stage.name, parts, settings.by_name(), reason)


def _find_references(found: FoundRecipes, *, with_rejected: bool) -> References:
    from tasks.runs.opening import track

    root = found.store.root
    names = {*list_models(root), *(each.recipe.registry.model_name for each in found.recipes)}
    references = References()
    for uri in dict.fromkeys(track(each, found.store).uri for each in found.recipes):
        references.add(find_references(uri, sorted(names), root, with_rejected=with_rejected))
    return references
