"""A training as the estimator sees it, and the note of what it was estimated to take."""

from __future__ import annotations

from retune.errors import RetuneError
from retune.modeling.memory.estimates import ESTIMATED
from retune.modeling.memory.estimating import Plan, estimate_memory
from retune.recipe.sections import ModelConfig, QuantizationConfig
from retune.records import LOG_FOLDER
from retune.stage import Workdir
from retune.training.checkpoints import write_atomically
from retune.training.lengths import largest_batch, row_lengths
from retune.training.measured import read_measured
from retune.training.stages import TrainInputs, TrainSettings


def make_plan(
    inputs: TrainInputs,
    settings: TrainSettings,
    tokens: list[int],
    learned: list[int],
    *,
    device: str,
) -> Plan:
    """Return what `estimate_memory` is asked for a training.

    Args:
        inputs: Whose base is read.
        settings: Of the training.
        tokens: Of each row.
        learned: Of them, those that carry loss.
        device: cpu or cuda.

    Returns:
        The plan of the largest batch.
    """
    training = settings.training
    packed = settings.max_length if training.packing else None
    return Plan(
        folder=inputs.base.folder,
        model=ModelConfig(
            id=inputs.base.model_id, dtype=settings.dtype, attention=settings.attention
        ),
        quantization=QuantizationConfig(
            kind=settings.quantization,
            double=settings.double,
            compute_dtype=settings.compute_dtype,
        ),
        method=settings.method,
        training=training,
        batch=largest_batch(tokens, learned, rows=training.rows_per_pass, packed_to=packed),
        device=device,
    )


def note_estimate(inputs: TrainInputs, settings: TrainSettings, work: Workdir) -> None:
    """Write what a training was estimated to take beside what was measured.

    A model that cannot be estimated can be trained: it is said, and nothing is written.

    Args:
        inputs: Of the training.
        settings: Of the training.
        work: `log/estimated.json` goes to its artifact.
    """
    measured = read_measured(work.artifact)
    if measured is None:
        return
    try:
        plan = make_plan(inputs, settings, *row_lengths(inputs.train), device=measured.device)
        memory = estimate_memory(plan, runtime=measured.runtime_bytes)
    except RetuneError as error:
        work.reporter.log(error.message)
        return
    text = memory.model_dump_json(indent=1) + "\n"
    write_atomically(work.artifact / LOG_FOLDER / ESTIMATED, text)
