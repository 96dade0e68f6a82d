"""Training with less at a time where memory runs out: the same steps on the same rows.

First the rows of a step go through the device in more and smaller parts, down to one row; then
activations are computed again in the backward pass. Each attempt goes on from the last sealed
checkpoint. What it came to is kept beside the checkpoints, so that another run of the same stage
does not run out anew. Loading the weights, the optimizer's state and the held-out loss take what
they take with any number of rows: where they run out, the training ends.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from retune.errors import OutOfMemory, StepOutOfMemory
from retune.inference.batching import telling_out_of_memory
from retune.model_records import AdapterRef
from retune.preflight.devices import TRAINING_CLUSTER, plan_devices
from retune.recipe.sections import TrainingConfig
from retune.recipe.sections.method import MethodKind
from retune.spine.stage import Settings, Workdir
from retune.training.checkpoints import write_atomically
from retune.training.distributed.launching import train_on_devices

_NOTE = "memory.json"
_MEASURED = "rows_measured_at_once"


def train_in_memory(
    train: Callable[[Any, Any, Workdir], AdapterRef], inputs: Any, settings: Any, work: Workdir
) -> AdapterRef:
    """Train on the recipe's devices, in as small parts as their memory asks for.

    Args:
        train: What trains: a function of a module, of inputs, settings and folders.
        inputs: Its first argument.
        settings: Its second one, with `training` and `method`.
        work: Checkpoints go to its scratch folder, what was trained to its artifact.

    Returns:
        What was trained; its record says what was changed for want of memory.

    Raises:
        OutOfMemory: The smallest parts do not fit either, or what does not depend on them; the
            message says what would help.
        RetuneError: What the training raises.
    """
    asked: TrainingConfig = settings.training
    over_nodes = TRAINING_CLUSTER in work.context
    training = _remembered(asked, work)
    # The held-out loss is a mean over batches: it stays one figure whatever is trained on at once.
    work = replace(work, context={**work.context, _MEASURED: str(2 * asked.rows_per_pass)})
    while True:
        lower: TrainingConfig | None
        try:
            found = _attempt(train, training, inputs, settings, work)
        except StepOutOfMemory as error:
            lower = next_rung(training, settings.method.kind, over_nodes=over_nodes)
            if lower is None:
                raise OutOfMemory(_explain(error, training, over_nodes=over_nodes)) from None
        except OutOfMemory as error:
            raise OutOfMemory(_explain_elsewhere(error, asked)) from None
        else:
            return found.model_copy(update={"memory_rung": describe_rung(asked, training)})
        # Outside of the handler: inside, the traceback would hold the model.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        training = lower
        changed = training.model_dump(
            mode="json", include={"gradient_accumulation", "gradient_checkpointing"}
        )
        write_atomically(work.scratch / _NOTE, json.dumps(changed))
        work.reporter.log(
            f"memory ran out: going on with {describe_rung(asked, training)}, which gives the same "
            "steps"
        )


@contextmanager
def telling_steps(trainer: Any) -> Iterator[None]:
    """Tell a step of a training that runs out of memory from whatever else does in the block.

    Args:
        trainer: Whose forward and backward passes are watched.

    Raises:
        StepOutOfMemory: Memory ran out in one of them.
    """
    take = trainer.training_step

    def told(*given: Any, **named: Any) -> Any:
        with telling_out_of_memory(StepOutOfMemory):
            return take(*given, **named)

    trainer.training_step = told
    try:
        yield
    finally:
        trainer.training_step = take


def next_rung(
    training: TrainingConfig, kind: MethodKind, *, over_nodes: bool = False
) -> TrainingConfig | None:
    """Return settings that need less memory for the same steps.

    Args:
        training: What ran out of it.
        kind: The method; blocks that are computed again would not see a learned prefix.
        over_nodes: Whether several devices are those of a cluster.

    Returns:
        At most half the rows at a time, as far as they can be parted equally; then activations
        that are computed again; None where neither is left.
    """
    rows = plan_devices(training, over_nodes=over_nodes).rows_per_pass
    for parts in range(training.gradient_accumulation + 1, training.batch_size + 1):
        if training.batch_size % parts:
            continue
        smaller = training.model_copy(update={"gradient_accumulation": parts})
        if 2 * plan_devices(smaller, over_nodes=over_nodes).rows_per_pass <= rows:
            return smaller
    if training.gradient_checkpointing or training.torch_compile or kind == "prefix":
        return None
    return training.model_copy(update={"gradient_checkpointing": True})


def describe_rung(asked: TrainingConfig, training: TrainingConfig) -> str | None:
    """Say what was changed for want of memory; None where nothing was.

    Args:
        asked: As the recipe has it.
        training: As it was trained.
    """
    names = ("gradient_accumulation", "gradient_checkpointing")
    changed = [
        f"training.{name}: {json.dumps(getattr(training, name))}"
        for name in names
        if getattr(training, name) != getattr(asked, name)
    ]
    return ", ".join(changed) or None


def rows_measured_at_once(training: TrainingConfig, work: Workdir) -> int:
    """Return the rows of a batch of the held-out loss, of one process.

    Args:
        training: As it is trained.
        work: Says what the recipe asked for, where less is trained on at a time.
    """
    return int(work.context.get(_MEASURED, 2 * training.rows_per_pass))


def _attempt(
    train: Callable[[Any, Any, Workdir], AdapterRef],
    training: TrainingConfig,
    inputs: Any,
    settings: Settings,
    work: Workdir,
) -> AdapterRef:
    lowered = settings.model_copy(update={"training": training})
    return train_on_devices(train, training, inputs, lowered, work)


def _remembered(asked: TrainingConfig, work: Workdir) -> TrainingConfig:
    """Return what an earlier attempt at the same stage came to."""
    note = work.scratch / _NOTE
    if not note.is_file():
        return asked
    return asked.model_copy(update=json.loads(note.read_text("utf-8")))


def _explain(error: OutOfMemory, training: TrainingConfig, *, over_nodes: bool) -> str:
    rows = plan_devices(training, over_nodes=over_nodes).rows_per_pass
    again = "" if training.gradient_checkpointing else "out"
    return (
        f"{error} That was with {rows} row{'s' if rows > 1 else ''} at a time, and with{again} "
        "activations computed again. Less memory is needed by a smaller prompt.max_length (the "
        "longest rows decide), quantization.kind: nf4 with method.kind: qlora, an optimizer in 8 "
        "bits, a smaller method.r, or training.sharding: fsdp over several devices; `retune "
        "estimate` says how much. Checkpoints are kept."
    )


def _explain_elsewhere(error: OutOfMemory, asked: TrainingConfig) -> str:
    rows = 2 * asked.rows_per_pass
    return (
        f"{error} That was in no step's passes, so that fewer rows at a time there would not help: "
        "weights were loaded, the optimizer made its state, or the held-out loss was measured. "
        "Weights need less as quantization.kind: nf4 with method.kind: qlora, the state with an "
        f"optimizer in 8 bits or a smaller method.r, the held-out loss ({rows} rows at a time) "
        "with a higher training.gradient_accumulation or a smaller prompt.max_length; `retune "
        "estimate` says how much. Checkpoints are kept."
    )
