"""Where a team's own metrics lie: found, and seen to hold a metric, before anything is scored."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

from retune.digests import digest_folder
from retune.errors import ConfigError
from retune.recipe.sections.scoring import OwnMetricConfig
from retune.records import Source

KEY = "scoring.text_metrics"
_BASES = ("Metric", "EvaluationModule")


def locate_metric(config: OwnMetricConfig, resolve: Callable[[Path], Path]) -> Source:
    """Find the folder of a metric; one of the hub is fetched, where the cache does not have it.

    Its code is read and not run.

    Args:
        config: Names it.
        resolve: Makes the recipe's relative paths absolute.

    Returns:
        The folder, and the digest of what it holds.

    Raises:
        ConfigError: There is no such folder, it holds no metric, or the hub does not give it.
    """
    folder = resolve(config.folder) if config.folder else _fetch(config)
    if not folder.is_dir():
        raise ConfigError(
            f"{KEY}: {folder} is no folder. Expected one with {config.name}.py, whose class "
            "derives from evaluate.Metric; relative paths start at the project root."
        )
    _refuse_without_metric(module_of(folder, config.name))
    return Source(digest=digest_folder(folder), path=folder)


def module_of(folder: Path, name: str) -> Path:
    """Return the file that `evaluate` loads of a metric's folder."""
    return folder / f"{name}.py"


def _refuse_without_metric(file: Path) -> None:
    if not file.is_file():
        found = ", ".join(sorted(each.name for each in file.parent.iterdir())[:5]) or "nothing"
        raise ConfigError(
            f"{KEY}: {file.parent} has no {file.name} (it has {found}), so it holds no metric. "
            "Name the file as the folder is named, with a class in it that derives from "
            "evaluate.Metric."
        )
    try:
        code = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{KEY}: {file} is no Python: {error}. Correct it.") from error
    classes = [node for node in ast.walk(code) if isinstance(node, ast.ClassDef)]
    if not any(_is_metric(base) for each in classes for base in each.bases):
        found = ", ".join(each.name for each in classes) or "none"
        raise ConfigError(
            f"{KEY}: {file} has no class that derives from evaluate.Metric (its classes: {found}). "
            "conf/metrics/token_f1 is an example."
        )


def _is_metric(base: ast.expr) -> bool:
    name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
    return name.endswith(_BASES)


def _fetch(config: OwnMetricConfig) -> Path:
    from huggingface_hub import snapshot_download

    name, revision = str(config.hub), str(config.revision)
    try:
        return Path(snapshot_download(name, repo_type="space", revision=revision))
    except Exception as error:
        # The hub's client raises errors of several libraries; all of them mean that it is not here.
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"{KEY}: the hub did not give {name} at {revision} ({said:.200}). Without network, "
            f"make a local copy where there is one: `hf download {name} --repo-type space "
            f"--revision {revision} --local-dir conf/metrics/{config.name}`, and write "
            f"{{folder: conf/metrics/{config.name}}} instead of hub and revision."
        ) from error
