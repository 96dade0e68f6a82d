"""What trials that run at once share out: cores and accelerators."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from retune.trials.checking import Runner
from retune.trials.trials import TrialRequest

_DEFAULT_WORKERS = 2


def count_at_once(runner: Runner | None, workers: int | None) -> int:
    """Return how many trials run at the same time.

    Args:
        runner: What spreads them; None for one by one.
        workers: As the user said; None for one per accelerator, and at least two.
    """
    if runner is None:
        return 1
    return workers or max(_DEFAULT_WORKERS, len(list_devices()))


def list_devices() -> tuple[str, ...]:
    """Return the accelerators that may be used, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip())
    # Without torch, which a flow does not import: the driver lists what it has.
    found = Path("/proc/driver/nvidia/gpus")
    return tuple(str(place) for place, _ in enumerate(found.glob("*")))


def share_out(requests: Sequence[TrialRequest], at_once: int) -> list[TrialRequest]:
    """Return requests that say what each trial may use beside the others.

    Args:
        requests: The trials.
        at_once: How many run at the same time.
    """
    threads = max(1, (os.cpu_count() or 1) // at_once)
    share = {"threads": threads, "devices": list_devices()}
    return [each.model_copy(update=share) for each in requests]


def take_share(request: TrialRequest) -> None:
    """Let the stage process of a worker see its share of cores and accelerators alone.

    Args:
        request: From `share_out`; one of a trial that runs alone changes nothing.
    """
    if request.threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(request.threads))
    place = worker_place() if len(request.devices) > 1 else None
    if place is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = request.devices[place % len(request.devices)]


def worker_place() -> int | None:
    """Return which worker of a local Dask cluster this is; None elsewhere (Ray pins by itself)."""
    # A process that was not started by Dask has not imported it.
    if "distributed" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        name = get_worker().name
    except ValueError:
        return None
    return name if isinstance(name, int) else None
