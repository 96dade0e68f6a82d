"""The owner of a training on several devices: what it lets go of, and which error it tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from retune.errors import ConfigError, Interrupted, RetuneError, StageError
from retune.inference.loaded_models import SLOT
from retune.model_records import BaseRef
from retune.preflight.devices import TRAINING_CLUSTER
from retune.recipe.sections import TrainingConfig
from retune.spine.stage import Workdir
from retune.spine.stopping import STOP
from retune.training.distributed import launching
from retune.training.distributed.rank import run_rank

TWO = TrainingConfig(batch_size=8, devices=2)


class Nothing(BaseModel):
    """Neither inputs nor settings."""


def train(_: Any, __: Any, ___: Workdir) -> Any:
    """Is not called: no rank is started here."""
    raise AssertionError


def launch(monkeypatch: pytest.MonkeyPatch, work: Workdir, ranks: Callable[[Path], None]) -> None:
    """Begin a training whose ranks are a function of their folder, and then fail."""

    def start(*arguments: str) -> None:
        ranks(Path(arguments[3]))
        failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file="")
        raise ChildFailedError("rank", {0: failure})

    monkeypatch.setattr(launching, "elastic_launch", lambda *_: start)
    launching.train_on_devices(train, TWO, Nothing(), Nothing(), work)


def failed(rank: int, time: float, kind: str, message: str) -> dict[str, Any]:
    """Return what a rank leaves that failed."""
    return {"rank": rank, "time": time, "type": kind, "message": message, "traceback": ""}


def write(folder: Path, *outcomes: dict[str, Any]) -> None:
    for each in outcomes:
        (folder / f"outcome-{each['rank']}.json").write_text(json.dumps(each), "utf-8")


def test_the_scored_model_is_let_go_of_before_ranks_start(
    base: BaseRef, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks have slots of their own: only the owner can empty its one."""
    SLOT.get(base.as_scored())
    held: list[bool] = []
    with pytest.raises(RetuneError):
        launch(monkeypatch, work, lambda _: held.append(SLOT._loaded is not None))
    assert held == [False]


def test_a_stop_is_told_where_ranks_write_on(
    work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their folder cannot be removed then; the next try removes it."""
    (work.scratch / "retune-ranks-old" / "ray").mkdir(parents=True)
    (work.scratch / "checkpoints").mkdir()
    left: list[list[str]] = []

    def stop(_: Any, folder: Path, *__: Any) -> None:
        left.append(sorted(path.name for path in work.scratch.iterdir()))
        assert folder.parent == work.scratch

        def busy(*_: Any, **__: Any) -> None:
            raise OSError("Directory not empty")

        monkeypatch.setattr("os.rmdir", busy)
        raise Interrupted("stopped")

    monkeypatch.setattr(launching, "launch_on_nodes", stop)
    there = replace(work, context={TRAINING_CLUSTER: "head:6379"})
    with pytest.raises(Interrupted):
        launching.train_on_devices(train, TWO, Nothing(), Nothing(), there)
    [names] = left
    assert "checkpoints" in names and "retune-ranks-old" not in names


def test_the_first_error_is_told(work: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second rank had none of its memory left, and the first one no peer after that."""
    lost = failed(0, 12.5, "RuntimeError", "Connection closed by peer")
    cause = failed(1, 12.0, "OutOfMemoryError", "tried to allocate 2 GiB")
    with pytest.raises(StageError, match="rank 1: OutOfMemoryError: tried to allocate 2 GiB"):
        launch(monkeypatch, work, lambda folder: write(folder, lost, cause))


def test_an_error_for_the_user_comes_before_all_others(
    work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was first: a stage's error says less than that of a wrong recipe."""
    lost = failed(0, 11.0, "RuntimeError", "Connection closed by peer")
    wrong = failed(1, 12.0, "ConfigError", "training.optimizer: is unknown")
    with pytest.raises(ConfigError, match=r"training\.optimizer"):
        launch(monkeypatch, work, lambda folder: write(folder, lost, wrong))


def test_a_rank_says_when_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without a request: the error stands in the file of its outcome with its time."""
    monkeypatch.setattr(STOP, "install", lambda: None)
    monkeypatch.setattr("time.time", lambda: 7.5)
    assert run_rank(tmp_path, 1) == 1
    outcome = json.loads((tmp_path / "outcome-1.json").read_text("utf-8"))
    assert (outcome["rank"], outcome["time"], outcome["type"]) == (1, 7.5, "FileNotFoundError")
