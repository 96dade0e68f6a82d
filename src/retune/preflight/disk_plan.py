"""What the stages of a run will write, against what the store's disk has free. Needs no torch.

Counted is what surely is written: weights, checkpoints and the optimizer's state. Rows, reports and
tokenizers come beside it, so that a run which fits by this may still fill a disk, and one that does
not fit never goes through.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from retune.errors import ArtifactError
from retune.model_records import BaseRef
from retune.modeling.memory.memory_estimate import FurtherEstimates, MemoryEstimate
from retune.modeling.memory.stage_sizes import StageSizes
from retune.pages.numbers import show_bytes
from retune.preflight.memory_plan import MERGING
from retune.recipe.recipe import Recipe
from retune.recipe.sections import TrainingConfig
from retune.records import Record

_CHECKPOINTS = 3
"""Two are kept, and the older one goes when the next is whole."""
_DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


class StageWrites(Record):
    """What one stage writes, in bytes."""

    stage: str
    stays: int
    """Its artifact; for MLflow the copy of a release."""
    passing: int = 0
    """What lies beside it until the stage has ended: checkpoints, and the best weights so far."""
    what: str = ""
    """What that is, for a person."""


class DiskPlan(Record):
    """What the stages that have to run will write to the store's disk, in their order."""

    folder: Path
    free_bytes: int
    stages: tuple[StageWrites, ...]
    unknown: tuple[str, ...] = ()
    """Stages of which it is not known; they count as nothing."""

    @property
    def needed_bytes(self) -> int:
        """Return the most that is taken at once: what stays of earlier stages, and one at work."""
        stays, most = 0, 0
        for each in self.stages:
            most = max(most, stays + each.passing, stays + each.stays)
            stays += each.stays
        return most

    @property
    def fits(self) -> bool:
        """Whether that is free."""
        return self.needed_bytes <= self.free_bytes


def plan_disk(
    recipe: Recipe,
    base: BaseRef,
    to_run: Mapping[str, int],
    root: Path,
    *,
    steps: int | None,
    training: MemoryEstimate | None,
    further: FurtherEstimates | None,
    sizes: StageSizes | None,
) -> DiskPlan:
    """Count what a run will write.

    Args:
        recipe: Which stages there are, and how often they write checkpoints.
        base: The base.
        to_run: Bytes that lie in the work folder already, such as checkpoints of a training that
            was killed, by the name of each stage that the store does not have.
        root: The store's folder.
        steps: Optimizer steps of the training; None where they are not known.
        training: What the training holds; None where it was not counted.
        further: The same of preferences and rewards.
        sizes: The model's sizes; None where they were not counted.

    Returns:
        The plan, with what is free now.
    """
    counted = dict(_count(recipe, base, steps, training, further, sizes))
    stages = [
        each.model_copy(update={"passing": max(0, each.passing - to_run[name])})
        for name, each in counted.items()
        if each is not None and name in to_run
    ]
    unknown = [name for name, each in counted.items() if each is None and name in to_run]
    merged = next((each for each in stages if each.stage in MERGING), None)
    if merged is not None and not can_link(root):
        copied = "MLflow's copy: this file system has no hard links"
        stages.append(StageWrites(stage="register_model", stays=merged.stays, what=copied))
    free = shutil.disk_usage(_existing(root)).free
    return DiskPlan(folder=root, free_bytes=free, stages=tuple(stages), unknown=tuple(unknown))


