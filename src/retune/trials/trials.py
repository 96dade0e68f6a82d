"""What a trial is: a name, and overrides of one recipe; all are checked before the first runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from retune.digests import digest_json
from retune.errors import ConfigError
from retune.recipe.loading import LoadedRecipe, load_recipe
from retune.recipe.recipe import Recipe
from retune.recipe.sections import LowRankConfig
from retune.recipe.sections.method import MethodKind
from retune.records import Record

METHODS: tuple[str, ...] = get_args(MethodKind)
_NOT_OF_A_RESULT = {"variants", "variant", "store", "tracking", "runner"}
_QUANTIZED = {"full": "none", "lora": "none", "qlora": "nf4"}
"""What a method's name says of the base; the others take it as the recipe leaves it."""


class Trial(Record):
    """One setting of a recipe."""

    name: str
    overrides: tuple[str, ...]
    """As for ``--set``, those of the whole comparison included."""


@dataclass(frozen=True)
class LoadedTrial:
    """A trial and its recipe.

    Attributes:
        trial: Name and overrides.
        loaded: The recipe as the trial trains it.
    """

    trial: Trial
    loaded: LoadedRecipe

    @property
    def digest(self) -> str:
        """Tell trials apart by what they say; names and folders of this machine do not count."""
        return digest_recipe(self.loaded.recipe)


class TrialRequest(Record):
    """Everything that a trial's task is given, in whatever process it runs."""

    recipe: Path
    trial: Trial
    comparison: str
    """Digest of the comparison, by which the store of whichever machine names what it remembers."""
    parent_run: str
    """MLflow run of the comparison."""
    stop_hopeless: bool
    threads: int | None = None
    """Threads that the trial may use where several share the cores; None: all."""
    devices: tuple[str, ...] = ()
    """Accelerators that the workers share out, as CUDA_VISIBLE_DEVICES names them."""


def identify_trials(trials: Sequence[LoadedTrial]) -> list[list[str]]:
    """Return what tells one list of trials from another."""
    return [[each.trial.name, each.digest] for each in trials]


def digest_recipe(recipe: Recipe) -> str:
    """Return the digest of a recipe's settings, without what cannot change a result."""
    settings = recipe.model_dump(mode="json", exclude=_NOT_OF_A_RESULT)
    return digest_json(settings)


def plan_methods(
    recipe: Path, methods: Sequence[str], overrides: Sequence[str] = ()
) -> list[LoadedTrial]:
    """Make one trial per method, and check all of them.

    A variant of the recipe that is called like a method says how that method is trained.

    Args:
        recipe: The recipe's file.
        methods: Names of methods or variants, at least two.
        overrides: Settings that all trials share.

    Returns:
        The trials in the order given.

    Raises:
        ConfigError: A name is unknown or there are too few, or a trial's recipe is wrong.
    """
    names = list(dict.fromkeys(name.strip() for name in methods if name.strip()))
    base = _load_base(recipe, overrides)
    unknown = [name for name in names if name not in (*METHODS, *base.variants)]
    if unknown:
        own = f"; this recipe's variants: {', '.join(base.variants)}" if base.variants else ""
        raise ConfigError(
            f"--methods: there is no method {', '.join(unknown)}. "
            f"Methods: {', '.join(METHODS)}{own}."
        )
    if len(names) < 2:
        raise ConfigError(
            "--methods: expected at least two to compare, such as --methods full,lora,qlora; "
            "`retune run` trains one."
        )
    trials = [
        Trial(
            name=name, overrides=(*_method_overrides(name, base), *overrides, *_chosen(name, base))
        )
        for name in names
    ]
    return load_trials(recipe, trials)


def _load_base(recipe: Path, overrides: Sequence[str]) -> Recipe:
    """Read what trials start from; a key of their method need be none of the recipe's own."""
    try:
        return load_recipe(recipe, overrides).recipe
    except ConfigError:
        # Each trial is checked with all of them.
        rest = [text for text in overrides if not text.startswith("method.")]
        return load_recipe(recipe, rest).recipe


def load_trials(recipe: Path, trials: Sequence[Trial]) -> list[LoadedTrial]:
    """Load the recipes of all trials before any of them runs.

    Args:
        recipe: The recipe's file.
        trials: What is to be run.

    Returns:
        The trials with their recipes.

    Raises:
        ConfigError: Recipes are wrong; one message says what of each.
    """
    found: list[LoadedTrial] = []
    wrong: dict[str, list[str]] = {}
    for trial in trials:
        try:
            found.append(LoadedTrial(trial, load_trial(recipe, trial)))
        except ConfigError as error:
            wrong.setdefault(error.message, []).append(trial.name)
    if wrong:
        lines = [f"{_listed(names)}: {message}" for message, names in wrong.items()]
        raise ConfigError("\n".join(lines))
    return found


def load_trial(recipe: Path, trial: Trial) -> LoadedRecipe:
    """Load the recipe of a trial.

    A number of `training.devices` that counts those of a cluster is one for a training that has it
    alone. A trial has its place on the cluster already: it trains on the devices that it sees.

    Args:
        recipe: The recipe's file.
        trial: What is to be run.

    Returns:
        The recipe as the trial trains it.

    Raises:
        ConfigError: It is wrong.
    """
    loaded = load_recipe(recipe, trial.overrides)
    if loaded.recipe.training_cluster is None:
        return loaded
    training = loaded.recipe.training.model_copy(update={"devices": "auto"})
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"training": training}))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"trial{'s' if len(names) > 1 else ''} {shown}{more}"


def _own_variants(name: str, base: Recipe) -> list[str]:
    """Return the variants that are about a trial: of its name, and that name at a chosen scale.

    With ``--set variant=tiny``, the trial ``full`` takes ``tiny``, ``full`` and ``tiny_full``.
    """
    names = [name, *(f"{each}_{name}" for each in base.variant)]
    return [each for each in names if each in base.variants]


def _chosen(name: str, base: Recipe) -> tuple[str, ...]:
    """Apply a trial's own variants after those that the recipe is read with."""
    own = _own_variants(name, base)
    if not own:
        return ()
    chosen = ", ".join([*(each for each in base.variant if each not in own), *own])
    return (f"variant=[{chosen}]",)


def _method_overrides(name: str, base: Recipe) -> tuple[str, ...]:
    """Say in overrides what a method's name says, where no variant does.

    They stand before the user's own, so that ``--set method.size=16`` still wins.
    """
    if _own_variants(name, base) or _is_already(name, base):
        return ()
    low_rank = name in ("lora", "qlora") and isinstance(base.method, LowRankConfig)
    method = f"method.kind={name}" if low_rank else f"method={{kind: {name}}}"
    quantized = _QUANTIZED.get(name)
    return (method, f"quantization.kind={quantized}") if quantized else (method,)


def _is_already(name: str, base: Recipe) -> bool:
    """Tell whether the recipe is that method as it stands, so that its own runs are reused."""
    kind, quantized = base.method.kind, base.quantization.kind
    if name == "qlora" and kind == "lora":
        return quantized == "nf4"
    return kind == name and quantized == _QUANTIZED.get(name, quantized)
