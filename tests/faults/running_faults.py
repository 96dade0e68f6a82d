"""Runs one fault of the matrix: what goes wrong, then the same again, and what is left of each."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from retune.digests import digest_json
from retune.spine.store import Store
from tests.faults.faulty_process import PLAN
from tests.flows.conftest import copy_project, environment
from tests.preloading import run_command
from tests.waiting import GUARD_SECONDS

Again = Literal["same", "reused", "own"]


@dataclass(frozen=True)
class Fault:
    """One line of the matrix: what goes wrong, and how it has to end.

    Attributes:
        name: What goes wrong, and where.
        plan: What happens in the process that computes; see `faulty_process`. In its texts
            ``{project}`` and ``{key}`` are those of the run.
        stage: Computed by hand, from its request; None for a whole run of the recipe.
        of: A part of its request, where it ran for several.
        gone: Stages whose artifacts are taken away before, so that there is something to compute.
        before: What else is done to the project before.
        prepare: The same, given the stage key too.
        beside: What is done while it runs, in the test's own process, and ends with the block; may
            give variables of the environment and settings of the recipe, which have a dot.
        sound: Looks at the project once both tries have ended.
        code: Exit code; negative for the signal that ended it.
        says: A part of what it says then.
        first: Whether the stage's artifact is there afterwards.
        lifted: What ends the fault, before the next try.
        again: How the next try ends: with the digests of an undisturbed run, having computed
            nothing, or with some of its own.
        told: A part of what the next try says.
        settings: Overrides of the recipe, in both tries.
        needs: Whether this machine lets it happen.
        often: Whether it is among the few that every run of the tests has.
    """

    name: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    stage: str | None = None
    of: str = ""
    gone: tuple[str, ...] = ()
    before: Callable[[Path], object] = lambda _: None
    prepare: Callable[[Path, str], object] = lambda _, __: None
    beside: Callable[[Path, str], AbstractContextManager[Mapping[str, str] | None]] | None = None
    sound: Callable[[Path], object] = lambda _: None
    code: int = 0
    says: str = ""
    first: bool = False
    lifted: Callable[[Path], object] = lambda _: None
    again: Again = "same"
    told: str = ""
    settings: tuple[str, ...] = ()
    needs: Callable[[], bool] = lambda: True
    often: bool = False


@dataclass(frozen=True)
class Row:
    """What came of a fault.

    Attributes:
        fault: Its name.
        code: Exit code of the try with it.
        seconds: Of that try.
        again_seconds: Of the next one.
        again: Stages that the next try computed.
        kept: Artifacts that were whole once the fault had ended, of so many that were before.
    """

    fault: str
    code: int
    seconds: float
    again_seconds: float
    again: tuple[str, ...]
    kept: tuple[int, int]

    def as_cells(self) -> tuple[str, ...]:
        """Return it as a line of a table."""
        computed = ", ".join(self.again) if len(self.again) < 4 else f"{len(self.again)} stages"
        return (
            self.fault,
            str(self.code),
            f"{self.kept[0]} of {self.kept[1]}",
            computed or "nothing",
            f"{self.seconds:.1f}",
            f"{self.again_seconds:.1f}",
        )


def restoring(file: str, instead: bytes | None = None) -> dict[str, Callable[[Path], object]]:
    """Keep a file before a fault, and put it back afterwards.

    Args:
        file: In the project.
        instead: What is written in its place meanwhile; None leaves it to the fault.
    """

    def keep(project: Path) -> None:
        shutil.copy2(project / file, project / "kept")
        if instead is not None:
            (project / file).write_bytes(instead)

    return {"before": keep, "lifted": lambda project: shutil.move(project / "kept", project / file)}


HEADER = ("fault", "code", "kept whole", "computed again", "seconds", "again")


def digests_of(store: Store) -> dict[str, str]:
    """Return the digest of each artifact's record by stage and key; those that are whole."""
    found = {}
    for stage, key in store.artifacts():
        if store.damage(stage, key, afresh=True) is None:
            record = store.manifest(stage, key).record
            found[f"{stage}/{key}"] = record.get("digest") or digest_json(record)
    return found


