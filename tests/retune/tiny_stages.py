"""A table of tiny stages for the tests of the machinery; none needs torch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from retune.errors import DataError
from retune.records import ArtifactRecord, Record, Source
from retune.stage import Stage, StageRequest, Workdir, key_parts, stage_key


class Made(ArtifactRecord):
    """What the stages here return."""

    number: int


class Inputs(Record):
    """One file, and some that are optional."""

    source: Source
    more: tuple[Source, ...] = ()
    other: Source | None = None


class Runtime(BaseModel):
    """What cannot change a result."""

    workers: int = 0


class Settings(Record):
    """A section of a recipe."""

    act: str = "work"
    number: int = 1
    shown: int = 3
    place: str = "here"
    extra: int | None = None
    runtime: Runtime = Runtime()


class Section(Record):
    """The settings of the stages here."""

    tiny: Settings = Settings()


def run(inputs: Inputs, section: Section, work: Workdir) -> Made:
    """Do what the settings say, then write one file."""
    number = section.tiny.number
    with (work.scratch / "starts.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    ACTS[section.tiny.act](section.tiny, work)
    (work.artifact / "sub").mkdir()
    (work.artifact / "sub" / "number.json").write_text(json.dumps(number))
    return Made(digest=f"{number:064d}", folder=work.artifact, number=number)


def _report(settings: Settings, work: Workdir) -> None:
    work.reporter.log("começa")
    for done in range(1, 4):
        work.reporter.progress("parts", done, 3)
        work.reporter.metric("loss", 1 / done, done)


def _fail(settings: Settings, work: Workdir) -> None:
    raise DataError("linha 7: não é texto")


def _crash(settings: Settings, work: Workdir) -> None:
    raise ZeroDivisionError("by hand")


def _noise(settings: Settings, work: Workdir) -> None:
    print('{"event": "done", "record": {}}', flush=True)
    os.write(1, b"\xff\xfe not text\n" * 50_000)
    os.write(2, b"last words\n")


def _wait(settings: Settings, work: Workdir) -> None:
    work.reporter.progress("waiting", 0, 1)
    # Whoever kills this process waits for the file, and looks for the line in the log.
    print("about to wait", flush=True)
    Path(settings.place).write_text(str(os.getpid()))
    time.sleep(3600)


def _once(settings: Settings, work: Workdir) -> None:
    """Wait for ever the first time, and finish the second."""
    if len((work.scratch / "starts.txt").read_text().splitlines()) == 1:
        _wait(settings, work)


def _slow(settings: Settings, work: Workdir) -> None:
    with Path(settings.place).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(1.0)


ACTS = {
    "work": lambda settings, work: None,
    "report": _report,
    "fail": _fail,
    "crash": _crash,
    "noise": _noise,
    "wait": _wait,
    "once": _once,
    "slow": _slow,
}


def still_true(record: Made, context: Mapping[str, str]) -> str | None:
    """Say whether the file that the context names is there."""
    return None if Path(context["effect"]).exists() else "the effect is gone"


def run_with_effect(
    inputs: Inputs, section: Section, work: Workdir, context: Mapping[str, str]
) -> Made:
    """Write a file outside of the store, too."""
    Path(context["effect"]).write_text("there")
    return run(inputs, section, work)


TINY: Stage[Made] = Stage(
    name="tiny",
    version=1,
    function=f"{__name__}:run",
    inputs=Inputs,
    section=Section,
    output=Made,
    libraries=("pydantic",),
    not_identity=("tiny.shown", "tiny.place"),
)
EFFECTIVE: Stage[Made] = Stage(
    name="effective",
    version=1,
    function=f"{__name__}:run_with_effect",
    inputs=Inputs,
    section=Section,
    output=Made,
    still_true=f"{__name__}:still_true",
)
STAGES: dict[str, Stage[Any]] = {stage.name: stage for stage in (TINY, EFFECTIVE)}


def request(
    store: Path, stage: Stage[Made] = TINY, context: dict[str, str] | None = None, **settings: Any
) -> StageRequest:
    """Build the request of one of the stages here."""
    inputs = Inputs(source=Source(digest="d1", path=Path("in.txt")))
    section = Section(tiny=Settings(**settings))
    return StageRequest(
        stage=stage.name,
        key=stage_key(key_parts(stage, inputs, section)),
        inputs=inputs.model_dump(mode="json"),
        section=section.model_dump(mode="json"),
        store=store,
        context=context or {},
    )
