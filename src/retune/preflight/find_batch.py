"""Stage `find_batch`: how many rows go through the device at once, before a weight is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from retune.digests import digest_json
from retune.errors import RetuneError
from retune.modeling.memory.estimate_memory import Plan, estimate_memory
from retune.modeling.memory.memory_estimate import BatchSearch, TriedBatch
from retune.preflight.estimate_training import plan_of
from retune.preflight.forecast import calibrate_peak
from retune.preflight.lengths import largest_batch, row_lengths
from retune.preflight.stages import EstimateSettings, FindBatchInputs
from retune.spine.stage import Workdir


def find_batch(inputs: FindBatchInputs, settings: EstimateSettings, work: Workdir) -> BatchSearch:
    """Find the most rows, as long as the longest, of which a pass fits.

    Args:
        inputs: The base, the rows, and the device with its memory.
        settings: What is trained, and how.
        work: Unused; the result is its record.

    Returns:
        What was tried; nothing where a step cannot be followed without weights.
    """
    tokens, learned = row_lengths(inputs.train)
    plan = plan_of(inputs, settings, tokens, learned)
    tried: dict[int, int] = {}

    def peak(rows: int) -> int:
        batch = largest_batch(tokens, learned, rows=rows, packed_to=inputs.packed_to)
        memory = estimate_memory(_of_rows(replace(plan, batch=batch), rows))
        tried[rows] = calibrate_peak(memory, inputs.ratio)
        return tried[rows]

    try:
        largest = search_largest(lambda rows: peak(rows) <= inputs.capacity, most=len(tokens))
    except RetuneError as error:
        return _record(BatchSearch(digest="", fault=error.message))
    shape = largest_batch(tokens, learned, rows=max(1, largest), packed_to=inputs.packed_to)
    found = [TriedBatch(rows=rows, peak_bytes=size) for rows, size in sorted(tried.items())]
    return _record(BatchSearch(digest="", largest=largest, tokens=shape.tokens, tried=tuple(found)))


def search_largest(fits: Callable[[int], bool], *, most: int) -> int:
    """Return the largest number that fits, where all below one that fits do too.

    Numbers are doubled until one does not fit, and halved in between: few are asked.

    Args:
        fits: Whether a number does.
        most: Larger ones are not asked for.

    Returns:
        0 where not even 1 fits.
    """
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, high * 2
        if low < most < high:
            high = most
        elif low == most:
            return low
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _of_rows(plan: Plan, rows: int) -> Plan:
    # The gradients of parts before are held in every part of a step but the first.
    parts = plan.training.gradient_accumulation
    changed = {"batch_size": rows * parts, "gradient_accumulation": parts}
    return replace(plan, training=plan.training.model_copy(update=changed))


def _record(found: BatchSearch) -> BatchSearch:
    return found.model_copy(update={"digest": digest_json(found.model_dump(mode="json"))})
