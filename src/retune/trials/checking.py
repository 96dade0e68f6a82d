"""What can be looked at before any trial starts: its files and models, and where it would run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from retune.clusters import Engine, expect_cluster, expect_engine
from retune.digests import digest_json
from retune.errors import ConfigError, RetuneError
from retune.inputs import locate_inputs
from retune.recipe.sections import RunnerConfig
from retune.trials.trials import LoadedTrial

Runner = Engine
_NAMES_FILES = {"data", "prompt", "model", "quantization", "scoring", "probes", "gate"}
"""Sections that say which files there have to be; trials that share them are looked at once."""


@dataclass(frozen=True)
class Spreading:
    """How trials are spread.

    Attributes:
        runner: dask, ray, or None for one by one.
        workers: How many at once; None for as many as there are accelerators.
        address: Of a cluster; None for workers of this machine.
    """

    runner: Runner | None = None
    workers: int | None = None
    address: str | None = None


def choose_spreading(
    config: RunnerConfig, runner: Runner | None = None, workers: int | None = None
) -> Spreading:
    """Return how trials are spread: as the command line says, else as the recipe does.

    Args:
        config: The recipe's section.
        runner: dask or ray; None where the command line is silent.
        workers: How many at once; None where it is silent.
    """
    kind = runner or config.kind
    if kind != config.kind or kind is None:
        return Spreading(kind, workers)
    return Spreading(kind, config.workers if workers is None else workers, config.address)


def check_runner(spreading: Spreading) -> None:
    """Refuse a way to run that this machine does not have, before anything starts.

    Args:
        spreading: From `choose_spreading`.

    Raises:
        ConfigError: The package is not installed, or there is nobody to spread to.
        ServiceError: Nobody answers at the cluster's address.
    """
    runner, workers = spreading.runner, spreading.workers
    if runner is None and workers not in (None, 1):
        raise ConfigError(f"--workers {workers} needs --runner dask or ray; without, one by one")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}: expected at least 1")
    if runner is not None:
        instead = "leave --runner and runner.kind out to run one by one"
        expect_engine(runner, f"prefect-{runner}", asked=f"--runner {runner}", instead=instead)
    if spreading.address is not None:
        expect_cluster(spreading.address)


def check_inputs(trials: Sequence[LoadedTrial]) -> None:
    """Find the files and models of all trials before the first one runs.

    Args:
        trials: With their recipes.

    Raises:
        RetuneError: Something is missing; one message says what, and for which trial.
    """
    seen: set[str] = set()
    wrong: dict[str, RetuneError] = {}
    for each in trials:
        named = each.loaded.recipe.model_dump(mode="json", include=_NAMES_FILES)
        key = digest_json(named)
        if key not in seen:
            seen.add(key)
            try:
                locate_inputs(each.loaded)
            except RetuneError as error:
                wrong.setdefault(error.message, error)
    if len(wrong) == 1:
        raise next(iter(wrong.values()))
    if wrong:
        raise ConfigError("\n".join(wrong))
