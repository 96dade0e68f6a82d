"""The table of stages: what each reads of the recipe, and which libraries its key names."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from generator import stages as generator
from retune.recipe.recipe import Recipe
from retune.recipe.sections import (
    DpoConfig,
    GrpoConfig,
    HeadConfig,
    JudgeConfig,
    ModelConfig,
    ProbesConfig,
)
from retune.recipe.sections.judge import JudgePrices
from retune.recipe.sections.release import GateConfig, RegistryConfig
from retune.recipe.sections.retrain import DriftConfig, RetrainConfig, TriggersConfig
from retune.recipe.sections.rubrics import LengthRubric
from retune.recipe.sections.scoring import RobustnessConfig, SamplingConfig, ScoringConfig
from retune.recipe.sections.training import EarlyStoppingConfig, TrainingConfig
from retune.records import Record
from retune.spine.stage import Settings, Stage, key_parts
from retune.stages import STAGES
from tests.retune.reached_libraries import reached_libraries

REPOSITORY = Path(__file__).parents[2]
SECTIONS: dict[str, Any] = {
    name: field.get_default(call_default_factory=True)
    for name, field in Recipe.model_fields.items()
    if not field.is_required()
} | {
    "model": ModelConfig(id="base"),
    "head": HeadConfig(),
    "training": TrainingConfig(early_stopping=EarlyStoppingConfig()),
    "dpo": DpoConfig(pairs=Path("pairs.jsonl")),
    "grpo": GrpoConfig(),
    "probes": ProbesConfig(
        robustness=RobustnessConfig(), show=("Quem és tu?",), sampling=SamplingConfig()
    ),
    "scoring": ScoringConfig(rubrics=(LengthRubric(kind="length", at_most=9),)),
    "judge": JudgeConfig(
        endpoint="http://judge/v1",
        model="judge",
        prices=JudgePrices(input_per_million=1.0, output_per_million=2.0),
    ),
    "gate": GateConfig(slices=("group",), guards={"perplexity": 0.1}),
    "registry": RegistryConfig(model_name="model"),
    "retrain": RetrainConfig(triggers=TriggersConfig(drift=DriftConfig(log=Path("log.jsonl")))),
}
"""All sections of a recipe, also those that exclude each other."""
NOT_SETTINGS = ("name", "data", "variants", "variant")
"""Reading rows takes what is found in `data` as inputs; the rest is applied before a stage runs."""

UNUSED_BY_TRAIN_ADAPTER = {
    "prompt.max_length",
    "scoring.max_new_tokens",
    "scoring.sql_dialect",
    "scoring.sql_timeout_seconds",
}
"""Unless rows are packed, or queries are watched."""


def settings_of(stage: Stage[..., Any], sections: dict[str, Any]) -> dict[str, Any]:
    settings = stage.settings.of(SimpleNamespace(**sections))
    return key_parts(stage, Record(), settings)


def leaves() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each setting by its dotted name, with the sections in which it has another value."""
    for name, section in SECTIONS.items():
        if name in NOT_SETTINGS:
            continue
        for path, changed in _changed(section, Recipe.model_fields[name].annotation):
            yield ".".join((name, *path)), SECTIONS | {name: changed}


def _changed(value: Any, annotation: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, BaseModel):
        yield (), _another(value, annotation)
        return
    for name, field in type(value).model_fields.items():
        if name == "kind" and "method" in type(value).__module__:
            continue  # it says which settings there are
        for path, changed in _changed(getattr(value, name), field.annotation):
            yield (name, *path), value.model_copy(update={name: changed})


def _another(value: Any, annotation: Any) -> Any:
    """Return a value of the same type that is another one."""
    kinds = list(_kinds(annotation))
    choices = [each for kind in kinds if get_origin(kind) is Literal for each in get_args(kind)]
    if isinstance(value, tuple):
        return value[:-1]
    if isinstance(value, dict):
        return {}
    for choice in choices:
        if choice != value:
            return choice
    if isinstance(value, bool) or bool in kinds:
        return not value
    if float in kinds:
        return (value or 0.0) / 2 + 0.25
    if int in kinds:
        return 1 if value == "auto" else (value or 32) * 2
    if Path in kinds:
        return Path("elsewhere")
    return f"{value}x" if str in kinds else ("x",)