class Bench:
    """A finished project, and copies of it in which something goes wrong.

    Args:
        recipe: Of the finished project.
        folder: Where copies lie.
    """

    def __init__(self, recipe: Path, folder: Path) -> None:
        self._source, self._folder = recipe.parent, folder
        self.undisturbed = digests_of(Store(self._source / ".retune"))

    def run(self, fault: Fault) -> Row:
        """Have a fault happen, and hold what comes of it against what has to.

        Raises:
            AssertionError: It ends otherwise.
        """
        project = self._folder / "project"
        copy_project(self._source, project)
        try:
            return _Case(self, fault, project).run()
        finally:
            shutil.rmtree(project)

    def asked(self, fault: Fault) -> tuple[str, str] | None:
        """Return stage and key of what a fault's stage is asked."""
        if fault.stage is None:
            return None
        requests = sorted((self._source / ".retune" / "requests" / fault.stage).glob("*.json"))
        return fault.stage, next(p.stem for p in requests if fault.of in p.read_text("utf-8"))

    def bring(self, project: Path) -> None:
        """Have the requests of a copy name the copy's folders."""
        for path in (project / ".retune" / "requests").rglob("*.json"):
            path.write_text(path.read_text("utf-8").replace(str(self._source), str(project)))


class _Case:
    """A fault in its copy of the project."""

    def __init__(self, bench: Bench, fault: Fault, project: Path) -> None:
        self.bench, self.fault, self.project = bench, fault, project
        self.store = Store(project / ".retune")
        self.asked = bench.asked(fault)

    def run(self) -> Row:
        fault = self.fault
        self.bench.bring(self.project)
        for stage in fault.gone:
            shutil.rmtree(self.store.root / stage)
        if self.asked is not None and not fault.gone:
            shutil.rmtree(self.store.folder(*self.asked))
        before = digests_of(self.store)
        fault.before(self.project)
        fault.prepare(self.project, self.asked[1] if self.asked else "")

        code, said, seconds = self._try(fault.plan, beside=fault.beside)
        assert code == fault.code, f"exit code {code}\n{said[-3000:]}"
        flat = " ".join(said.split())
        assert fault.says in flat, flat[-3000:]
        assert "Traceback" not in said and "a bug of retune" not in said, said[-3000:]
        fault.lifted(self.project)
        after = digests_of(self.store)
        kept = sum(after.get(name) == digest for name, digest in before.items())
        if self.asked is not None:
            assert ("/".join(self.asked) in after) == fault.first

        code, said, again_seconds = self._try({})
        assert code == 0, said[-3000:]
        assert fault.told in " ".join(said.split()), said[-3000:]
        final = digests_of(self.store)
        if fault.again != "own":
            differing = [
                name
                for name in self.bench.undisturbed
                if final.get(name) != self.bench.undisturbed[name]
            ]
            assert not differing, differing
        left = [str(path) for path in self.store.root.glob("*/*.work")]
        assert not left, left
        fault.sound(self.project)
        computed = tuple(sorted({name.partition("/")[0] for name in final if name not in after}))
        if fault.again == "reused":
            assert not computed, computed
        return Row(fault.name, fault.code, seconds, again_seconds, computed, (kept, len(before)))

    def _try(self, plan: Mapping[str, Any], *, beside: Any = None) -> tuple[int, str, float]:
        variables, key = self._environment(), self.asked[1] if self.asked else ""
        text = json.dumps({"spent": str(self.project / "spent"), **plan})
        text = text.replace("{project}", str(self.project))
        text = text.replace("{key}", key)
        started = time.monotonic()
        with beside(self.project, key) if beside else nullcontext() as changed:
            given = [f"{name}={value}" for name, value in (changed or {}).items() if "." in name]
            done = run_command(
                "tests.faults.faulty_process",
                self._command(*self.fault.settings, *given),
                folder=self.project,
                environment={
                    **variables,
                    **{name: value for name, value in (changed or {}).items() if "." not in name},
                    PLAN: text,
                },
                timeout=GUARD_SECONDS,
            )
        return done.returncode, done.stdout + done.stderr, time.monotonic() - started

    def _command(self, *settings: str) -> list[str]:
        if self.asked is not None:
            stage, key = self.asked
            request = self.store.root / "requests" / stage / f"{key}.json"
            return ["retune.stage", stage, str(request)]
        overrides = [part for each in settings for part in ("--set", each)]
        return ["retune.cli", "run", str(self.project / "recipe.yaml"), "--json", *overrides]

    def _environment(self) -> dict[str, str]:
        if self.asked is not None:
            kept = {
                k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))
            }
            return {**kept, "HF_HUB_OFFLINE": "1", "COLUMNS": "140"}
        return environment(self.project)