def _count(
    recipe: Recipe,
    base: BaseRef,
    steps: int | None,
    training: MemoryEstimate | None,
    further: FurtherEstimates | None,
    sizes: StageSizes | None,
) -> Iterator[tuple[str, StageWrites | None]]:
    """Yield stages in the order of a run; None for one of which it is not known."""
    known = sizes if sizes is not None and sizes.checked is not None else None
    if recipe.quantization.kind == "nf4":
        written = known.written.weights if known and known.written else None
        yield "quantize_model", _weights("quantize_model", written, "weights in 4 bits")
    name = "train_adapter" if recipe.head is None else "train_classifier"
    yield name, _training(name, training, recipe.training, _count_checkpoints(recipe, steps))
    if recipe.dpo is not None:
        memory = further.preferences if further else None
        yield "train_preferences", _training("train_preferences", memory, None, 1)
    if recipe.grpo is not None:
        memory = further.rewards if further else None
        yield "train_rewards", _training("train_rewards", memory, None, 1)
    # A head lies in the place of the vocabulary's projection, whose size is in these figures.
    whole = known.checked.weights if known and known.checked and recipe.head is None else None
    if whole is not None:
        whole = whole * _merged_bytes(recipe, base.folder) // _DTYPE_BYTES["float32"]
    yield "merge_adapter", _weights("merge_adapter", whole, "merged weights")
    # The base's own weights are linked where they lie on the same disk.
    adapter = training.adapter if training else None
    yield "bundle_adapter", _weights("bundle_adapter", adapter, "adapter; the base is linked")


def _weights(stage: str, size: int | None, what: str) -> StageWrites | None:
    return None if size is None else StageWrites(stage=stage, stays=size, what=what)


def _training(
    stage: str, memory: MemoryEstimate | None, training: TrainingConfig | None, checkpoints: int
) -> StageWrites | None:
    if memory is None:
        return None
    one = memory.adapter + memory.optimizer
    best = training is not None and training.keep_best and bool(training.evaluations)
    what = f"{checkpoints} checkpoints of {show_bytes(one)} at most" if checkpoints > 1 else ""
    return StageWrites(
        stage=stage,
        stays=memory.adapter,
        passing=checkpoints * one + best * memory.adapter,
        what=what or f"a checkpoint of {show_bytes(one)}",
    )


def _count_checkpoints(recipe: Recipe, steps: int | None) -> int:
    """Return how many a training has at once, at most; as `trainer_arguments` lets it save them."""
    if steps is None:
        return 1
    every = math.ceil(steps / max(1, recipe.training.evaluations))
    every = recipe.training.checkpoint_every_steps or max(1, every)
    return min(_CHECKPOINTS, max(1, steps // every))


def _merged_bytes(recipe: Recipe, base: Path) -> int:
    """Return the bytes of one merged weight: in `merge.dtype`, else as the base is stored."""
    if recipe.merge.dtype is not None:
        return _DTYPE_BYTES[recipe.merge.dtype]
    config = json.loads((base / "config.json").read_text("utf-8"))
    inner = config.get("text_config") or {}
    for given in (config, inner):
        if (named := given.get("dtype") or given.get("torch_dtype")) in _DTYPE_BYTES:
            return _DTYPE_BYTES[named]
    return _DTYPE_BYTES["float32"]


def can_link(folder: Path) -> bool:
    """Tell whether a file system lets a file have a second name, by giving it one.

    Args:
        folder: On it; need not exist.
    """
    with tempfile.TemporaryDirectory(dir=_existing(folder), prefix=".retune-") as place:
        path = Path(place) / "file"
        path.touch()
        try:
            os.link(path, path.with_name("link"))
        except OSError:
            return False
    return True


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def say_disk(plan: DiskPlan) -> str:
    """Say in one sentence what will be written, and what is free."""
    what = show_bytes(plan.needed_bytes) if plan.stages else "no weights"
    unknown = f" ({', '.join(plan.unknown)} not counted)" if plan.unknown else ""
    return f"{what} to write{unknown}, {show_bytes(plan.free_bytes)} free below {plan.folder}"


def refuse_full_disk(plan: DiskPlan) -> None:
    """Refuse a run that surely fills the disk.

    Args:
        plan: What will be written.

    Raises:
        ArtifactError: More is needed at once than is free.
    """
    if plan.fits:
        return
    parts = [
        f"{each.stage} {show_bytes(max(each.stays, each.passing))} ({each.what})"
        for each in plan.stages
    ]
    raise ArtifactError(
        f"{plan.folder}: {show_bytes(plan.free_bytes)} free, but a run of this recipe needs at "
        f"least {show_bytes(plan.needed_bytes)} at once: {'; '.join(parts)}. Free some (`retune "
        "gc` says what nothing refers to), or set store.folder to a larger disk."
    )
