"""What a stage is: a typed function from inputs and settings to a record, with a version.

Stages are declared in the `stages.py` of their rooms, where importing them loads no library that
computes.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Generic, ParamSpec, Protocol, Self, TypeVar, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from retune.digests import digest_json
from retune.errors import ConfigError, OutOfMemory, RetuneError, StageError
from retune.recipe.sections.base import RUNTIME
from retune.records import ContentRecord, Record
from retune.spine.durable_files import DISK_ERRORS, disk_error
from retune.spine.opening import open_store
from retune.spine.provenance import library_versions, machine_provenance
from retune.spine.store import Store
from retune.spine.unchanged_inputs import refuse_changed

_NUMBER_TOLD = re.compile(r"\(os error (\d+)\)")
"""How libraries in Rust (safetensors, tokenizers) tell an error of the system, as an own error."""
_FULL_DISK_BYTES = 1024 * 1024
TABLE = "retune.stages:STAGES"
"""Where the stages of a recipe are declared."""

Output = TypeVar("Output", bound=ContentRecord)
Given = TypeVar("Given", bound=Record)
Read = TypeVar("Read", bound="Settings")
Inputs = ParamSpec("Inputs")
"""Input records of a stage by name, as its input record's constructor takes them."""


class Reporter(Protocol):
    """Where a running stage says how far it is."""

    def started(self) -> None:
        """Say that it computes: the store does not have it, and no other run is at it."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Say that `done` of `total` units of `what` are finished."""

    def metric(self, name: str, value: float, step: int) -> None:
        """Say a live figure, such as the training loss."""

    def log(self, message: str) -> None:
        """Say one line."""


class SilentReporter:
    """A reporter for calls that nobody watches."""

    def started(self) -> None:
        """Say nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Say nothing."""

    def metric(self, name: str, value: float, step: int) -> None:
        """Say nothing."""

    def log(self, message: str) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Workdir:
    """The folders of one computation.

    Attributes:
        artifact: Empty at the start; what lies there at the end becomes the artifact.
        scratch: Kept when the computation dies, for checkpoints.
        reporter: Where progress goes.
        context: What the result does not depend on: the MLflow address, run ids.
    """

    artifact: Path
    scratch: Path
    reporter: Reporter = field(default_factory=SilentReporter)
    context: Mapping[str, str] = field(default_factory=dict)


def reads(setting: str) -> Any:
    """Say in an annotation that a field of `Settings` is one setting, by its dotted name."""
    return Field(alias=setting)


class Settings(Record):
    """What a stage reads of the recipe: its function is given this and nothing else.

    A field with `reads` is one setting; any other is the section that it is named after.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    @classmethod
    def of(cls, recipe: object) -> Self:
        """Take them out of a recipe's sections; what a section that is null would say is null."""
        names = [field.alias or name for name, field in cls.model_fields.items()]
        return cls.model_validate({name: _look_up(recipe, name) for name in names})

    def by_name(self) -> dict[str, Any]:
        """Return them as JSON has them, under their names in the recipe."""
        return self.model_dump(mode="json", by_alias=True)


def _look_up(recipe: object, setting: str) -> object:
    for name in setting.split("."):
        recipe = None if recipe is None else getattr(recipe, name)
    return recipe


@dataclass(frozen=True)
class Stage(Generic[Inputs, Output]):
    """A declared stage, as `stage` makes it.

    Attributes:
        name: Verb and object, as the task and the artifact folder are called.
        version: Raised whenever the code would give another result for the same key.
        function: Computes it; what it needs is imported where it runs.
        inputs: Record type whose fields are the input records.
        settings: What it reads of the recipe.
        output: Record type of the result.
        libraries: Distributions whose version is part of the key.
        on_device: Whether it runs in the stage process that holds torch and the accelerator.
        still_true: Says, of a record and a context, why an effect outside the store no longer
            holds.
    """

    name: str
    version: int
    function: Callable[[Any, Any, Workdir], Output]
    inputs: type[Record]
    settings: type[Settings]
    output: type[Output]
    libraries: tuple[str, ...] = ()
    on_device: bool = False
    still_true: Callable[[Any, Mapping[str, str]], str | None] | None = None


