"""A training as the estimator sees it, and the note of what it was estimated to take."""

from __future__ import annotations

from retune.errors import RetuneError
from retune.modeling.memory.estimates import ESTIMATED
from retune.modeling.memory.estimating import Plan, estimate_memory
from retune.records import LOG_FOLDER
from retune.requests import TrainInputs, TrainSection
from retune.stage import Workdir
from retune.training.checkpoints import write_atomically
from retune.training.lengths import largest_batch, row_lengths
from retune.training.measured import read_measured


def make_plan(
    inputs: TrainInputs,
    section: TrainSection,
    tokens: list[int],
    learned: list[int],
    *,
    device: str,
) -> Plan:
    """Return what `estimate_memory` is asked for a training.

    Args:
        inputs: Whose base is read.
        section: Of the training.
        tokens: Of each row.
        learned: Of them, those that carry loss.
        device: cpu or cuda.

    Returns:
        The plan of the largest batch.
    """
    training = section.training
    packed = section.prompt.max_length if training.packing else None
    return Plan(
        folder=inputs.base.folder,
        model=section.model,
        quantization=section.quantization,
        method=section.method,
        training=training,
        batch=largest_batch(tokens, learned, rows=training.rows_per_pass, packed_to=packed),
        device=device,
    )


def note_estimate(inputs: TrainInputs, section: TrainSection, work: Workdir) -> None:
    """Write what a training was estimated to take beside what was measured.

    A model that cannot be estimated can be trained: it is said, and nothing is written.

    Args:
        inputs: Of the training.
        section: Of the training.
        work: `log/estimated.json` goes to its artifact.
    """
    measured = read_measured(work.artifact)
    if measured is None:
        return
    try:
        plan = make_plan(inputs, section, *row_lengths(inputs.train), device=measured.device)
        memory = estimate_memory(plan, runtime=measured.runtime_bytes)
    except RetuneError as error:
        work.reporter.log(error.message)
        return
    text = memory.model_dump_json(indent=1) + "\n"
    write_atomically(work.artifact / LOG_FOLDER / ESTIMATED, text)
