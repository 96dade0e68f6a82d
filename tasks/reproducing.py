"""Making a registered version again: what it was made of, and a fresh store to make it in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import ValidationError

from retune.clusters import expect_training_cluster
from retune.errors import ArtifactError, ConfigError
from retune.inputs import Inputs
from retune.recipe.loading import LoadedRecipe, find_root, load_recipe
from retune.recipe.recipe import Recipe
from retune.registry.records import VersionManifest
from retune.registry.versions.manifests import MANIFESTS, read_manifest, rows_path
from retune.release.reproduction import Reproduction, compare_runs, refuse_changed_sources
from retune.spine.opening import open_folder, open_recipe_store
from retune.spine.store import Store
from retune.tracking import choose_tracking
from tasks.runs.job import Job
from tasks.runs.opening import prepare_run, track
from tasks.runs.run import RecipeRun, open_run
from tasks.starting import find_origin, go_on


@dataclass(frozen=True)
class Original:
    """A version as it was made.

    Attributes:
        manifest: What it was made of.
        uri: Address of MLflow.
        store: Where it was made.
        root: Folder that relative paths of its recipe start from.
    """

    manifest: VersionManifest
    uri: str
    store: Store
    root: Path

    @property
    def rows(self) -> Path:
        """What its rows were."""
        folder, version = self.store.root / MANIFESTS, int(self.manifest.version or 0)
        return rows_path(folder, self.manifest.model_name, version)

    def load(self, store: Path) -> LoadedRecipe:
        """Return its recipe with another store.

        Raises:
            ConfigError: This version of retune does not read the recipe any more.
        """
        values: dict[str, Any] = {**self.manifest.recipe, "store": {"folder": str(store)}}
        try:
            recipe = Recipe.model_validate(values)
        except ValidationError as error:
            raise ConfigError(
                f"{self.manifest.model_name} version {self.manifest.version}: its recipe is not "
                f"one of this version of retune ({error.error_count()} settings). Install the "
                f"retune of its commit ({self.manifest.commit}), and run this again."
            ) from error
        return LoadedRecipe(recipe, self.root / self.manifest.recipe_file, self.root)


def find_original(model_name: str, version: int, *, recipe: Path | None, store: Path) -> Original:
    """Find what a version was made of.

    Args:
        model_name: The registered model.
        version: Number of the version.
        recipe: A recipe that says where MLflow and the store are; None for a store alone.
        store: Folder of the store, without a recipe.

    Raises:
        ConfigError: There is no such version, or it has no manifest.
        ServiceError: MLflow does not answer.
    """
    if recipe is not None:
        loaded = load_recipe(recipe)
        opened, root = open_recipe_store(loaded), loaded.root
        folder, tracking = opened.root, track(loaded, opened)
    else:
        opened = open_folder(store)
        folder, root = opened.root, find_root(store.absolute().parent)
        tracking = choose_tracking(
            None, None, name=model_name, store_root=folder, resolve=lambda path: root / path
        )
    manifest = read_manifest(tracking.uri, model_name, version, folder / MANIFESTS)
    if manifest is None:
        raise ConfigError(
            f"{model_name} version {version}: MLflow at this place has no such version, or it was "
            "registered without a manifest. Name the recipe that it was made by (--recipe), or "
            "the store that it lies in (--store)."
        )
    return Original(manifest, tracking.uri, opened, root)


def refuse_used_folder(into: Path | None) -> None:
    """Refuse a folder whose stages would be taken instead of being made again.

    Raises:
        ConfigError: It has files.
    """
    if into is not None and into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise ConfigError(
            f"--into {into}: is not empty, and what is stored there would be taken instead of "
            "being made again. Name a new folder."
        )


@contextmanager
def open_fresh(original: Original, into: Path | None) -> Iterator[RecipeRun]:
    """Open a run of a version's recipe in a fresh store; MLflow shows nothing of it.

    Args:
        original: The version.
        into: Folder of the store, which stays; None for a temporary one.

    Yields:
        The run.

    Raises:
        ConfigError: The folder has files, the recipe is not one of this version of retune, or nodes
            of a cluster would not see the folder.
        ServiceError: The cluster that trains does not answer.
    """
    refuse_used_folder(into)
    with TemporaryDirectory(prefix="retune-reproduce-") as temporary:
        loaded = original.load(into.absolute() if into is not None else Path(temporary))
        cluster = loaded.recipe.training_cluster
        if cluster is not None and into is None:
            raise ConfigError(
                f"--into: is not given, but this version was trained on the nodes of {cluster} "
                "(runner.address), which do not see a temporary folder of this machine. Name a "
                "new folder that all of them mount."
            )
        expect_training_cluster(cluster)
        with open_run(prepare_run(loaded)) as run:
            yield run


def check_sources(original: Original, inputs: Inputs) -> None:
    """Refuse sources that have changed, before anything runs; see `refuse_changed_sources`."""
    refuse_changed_sources(original.manifest, inputs)


def start_as_then(job: Job, original: Original) -> Job:
    """Let training start where it started then.

    Args:
        job: Its rows and inputs.
        original: The version.

    Raises:
        ArtifactError: It went on from a version whose adapter is gone.
    """
    started_from = original.manifest.started_from
    if started_from is None:
        return job
    context = {**job.run.context, "tracking_uri": original.uri}
    there = replace(job, run=replace(job.run, store=original.store, context=context))
    origin = find_origin(there, started_from)
    if origin is None:
        raise ArtifactError(
            f"{original.manifest.model_name} version {original.manifest.version} went on from "
            f"version {started_from}, whose adapter is neither in {original.store.root} nor among "
            "the artifacts of its run in MLflow."
        )
    return go_on(job, origin)


def report_reproduction(run: RecipeRun, original: Original, *, kept: bool) -> Reproduction:
    """Compare what was made again with the version.

    Args:
        run: The run that made it again.
        original: The version.
        kept: Whether the run's store stays.
    """
    return compare_runs(original.manifest, run.lines, run.store, original.store, kept=kept)