def stage(
    inputs: Callable[Inputs, Given],
    *,
    version: int,
    libraries: tuple[str, ...] = (),
    on_device: bool = False,
    still_true: Callable[[Any, Mapping[str, str]], str | None] | None = None,
) -> Callable[[Callable[[Given, Read, Workdir], Output]], Stage[Inputs, Output]]:
    """Declare a function as a stage of its name.

    Its second parameter's type says what it reads of the recipe, and its return type what it makes.

    Args:
        inputs: Record type of its first parameter, whose fields are named where it is called.
        version: Raised whenever the code would give another result for the same key.
        libraries: Distributions whose version is part of the key.
        on_device: Whether it needs torch and the accelerator.
        still_true: See `Stage`; for a stage with an effect outside the store.
    """

    def declare(function: Callable[[Given, Read, Workdir], Output]) -> Stage[Inputs, Output]:
        given, read, _, output = get_type_hints(function).values()
        return Stage(
            name=function.__name__,
            version=version,
            function=function,
            inputs=given,
            settings=read,
            output=output,
            libraries=libraries,
            on_device=on_device,
            still_true=still_true,
        )

    return declare


def declared_in(*rooms: ModuleType) -> dict[str, Stage[..., Any]]:
    """Return the table of the stages that modules declare, by name."""
    declared = (each for room in rooms for each in vars(room).values())
    return {each.name: each for each in declared if isinstance(each, Stage)}


class StageRequest(BaseModel):
    """Everything that one computation of a stage needs, as a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    key: str
    inputs: dict[str, Any]
    settings: dict[str, Any]
    store: Annotated[str, BeforeValidator(str)]
    """Address of the store: a folder, or shared storage."""
    cache: Path | None = None
    """Folder of caches, where the store is shared."""
    context: dict[str, str] = {}
    """What the result does not depend on: the MLflow address, run ids."""


def load_table(place: str) -> dict[str, Stage[..., Any]]:
    """Import a table of stages, ``module:name``.

    Raises:
        ConfigError: There is none.
    """
    module, _, name = place.partition(":")
    try:
        table: dict[str, Stage[..., Any]] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"found {place} ({error}); expected a table of stages, such as {TABLE}."
        ) from error
    return table


def key_parts(stage: Stage[..., Any], inputs: Record, settings: Settings) -> dict[str, Any]:
    """Return what a stage key is made of.

    Args:
        stage: What is run.
        inputs: Its input records; only their digests count, and values that are no records.
        settings: What it reads of the recipe; runtime settings are left out.

    Returns:
        A flat, JSON-able mapping such as ``{"training.learning_rate": 0.002, "input.chat": "…"}``,
        made so that two of them can be compared line by line.
    """
    read = _flatten(settings.by_name(), ())
    runtime = set(_runtime_names(settings, ()))
    return {
        "stage": stage.name,
        "version": stage.version,
        **_flatten(_input_digests(inputs), ("input",)),
        **{
            name: value
            for name, value in read.items()
            if RUNTIME not in name.split(".") and name not in runtime
        },
        **{f"library.{k}": v for k, v in library_versions(stage.libraries).items()},
    }


def stage_key(parts: Mapping[str, Any]) -> str:
    """Return the stage key: the first 32 hexadecimal digits of the parts' sha256."""
    return digest_json(dict(parts))[:32]


def _runtime_names(section: BaseModel, path: tuple[str, ...]) -> Iterator[str]:
    """Yield the names of the settings that are marked as `RUNTIME` one by one."""
    for name, declared in type(section).model_fields.items():
        place, value = (*path, declared.alias or name), getattr(section, name)
        if RUNTIME in declared.metadata:
            yield ".".join(place)
        elif isinstance(value, BaseModel):
            yield from _runtime_names(value, place)