def _kinds(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, UnionType, Annotated):
        for each in get_args(annotation):
            yield from _kinds(each)
    else:
        yield annotation


def read_by(settings: type[Settings]) -> set[str]:
    return {field.alias or name for name, field in settings.model_fields.items()}


UNCOUNTED = {
    *("training.start_from", "training.devices", "training.sharding"),
    *("training.checkpoint_every_minutes", "training.on_non_finite"),
    *("training.max_skipped_batches", "quality.rows_in_memory"),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_key_moves_with_what_the_stage_reads_and_with_nothing_else(name: str) -> None:
    """Every setting of the recipe is changed by itself, in all sections that a recipe can have.

    Runtime settings never count, nor does the folder that training starts from, nor how many
    devices share the work, when checkpoints are written, what a step without a number does, and
    where rows are compared.
    """
    stage = STAGES[name]
    names = read_by(stage.settings)
    plain = settings_of(stage, SECTIONS)
    expected = {
        leaf
        for leaf, _ in leaves()
        if any(leaf == each or leaf.startswith(f"{each}.") for each in names)
        and ".runtime." not in leaf
        and leaf not in UNCOUNTED
    }
    if name == "train_adapter":
        expected -= UNUSED_BY_TRAIN_ADAPTER
    moved = {leaf for leaf, sections in leaves() if settings_of(stage, sections) != plain}
    assert moved == expected


def test_all_settings_are_tried() -> None:
    """A few by name, of every depth; more than a hundred in all."""
    names = {leaf for leaf, _ in leaves()}
    assert {"seed", "scoring.resamples", "training.runtime.data_workers"} <= names
    assert {"training.early_stopping.patience", "probes.robustness.typo_rate"} <= names
    assert len(names) > 100


@pytest.mark.parametrize(
    ("training", "counts"),
    [
        ({"packing": True}, {"prompt.max_length"}),
        ({"watch": "sql_exact_match"}, UNUSED_BY_TRAIN_ADAPTER - {"prompt.max_length"}),
        ({"watch": "accuracy"}, set()),
    ],
)
def test_what_a_training_makes_use_of_counts(training: dict[str, Any], counts: set[str]) -> None:
    """The length where rows are packed to it; how queries are scored where they are watched."""
    stage = STAGES["train_adapter"]
    used = {"training": TrainingConfig(**training)}
    plain = settings_of(stage, SECTIONS | used)
    moved = {
        leaf
        for leaf, sections in leaves()
        if leaf in UNUSED_BY_TRAIN_ADAPTER and settings_of(stage, sections | used) != plain
    }
    assert moved == counts


def test_what_some_stages_read() -> None:
    """Said once more, by hand."""
    assert read_by(STAGES["decide"].settings) == {
        "gate",
        "scoring.resamples",
        "scoring.sql_dialect",
    }
    assert read_by(STAGES["load_rows"].settings) == set()
    assert read_by(STAGES["bundle_adapter"].settings) == {"merge.check_rows"}
    assert read_by(STAGES["score_general_text"].settings) == {
        "scoring.resamples",
        "scoring.runtime.batch_size",
        "scoring.runtime.devices",
    }


def test_a_function_cannot_read_what_is_not_declared() -> None:
    """Its settings have no such attribute."""
    settings: Any = STAGES["score_sql"].settings.of(SimpleNamespace(**SECTIONS))
    assert settings.sql_dialect == "sqlite"
    with pytest.raises(AttributeError, match="resamples"):
        _ = settings.resamples


def test_the_table_loads_no_library_that_computes() -> None:
    """A flow and the command line import it, and must start at once."""
    code = "import retune.stages, sys; print(*sys.modules)"
    run = [sys.executable, "-c", code]
    loaded = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "transformers", "trl", "peft", "mlflow", "sklearn", "scipy", "numpy"}
    assert heavy.isdisjoint(loaded)


