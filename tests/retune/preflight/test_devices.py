"""How many devices train, and how they share the rows of a step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from retune.errors import ConfigError
from retune.preflight.devices import plan_devices, share_rows
from retune.recipe.sections import TrainingConfig


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the driver show as many GPUs."""

    def show(gpus: int) -> None:
        monkeypatch.setattr("retune.preflight.devices.list_gpu_memories", lambda: (2**34,) * gpus)

    return show


@pytest.mark.parametrize(
    ("gpus", "batch", "count"),
    [
        (0, 16, 1),  # a CPU is one
        (1, 16, 1),
        (4, 16, 4),
        (3, 16, 2),  # three cannot share 16 rows
        (5, 7, 1),  # seven rows are shared by one or seven
    ],
)
def test_auto_takes_as_many_gpus_as_divide_the_rows(
    see: Callable[[int], None], gpus: int, batch: int, count: int
) -> None:
    """Of the GPUs in sight, the most that divide the rows of a step."""
    see(gpus)
    assert plan_devices(TrainingConfig(batch_size=batch)).count == count


def test_a_number_on_a_cpu_is_that_of_processes(see: Callable[[int], None]) -> None:
    """Two devices where there is no GPU are two processes."""
    see(0)
    plan = plan_devices(TrainingConfig(batch_size=16, devices=2, sharding="fsdp"))
    assert (plan.count, plan.kind, plan.sharded) == (2, "cpu", True)
    assert plan.describe() == (
        "2 processes on the CPU, each with its part of the model (FSDP2) and 8 rows of a step in "
        "1 pass"
    )


def test_more_gpus_than_there_are_are_refused(see: Callable[[int], None]) -> None:
    """Four are asked for, and two are seen."""
    see(2)
    with pytest.raises(ConfigError, match="is 4, and this process may see 2 GPUs"):
        plan_devices(TrainingConfig(batch_size=16, devices=4))


def test_a_clusters_nodes_have_more_than_this_machine(see: Callable[[int], None]) -> None:
    """Eight are asked for where two are seen; one is trained on here, and auto as well."""
    see(2)
    training = TrainingConfig(batch_size=16, devices=8)
    plan = plan_devices(training, over_nodes=True)
    assert (plan.count, plan.kind, plan.rows_per_pass) == (8, "nodes", 2)
    assert "8 GPUs (without any, cores) of a cluster of Ray" in plan.describe()
    one = training.model_copy(update={"devices": 1})
    assert plan_devices(one, over_nodes=True).kind == "cuda"
    auto = training.model_copy(update={"devices": "auto"})
    assert plan_devices(auto, over_nodes=True).kind == "cuda"


@pytest.mark.parametrize(
    ("batch", "accumulation", "devices", "parts", "rows"),
    [
        (16, 1, 2, 1, 8),
        (16, 8, 2, 4, 2),  # eight parts of two: each device takes four of them
        (16, 2, 8, 1, 2),  # two parts of eight: eight devices take two rows each
        (12, 6, 4, 3, 1),  # 6 / gcd(6, 4) = 3 passes of 12 / (4 * 3) = 1 row
    ],
)
def test_devices_take_parts_first_and_then_rows_of_one(
    batch: int, accumulation: int, devices: int, parts: int, rows: int
) -> None:
    """The rows of all devices and passes are those of a step, and none has more at once."""
    training = TrainingConfig(batch_size=batch, gradient_accumulation=accumulation)
    plan = share_rows(training, devices, kind="cuda")
    assert (plan.parts, plan.rows_per_pass) == (parts, rows)
    assert devices * parts * rows == batch
    assert rows <= training.rows_per_pass


def test_devices_that_cannot_share_a_step_are_refused_with_numbers_that_can() -> None:
    """Sixteen rows are not shared by three; two and four are near."""
    with pytest.raises(ValueError, match=r"3 devices cannot share the 16 rows.*write 2 or 4"):
        TrainingConfig(devices=3)
