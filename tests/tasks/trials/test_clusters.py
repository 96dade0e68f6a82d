"""What a trial is given of a cluster, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.trials.clusters import share_of


def node(alive: bool = True, **resources: float) -> dict[str, Any]:
    """Describe a node as Ray does."""
    return {"Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "at_once", "share"),
    [
        # 2 nodes of 8 for 4 trials: 16 / 4.
        ([node(CPU=8.0), node(CPU=8.0)], 4, {"num_cpus": 4}),
        # One trial alone: no node has 16.
        ([node(CPU=8.0), node(CPU=8.0)], 1, {"num_cpus": 8}),
        ([node(CPU=2.0)], 5, {"num_cpus": 1}),
        ([node(CPU=8.0, GPU=2.0), node(alive=False, CPU=8.0)], 2, {"num_cpus": 4, "num_gpus": 1}),
        # A head that computes nothing.
        ([node(memory=1e9), node(CPU=1.0), node(CPU=1.0)], 2, {"num_cpus": 1}),
    ],
)
def test_cores_are_shared_out(nodes: list[Any], at_once: int, share: dict[str, int]) -> None:
    """Each trial fits a node, and has an accelerator where there are any."""
    assert share_of(nodes, at_once) == share
