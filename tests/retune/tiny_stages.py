"""A table of tiny stages for the tests of the machinery; none needs torch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

from pydantic import BaseModel

from retune.digest_memory import LARGE_BYTES
from retune.digests import digest_folder
from retune.errors import DataError
from retune.hard_links import link_or_copy
from retune.records import ArtifactRecord, Record, Source
from retune.spine.stage import (
    Settings,
    Stage,
    StageRequest,
    Workdir,
    key_parts,
    reads,
    stage,
    stage_key,
)
from tests.waiting import wait_until


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


class TinyConfig(Record):
    """A section of a recipe; nothing reads what is shown."""

    act: str = "work"
    number: int = 1
    shown: int = 3
    extra: int | None = None
    runtime: Runtime = Runtime()


class TinySettings(Settings):
    """What the stages here read of it."""

    act: Annotated[str, reads("tiny.act")]
    number: Annotated[int, reads("tiny.number")]
    extra: Annotated[int | None, reads("tiny.extra")]
    workers: Annotated[int, reads("tiny.runtime.workers")]


def still_true(record: Made, context: Mapping[str, str]) -> str | None:
    """Say whether the file that the context names is there."""
    return None if Path(context["effect"]).exists() else "the effect is gone"


@stage(Inputs, version=1, libraries=("pydantic",))
def tiny(inputs: Inputs, settings: TinySettings, work: Workdir) -> Made:
    """Do what the settings say, then write one file."""
    return run(settings, work)


@stage(Inputs, version=1, still_true=still_true)
def effective(inputs: Inputs, settings: TinySettings, work: Workdir) -> Made:
    """Write a file outside of the store, too."""
    Path(work.context["effect"]).write_text("there")
    return run(settings, work)


STAGES = {each.name: each for each in (tiny, effective)}


def run(settings: TinySettings, work: Workdir) -> Made:
    """Act, and write the number."""
    number = settings.number
    with (work.scratch / "starts.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    ACTS[settings.act](work)
    (work.artifact / "sub").mkdir()
    (work.artifact / "sub" / "number.json").write_text(json.dumps(number))
    return Made(digest=f"{number:064d}", folder=work.artifact, number=number)


def _report(work: Workdir) -> None:
    work.reporter.log("começa")
    for done in range(1, 4):
        work.reporter.progress("parts", done, 3)
        work.reporter.metric("loss", 1 / done, done)


def _fail(work: Workdir) -> None:
    raise DataError("linha 7: não é texto")


def _crash(work: Workdir) -> None:
    raise ZeroDivisionError("by hand")


def _noise(work: Workdir) -> None:
    print('{"event": "done", "record": {}}', flush=True)
    os.write(1, b"\xff\xfe not text\n" * 50_000)
    os.write(2, b"last words\n")


def _wait(work: Workdir) -> None:
    work.reporter.progress("waiting", 0, 1)
    # Whoever kills this process waits for the file, and looks for the line in the log.
    print("about to wait", flush=True)
    Path(work.context["place"]).write_text(str(os.getpid()))
    time.sleep(3600)


def _once(work: Workdir) -> None:
    """Wait for ever the first time, and finish the second."""
    if len((work.scratch / "starts.txt").read_text().splitlines()) == 1:
        _wait(work)


def _slow(work: Workdir, seconds: float = 1.0) -> None:
    with Path(work.context["place"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)


def _held(work: Workdir) -> None:
    """Compute until somebody says that it is enough."""
    place = Path(work.context["place"])
    with place.open("a") as file:
        file.write(f"{os.getpid()}\n")
    wait_until(place.with_suffix(".enough").exists, what="a word that it is enough")


def _large(work: Workdir) -> None:
    """Write weights as a training does: linked from its last checkpoint, and digested."""
    checkpoint = work.scratch / "weights.safetensors"
    checkpoint.write_bytes(b"\0" * LARGE_BYTES)
    link_or_copy(checkpoint, work.artifact / checkpoint.name)
    digest_folder(work.artifact)


ACTS = {
    "work": lambda work: None,
    "report": _report,
    "fail": _fail,
    "crash": _crash,
    "noise": _noise,
    "wait": _wait,
    "once": _once,
    "slow": _slow,
    "held": _held,
    "large": _large,
    "slower": lambda work: _slow(work, 5.0),
}


def settings_of(**config: Any) -> TinySettings:
    """Take the settings out of a section."""
    return TinySettings.of(SimpleNamespace(tiny=TinyConfig(**config)))


def request(
    store: Path | str,
    stage: Stage[..., Made] = tiny,
    context: dict[str, str] | None = None,
    place: str = "here",
    **config: Any,
) -> StageRequest:
    """Build the request of one of the stages here."""
    inputs = Inputs(source=Source(digest="d1", path=Path("in.txt")))
    settings = settings_of(**config)
    return StageRequest(
        stage=stage.name,
        key=stage_key(key_parts(stage, inputs, settings)),
        inputs=inputs.model_dump(mode="json"),
        settings=settings.by_name(),
        store=str(store),
        context={"place": place} | (context or {}),
    )
