"""Trials that a cluster runs: how many at once, in which order they are told, and what it lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Completed, Crashed

from retune.errors import StageDied
from retune.recipe.loading import load_recipe
from retune.trials.lines import describe_trial
from retune.trials.results import TrialResult
from retune.trials.trials import Trial, TrialRequest
from tasks.trials.clusters import Cluster
from tasks.trials.trial_runners import spread_trials
from tests.tasks.conftest import write_recipe


@dataclass
class Sent:
    """A trial that was sent to a cluster, and how it will end."""

    state: State[Any]

    def wait(self) -> None:
        """Wait for nothing: it has ended."""


class LastFirst:
    """A cluster whose trials end in the opposite order, one after the other.

    Args:
        lost: Names of those whose workers are lost.
    """

    def __init__(self, lost: Sequence[str] = ()) -> None:
        self._lost = lost
        self.running: list[int] = []

    def submit(self, _: Any, parameters: dict[str, Any]) -> Sent:
        """Take a trial."""
        request = parameters["request"]
        if request.trial.name in self._lost:
            return Sent(Crashed(message="the node is gone"))
        recipe = load_recipe(request.recipe).recipe
        found = describe_trial(request.trial, recipe, state="stopped", reason=str(request.threads))
        return Sent(Completed(data=found))

    def unfinished(self, futures: Sequence[Any]) -> Sequence[Any]:
        """End the last one."""
        self.running.append(len(futures))
        return futures[:-1]


def spread(cluster: Any, folder: Path, *names: str, divides: bool = True) -> list[TrialResult]:
    """Run trials on a cluster, two at once."""
    recipe = write_recipe(folder)
    requests = [
        TrialRequest(
            recipe=recipe,
            trial=Trial(name=name, overrides=()),
            comparison="digest",
            parent_run="",
            stop_hopeless=False,
        )
        for name in names
    ]
    told: list[TrialResult] = []
    opened = Cluster(cluster, 2, cluster.unfinished, divides=divides)
    found = spread_trials(None, requests, opened, told.append)  # type: ignore[arg-type]
    assert told == found
    return found


def test_no_more_run_at_once_than_were_asked_for(tmp_path: Path) -> None:
    """Four trials on a cluster that would take them all; they are told in the order given."""
    cluster = LastFirst()
    found = spread(cluster, tmp_path, "a", "b", "c", "d")
    assert cluster.running == [2, 2, 2, 1]
    assert [each.name for each in found] == ["a", "b", "c", "d"]


def test_one_that_the_cluster_lost_is_a_line_like_other_failures(tmp_path: Path) -> None:
    """The others go on, and the reason says what to do."""
    found = spread(LastFirst(["b"]), tmp_path, "a", "b", "c")
    assert [each.state for each in found] == ["stopped", "failed", "stopped"]
    assert found[1].error == StageDied.__name__
    assert "the node is gone" in found[1].reason and "run again to go on" in found[1].reason


@pytest.mark.parametrize(("divides", "threads"), [(True, "None"), (False, "2")])
def test_cores_are_shared_out_where_the_cluster_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, divides: bool, threads: str
) -> None:
    """Four cores for two at once: two each; Ray counts them by itself."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert spread(LastFirst(), tmp_path, "a", divides=divides)[0].reason == threads