def _flatten(value: Any, path: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(value, dict) and value:
        flat: dict[str, Any] = {}
        for name, inner in value.items():
            flat.update(_flatten(inner, (*path, name)))
        return flat
    return {".".join(path): value}


def _input_digests(inputs: Record) -> dict[str, Any]:
    return {name: _digests_of(getattr(inputs, name)) for name in type(inputs).model_fields}


def _digests_of(value: Any) -> Any:
    if isinstance(value, ContentRecord):
        return value.digest
    if isinstance(value, tuple | list):
        return [_digests_of(item) for item in value]
    if isinstance(value, dict):
        return {name: _digests_of(item) for name, item in value.items()}
    # A section that a flow gives as an input, because there is one for each of several sources.
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def run_stage(
    stage: Stage[..., Output], request: StageRequest, reporter: Reporter | None = None
) -> Output:
    """Return a stage's record, computed now or by whoever finished it first.

    Args:
        stage: What is run.
        request: Inputs, settings and store.
        reporter: Where progress goes.

    Returns:
        The sealed record.

    Raises:
        RetuneError: What the stage's function raises, `ArtifactError` for a full disk, or
            `StageError` for a request whose key is not that of its content.
    """
    store = open_store(request.store, request.cache)
    reporter = reporter or SilentReporter()
    with store.lock(request.key, reporter.log):
        if not is_stored(store, stage, request):
            reporter.started()
            return _compute(stage, request, store, reporter)
        record = store.load(stage.name, request.key, stage.output)
    store.remove_left_work(stage.name, request.key)
    return record


def is_stored(store: Store, stage: Stage[..., Any], request: StageRequest) -> bool:
    """Say whether a stage need not run, its effect outside the store included."""
    if store.damage(stage.name, request.key) is not None:
        return False
    return find_lost_effect(store, stage, request) is None


def find_lost_effect(store: Store, stage: Stage[..., Any], request: StageRequest) -> str | None:
    """Say why a stored stage's effect outside the store no longer holds; None when it does."""
    if stage.still_true is None:
        return None
    record = store.load(stage.name, request.key, stage.output)
    return stage.still_true(record, request.context)


def _compute(
    stage: Stage[..., Output], request: StageRequest, store: Store, reporter: Reporter
) -> Output:
    # Through JSON text, where pydantic's strict mode lets a list be the tuple that it was.
    inputs = stage.inputs.model_validate_json(json.dumps(request.inputs))
    settings = stage.settings.model_validate_json(json.dumps(request.settings))
    parts = key_parts(stage, inputs, settings)
    if stage_key(parts) != request.key:
        raise StageError(
            f"{stage.name}: the request's key {request.key} is not that of its content: it was "
            "edited, or made with other versions of the libraries. What it computes would be "
            "taken for something else. Run the recipe again."
        )
    refuse_changed(store, stage.name, inputs)
    work = store.open_work(stage.name, request.key)
    store.keep_request(stage.name, request.key, request.model_dump_json(indent=2))
    workdir = Workdir(work / "artifact", work / "scratch", reporter, request.context)
    started = time.monotonic()
    try:
        record = stage.function(inputs, settings, workdir)
    except RetuneError:
        raise
    except Exception as error:
        explained = _explain(stage.name, work, error)
        if explained is error:
            raise
        raise explained from error
    if not isinstance(record, stage.output):
        raise StageError(f"{stage.name}: returned {type(record).__name__}, not {stage.output}.")
    seconds = time.monotonic() - started
    refuse_changed(store, stage.name, inputs)
    return store.seal(
        stage.name,
        request.key,
        record,
        key_parts=parts,
        provenance={**machine_provenance(), "seconds": seconds, "context": request.context},
    )


def _explain(stage: str, work: Path, error: Exception) -> Exception:
    """Return what to raise for an error that no stage raises on purpose."""
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
        return disk_error(Path(str(error.filename or work)), error)
    # torch's own error is known by its name: nothing here imports torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        what = (str(error) or "MemoryError").splitlines()[0]
        return OutOfMemory(
            f"{stage}: memory ran out ({what:.300}). End what else uses it, or let the stage do "
            "less at a time (scoring.runtime.batch_size, prompt.max_length); `retune estimate` "
            "says what each stage needs. Finished stages are kept."
        )
    told = _NUMBER_TOLD.search(str(error))
    if told is not None and int(told[1]) in DISK_ERRORS:
        return disk_error(work, OSError(int(told[1]), os.strerror(int(told[1]))))
    if shutil.disk_usage(work).free < _FULL_DISK_BYTES:
        # torch and safetensors report a full disk as errors of their own, without a number.
        return disk_error(work, OSError(errno.ENOSPC, str(error)))
    if isinstance(error, OSError):
        return StageError(f"{stage}: {type(error).__name__}: {error}")
    return error