WITHOUT_EFFECT = {
    "pydantic": "checks records, and computes nothing",
    "pydantic_core": "pydantic's own errors",
    "yaml": "reads files whose digests are inputs",
    "jinja2": "checks templates, which transformers renders",
    "httpx": "errors of the hub",
    "openai": "sends a judge what the key names, and reads its answer",
    "huggingface_hub": "fetches what a commit names",
    "requests": "errors of MLflow",
    "filelock": "keeps writers apart",
    "psutil": "tells whether who left a lock behind still lives",
    "sqlalchemy": "addresses of MLflow",
    "pyarrow": "reads rows; who writes them into an artifact declares it",
    "safetensors": "reads weights; who writes them into an artifact declares it",
    "duckdb": "joins rows on disk, with the results that are found in memory",
    "ray": "starts the processes of a training on other nodes; torch computes in them",
    "accelerate": "gives layers their weights for a while; who computes with it declares it",
    "stdnum": "masks personal data in messages; who writes a masked text declares it",
    "trl": "marks of a template, where more than the answer carries loss; format_chat declares it",
}
"""What a stage may use without naming it in its key, and why its version changes no result."""
CARRIED = {"tokenizers": "transformers", "accelerate": "transformers"}
"""What is used by way of another library alone."""


@cache
def installed() -> Mapping[str, list[str]]:
    """Return the distributions of each package; finding them takes long."""
    return packages_distributions()


@pytest.mark.parametrize("name", STAGES | generator.STAGES)
def test_a_key_names_the_libraries_that_compute(name: str) -> None:
    """None that its code cannot reach, and all that it can, but for those without effect."""
    stage = (STAGES | generator.STAGES)[name]
    known = installed()
    reached = {package: set(known[package]) for package in reached_libraries(stage.function)}
    carried = {each for each, carrier in CARRIED.items() if carrier in reached}
    assert set(stage.libraries) - carried <= set().union(*reached.values())
    assert {
        package for package, names in reached.items() if names.isdisjoint(stage.libraries)
    } <= WITHOUT_EFFECT.keys()


SNIPPET = """
from retune.records import DatasetRef, Record, SideRef
from retune.score_records import ScoreReport
from retune.spine.stage import Settings, Workdir, reads, stage
from tasks.runs.run import Run
from tasks.runs.stage_task import StageTask
from typing import Annotated


class Inputs(Record):
    rows: SideRef
    most: int = 1


class Few(Settings):
    samples: Annotated[int, reads("scoring.samples")]


@stage(Inputs, version=1)
def show(inputs: Inputs, settings: Few, work: Workdir) -> ScoreReport:
    settings.samples
    settings.resamples  # undeclared
    raise NotImplementedError


@stage(Inputs, version=1)  # inputs of another stage
def other(inputs: SideRef, settings: Few, work: Workdir) -> ScoreReport:
    raise NotImplementedError


task = StageTask(show)


def flow(run: Run, rows: SideRef, dataset: DatasetRef) -> ScoreReport:
    task(run, rows=rows)
    task.of("base")(run, rows=rows, most=2)
    task(run, rows=rows, most_rows=2)  # misspelt
    task(run, most=2)  # missing
    task(run, rows=dataset)  # wrong type
    record: DatasetRef = task(run, rows=rows)  # wrong result
    return task(run, rows=rows)
"""


@pytest.mark.slow
def test_mypy_follows_a_stage_from_its_call_to_its_settings(tmp_path: Path) -> None:
    """It refuses each line with a comment, and no other."""
    (tmp_path / "snippet.py").write_text(SNIPPET)
    arguments = ["--config-file", str(REPOSITORY / "pyproject.toml"), str(tmp_path / "snippet.py")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    refused = {int(line) for line in re.findall(r"snippet\.py:(\d+): error", done.stdout)}
    lines = enumerate(SNIPPET.splitlines(), start=1)
    assert refused == {number for number, line in lines if "  #" in line}, done.stdout
