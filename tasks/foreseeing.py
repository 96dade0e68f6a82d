"""What a run will write to the disk of its store: foreseen, and refused, before it is written."""

from __future__ import annotations

from dataclasses import replace

from retune.digests import list_files
from retune.machine import DeviceName, find_device
from retune.preflight import disk_plan
from retune.preflight.forecast import TrainingForecast
from retune.spine.store import Store
from retune.watching import SilentWatcher, StageLine
from tasks.alignment import align_model
from tasks.estimating import look_further, measure_sizes
from tasks.modeling import make_release, quantize_model, train_model
from tasks.runs.job import Job


def plan_disk(
    job: Job, training: TrainingForecast | None, device: DeviceName | None = None
) -> disk_plan.DiskPlan | None:
    """Foresee what the stages that have to run will write to the store's disk.

    Args:
        job: Its run, inputs and rows, with its plan of memory, where there is one.
        training: From `estimate_training`; None where it is not known.
        device: For which kind of device; None for this machine's.

    Returns:
        The plan, whether it fits or not; None while planning, which writes nothing.
    """
    if job.run.planning:
        return None
    # Looked up, as `retune plan` does: what the store has is not written again.
    run = replace(job.run, planning=True, lines=[], watcher=SilentWatcher(), mirror=None)
    look, counted = replace(job, run=run), find_device(device)
    sizes, further = measure_sizes(look, counted), look_further(look, counted)
    run.lines.clear()
    model = quantize_model(run, base=job.inputs.base, reference_text=job.inputs.reference_text)
    adapter = align_model(look, train_model(look, model), model)
    make_release(look, adapter)
    return disk_plan.plan_disk(
        run.recipe,
        job.inputs.base,
        {line.name: _written(run.store, line) for line in run.lines if line.state == "ran"},
        run.store.root,
        steps=training.steps if training else None,
        training=training.memory if training else None,
        further=further,
        sizes=sizes,
    )


def refuse_unfit_disk(job: Job, training: TrainingForecast | None) -> None:
    """Refuse a run that surely fills the store's disk, before a weight is written.

    Args:
        job: As for `plan_disk`.
        training: As for `plan_disk`.

    Raises:
        ArtifactError: More is needed at once than is free.
    """
    plan = plan_disk(job, training)
    if plan is not None:
        disk_plan.refuse_full_disk(plan)


def _written(store: Store, line: StageLine) -> int:
    """Return the bytes that a computation which was killed has left for the next one."""
    work = store.folder(line.name, line.key).with_name(f"{line.key}.work")
    if not line.key or not work.is_dir():
        return 0
    return sum((work / path).stat().st_size for path in list_files(work))
