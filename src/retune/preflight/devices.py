"""On how many devices a training runs, known without loading torch."""

from __future__ import annotations

from dataclasses import dataclass

from retune.errors import ConfigError
from retune.machine import list_gpu_memories
from retune.recipe.recipe import Recipe
from retune.recipe.sections import TrainingConfig

TRAINING_CLUSTER = "training_cluster"
"""Among what a stage is given beside its inputs: address of the cluster that it may spread over."""


@dataclass(frozen=True)
class DevicePlan:
    """How the rows of a step are shared by devices.

    Attributes:
        count: Devices that train together.
        kind: cpu, cuda, or nodes for those of a cluster; on a CPU a device is a process.
        parts: Passes that each device makes for its rows of one step.
        rows_per_pass: Rows that go through one device at once.
        sharded: Whether the model is parted over them.
        seen: GPUs that this process may see.
    """

    count: int
    kind: str
    parts: int
    rows_per_pass: int
    sharded: bool
    seen: int = 0

    @property
    def here(self) -> int:
        """How many of them this machine's memory is counted for.

        Of a cluster's as many as this machine shows GPUs, at least one: where Ray starts the others
        is not known before.
        """
        return self.count if self.kind != "nodes" else min(self.count, max(1, self.seen))

    def describe(self) -> str:
        """Say it in a line, as `retune check` does."""
        if self.count == 1:
            return {"cuda": "1 GPU", "cpu": "1 process on the CPU"}[self.kind]
        names = {
            "cuda": "GPUs",
            "cpu": "processes on the CPU",
            "nodes": "GPUs (without any, cores) of a cluster of Ray",
        }[self.kind]
        holds = "its part of the model (FSDP2)" if self.sharded else "the whole model"
        passes = "1 pass" if self.parts == 1 else f"{self.parts} passes"
        return (
            f"{self.count} {names}, each with {holds} and {self.rows_per_pass * self.parts} rows "
            f"of a step in {passes}"
        )


def plan_recipe_devices(recipe: Recipe) -> DevicePlan:
    """Choose the devices of a recipe's training: of this machine, or of the cluster that it names.

    Args:
        recipe: The recipe.

    Returns:
        As `plan_devices`.

    Raises:
        ConfigError: As `plan_devices`.
    """
    return plan_devices(recipe.training, over_nodes=recipe.training_cluster is not None)


def plan_devices(training: TrainingConfig, *, over_nodes: bool = False) -> DevicePlan:
    """Choose the devices of a training.

    Args:
        training: The recipe's section, or that of a further training.
        over_nodes: Whether several devices are those of a cluster.

    Returns:
        The plan; with `devices: auto` as many GPUs as divide the rows of a step.

    Raises:
        ConfigError: There are not as many GPUs, or they cannot share the rows of a step equally.
    """
    seen = len(list_gpu_memories())
    wanted = training.devices
    if wanted == "auto":
        fitting = [count for count in range(1, max(1, seen) + 1) if training.divides(count)]
        count = max(fitting, default=1)
    else:
        over_nodes = over_nodes and wanted > 1
        _refuse_unfit(training, wanted, 0 if over_nodes else seen)
        if over_nodes:
            return share_rows(training, wanted, kind="nodes", seen=seen)
        count = wanted
    return share_rows(training, count, kind="cuda" if seen else "cpu", seen=seen)


def share_rows(training: TrainingConfig, count: int, *, kind: str, seen: int = 0) -> DevicePlan:
    """Share the rows of a step by devices.

    Args:
        training: The recipe's section, or that of a further training.
        count: Devices; they divide the rows.
        kind: cpu or cuda.
        seen: GPUs that this process may see.

    Returns:
        The plan.
    """
    parts = training.parts_on(count)
    return DevicePlan(
        count=count,
        kind=kind,
        parts=parts,
        rows_per_pass=training.batch_size // (count * parts),
        sharded=training.sharding == "fsdp" and count > 1,
        seen=seen,
    )


def _refuse_unfit(training: TrainingConfig, count: int, seen: int) -> None:
    if seen and count > seen:
        raise ConfigError(
            f"training.devices: is {count}, and this process may see {seen} "
            f"GPU{'s' if seen > 1 else ''}. Write auto or at most {seen}, or widen "
            "CUDA_VISIBLE_DEVICES."
        )
    if not training.divides(count):
        raise ConfigError(
            f"training.devices: {count} devices cannot share the {training.batch_size} rows of a "
            "step equally. Write a number of devices that divides them, or another batch size."
        )
