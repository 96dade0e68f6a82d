"""Trials on a cluster of Ray: the keys and figures of one process, also where a node is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ServiceError
from retune.model_records import BaseRef, ModelRef
from retune.preflight.devices import TRAINING_CLUSTER
from retune.records import ChatRef
from retune.spine.stage import SilentReporter, Workdir
from retune.training.resource_record import read_measured
from retune.training.stages import TrainInputs
from retune.training.stages import train_adapter as stage
from retune.training.supervised import train_adapter
from tasks.trials.clusters import open_ray
from tests.flows.conftest import copy_project, environment, last_json, retune, write_project
from tests.making import make_workdir
from tests.preloading import start_command
from tests.ray_cluster import RayCluster, holder, start_ray
from tests.retune.training.distributed.comparing import (
    CLOSE,
    assert_same_weights,
    curves_of,
    section,
)
from tests.waiting import GUARD_SECONDS, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.service]

TRIALS = ("--grid", "training.learning_rate=1e-2,2e-2", "--json")
LONGER = ("--set", "training.max_steps=24", "--set", "training.checkpoint_every_steps=2")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Two nodes of one core."""
    with start_ray() as started:
        yield started


class RecordsSteps(SilentReporter):
    """Remembers how far a training said that it was."""

    def __init__(self) -> None:
        self.done = list[int]()

    def progress(self, what: str, done: int, total: int) -> None:
        """Note a step."""
        if what == "steps":
            self.done.append(done)


def figures(told: dict[str, Any]) -> dict[str, Any]:
    """Return each trial's end, the keys of its stages and all its figures, by its name."""
    found = {}
    for each in told["trials"]:
        result = each["result"]
        reports = result["scores"]["reports"]
        found[result["name"]] = {
            "state": result["state"],
            "training": result["training_key"],
            "curve": result["curve"],
            "keys": {kind: Path(report["folder"]).name for kind, report in reports.items()},
            "metrics": {kind: report["metrics"] for kind, report in reports.items()},
        }
    return found


def test_another_release_of_ray_is_refused(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are named, with exit code 7, before anything is begun."""
    import ray

    monkeypatch.setattr(ray, "__version__", "2.1.0")
    with (
        pytest.raises(ServiceError, match=r"Version mismatch.*Ray: 2\.1\.0") as told,
        open_ray(cluster.address, 2),
    ):
        raise AssertionError
    assert told.value.exit_code == 7


def test_two_nodes_learn_what_one_process_learns(
    cluster: RayCluster,
    chats: ChatRef,
    base: BaseRef,
    quantize: Callable[[str], ModelRef],
    tmp_path: Path,
) -> None:
    """One training, a rank on each node: losses, gradient norms and weights are equal to 1e-5.

    What the first rank says reaches the process that asked for it.
    """
    inputs = TrainInputs(
        train=chats.side("train"),
        validation=chats.side("validation"),
        base=base,
        model=quantize("none"),
    )
    one = train_adapter(inputs, section(), make_workdir(tmp_path / "one"))
    made, steps = make_workdir(tmp_path / "two"), RecordsSteps()
    work = Workdir(made.artifact, made.scratch, steps, {TRAINING_CLUSTER: cluster.address})
    two = stage.function(inputs, section(devices=2), work)
    assert curves_of(two.folder) == pytest.approx(curves_of(one.folder), abs=CLOSE, rel=1e-9)
    assert_same_weights(two.folder, one.folder)
    measured = read_measured(two.folder)
    assert measured is not None and measured.devices == 2
    assert steps.done[-1] == one.steps


def test_a_lost_node_changes_neither_keys_nor_figures(cluster: RayCluster, tmp_path: Path) -> None:
    """Two trials at once; the node of one is lost in the middle of its training.

    It goes on from its checkpoint on the node that is left, and both are what they are without Ray.
    """
    recipe = write_project(tmp_path / "here")
    copy_project(recipe.parent, tmp_path / "there")
    here = last_json(retune(recipe, *TRIALS, *LONGER, command="sweep"))

    there = tmp_path / "there" / "recipe.yaml"
    ray = ("--set", "runner.kind=ray", "--set", f"runner.address={cluster.address}")
    running = start_command(
        "retune.cli",
        ["sweep", str(there), *TRIALS, *LONGER, *ray],
        folder=there.parent,
        environment=environment(there.parent),
    )
    store = there.parent / ".retune"

    def trains_there() -> bool:
        assert running.process.poll() is None, running.finish(1).stderr[-3000:]
        try:
            sealed = list(store.glob("train_adapter/*.work/scratch/checkpoints/*/sealed.json"))
        except FileNotFoundError:  # A checkpoint made room for the next one.
            return False
        holders = {holder(store / "locks" / f"{path.parents[3].stem}.lock") for path in sealed}
        return not holders.isdisjoint(process.pid for process in cluster.second_node())

    wait_until(trains_there, what="a checkpoint on the second node")
    cluster.lose_second_node()
    told = last_json(running.finish(GUARD_SECONDS))
    assert figures(told) == figures(here)
    assert {each["state"] for each in figures(told).values()} == {"finished"}
    manifests = [
        json.loads(path.read_bytes()) for path in store.glob("train_adapter/*/manifest.json")
    ]
    resumed = [each["record"]["resumed_from_step"] for each in manifests]
    assert len(resumed) == 2 and max(resumed) > 0
