"""What can be looked at before any trial starts: its files and models, and where it would run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Literal

from retune.digests import digest_json
from retune.errors import ConfigError, RetuneError
from retune.inputs import locate_inputs
from retune.trials.trials import LoadedTrial

Runner = Literal["dask", "ray"]
_NAMES_FILES = {"data", "prompt", "model", "quantization", "scoring", "probes", "gate"}
"""Sections that say which files there have to be; trials that share them are looked at once."""


def check_runner(runner: Runner | None, workers: int | None) -> None:
    """Refuse a way to run that this machine does not have, before anything starts.

    Args:
        runner: dask, ray, or None for one by one.
        workers: How many trials at once.

    Raises:
        ConfigError: The package is not installed, or there is nobody to spread to.
    """
    if runner is None and workers not in (None, 1):
        raise ConfigError(f"--workers {workers} needs --runner dask or ray; without, one by one")
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers}: expected at least 1")
    if runner is not None and find_spec(f"prefect_{runner}") is None:
        raise ConfigError(
            f"--runner {runner}: the package prefect-{runner} is not installed. Install it "
            f"(pip install prefect-{runner}), or leave --runner out to run one by one."
        )


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
