"""A training over the nodes of a cluster: what is refused, and what is heard of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retune.errors import ServiceError
from retune.preflight.devices import plan_devices
from retune.recipe.sections import TrainingConfig
from retune.spine.stage import SilentReporter
from retune.training.distributed.nodes import expect_room, follow_events, say_wait

TWO = plan_devices(TrainingConfig(batch_size=8, devices=2), over_nodes=True)


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({"CPU": 1.0, "memory": 1e9}, r"is 2, and the cluster of Ray has 1 CPUs in all.*at most 1"),
        # Where there are GPUs, they are what is counted.
        ({"CPU": 64.0, "GPU": 1.0}, "has 1 GPUs in all"),
        ({}, "has 0 CPUs in all"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused(resources: dict[str, float], told: str) -> None:
    """Ray would wait for nodes that nobody starts."""
    with pytest.raises(ServiceError, match=told):
        expect_room(TWO, resources)


def test_gpus_are_used_where_there_are_enough() -> None:
    """Two of them for two ranks; else cores."""
    assert expect_room(TWO, {"CPU": 4.0, "GPU": 2.0})
    assert not expect_room(TWO, {"CPU": 2.0})


def test_what_others_hold_is_told() -> None:
    """Of what is needed: cores do not matter where GPUs are used."""
    assert say_wait(TWO, {"CPU": 0.0, "GPU": 2.0}, on_gpus=True) == ""
    told = say_wait(TWO, {"CPU": 1.0, "GPU": 8.0}, on_gpus=False)
    assert told == "waiting for 2 CPUs of the cluster of Ray: 1 of them free now"
    assert "0 of them free" in say_wait(TWO, {}, on_gpus=True)


class Heard(SilentReporter):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.said = list[str]()

    def log(self, message: str) -> None:
        """Note it."""
        self.said.append(message)


def test_all_that_the_first_rank_writes_is_passed_on(tmp_path: Path) -> None:
    """In its order: what was there before, and the last line, written as the training ends."""
    heard = Heard()
    lines = [json.dumps({"event": "log", "message": name}) + "\n" for name in ("a", "b")]
    (tmp_path / "events").write_text(lines[0], "utf-8")
    with follow_events(heard, tmp_path), open(tmp_path / "events", "a", encoding="utf-8") as file:
        file.write(lines[1])
    assert heard.said == ["a", "b"]
