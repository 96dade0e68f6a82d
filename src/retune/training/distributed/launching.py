"""Starting a training's processes, one per device, under torch's elastic agent (as torchrun does).

The stage process stays the owner: it waits for its ranks, passes on what the first one says of
its progress, and gives back that one's record. A rank that dies ends the others, and the owner
raises; the next try resumes from the last sealed checkpoint. Ranks do not outlive their owner.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from retune.inference.batching import telling_out_of_memory
from retune.inference.loaded_models import SLOT
from retune.model_records import AdapterRef
from retune.preflight.devices import TRAINING_CLUSTER, DevicePlan, plan_devices
from retune.recipe.sections import TrainingConfig
from retune.spine.stage import Reporter, Settings, Workdir
from retune.spine.stopping import STOP, keeping_handlers
from retune.training.distributed.messages import EVENTS, RankRequest
from retune.training.distributed.nodes import follow_events, launch_on_nodes
from retune.training.distributed.outcomes import explain_end, read_outcome

GRACE_SECONDS = 25
"""How long ranks may take to seal their last checkpoint: a little less than their owner has."""
_RANKS = "retune-ranks-"
"""How the folder of a training's request is called."""


def train_on_devices(
    train: Callable[[Any, Any, Workdir], AdapterRef],
    training: TrainingConfig,
    inputs: Any,
    settings: Settings,
    work: Workdir,
) -> AdapterRef:
    """Train in this process, or in one process per device where there are several.

    Where a cluster of Ray is named, several devices are those of its nodes.

    Args:
        train: What trains: a function of a module, of inputs, settings and folders.
        training: Says on how many devices.
        inputs: Its first argument.
        settings: Its second one.
        work: Checkpoints go to its scratch folder, what was trained to its artifact.

    Returns:
        What was trained.

    Raises:
        RetuneError: What the training raises, in whichever process.
        StageDied: A process died.
    """
    cluster = work.context.get(TRAINING_CLUSTER)
    plan = plan_devices(training, over_nodes=cluster is not None)
    # With several GPUs in sight and one to train on, transformers would take all of them: a rank of
    # its own sees one.
    if plan.count == 1 and plan.seen <= 1:
        with telling_out_of_memory():
            return train(inputs, settings, work)
    # What was scored last is held by this process, on a device and in memory that ranks need.
    SLOT.clear()
    # Other machines see what lies in the store, and not this one's temporary folder.
    beside = work.scratch if plan.kind == "nodes" else None
    for left in work.scratch.glob(f"{_RANKS}*"):
        shutil.rmtree(left, ignore_errors=True)
    # Ranks of other machines may write on for a moment after a stop: what is left goes next time.
    with tempfile.TemporaryDirectory(prefix=_RANKS, dir=beside, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        request = RankRequest(
            function=f"{train.__module__}:{train.__qualname__}",
            inputs_type=f"{type(inputs).__module__}:{type(inputs).__qualname__}",
            inputs=inputs.model_dump(mode="json"),
            settings_type=f"{type(settings).__module__}:{type(settings).__qualname__}",
            settings=settings.model_dump(mode="json"),
            artifact=work.artifact,
            scratch=work.scratch,
            context=dict(work.context),
            ranks=plan.count,
        )
        (folder / "request.json").write_text(request.model_dump_json(), "utf-8")
        work.reporter.log(f"training on {plan.describe()}")
        if cluster is not None and plan.kind == "nodes":
            with follow_events(work.reporter, folder):
                launch_on_nodes(plan, folder, cluster, work.reporter)
        else:
            with _events_to(work.reporter, folder / EVENTS), keeping_handlers():
                _launch(plan, folder)
        return AdapterRef.model_validate(read_outcome(folder, 0)["record"], strict=False)


def _launch(plan: DevicePlan, folder: Path) -> None:
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=plan.count,
        run_id=folder.name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        signals_to_handle="SIGTERM",
        shutdown_timeout=GRACE_SECONDS,
        # Each rank sees one GPU, its own, as a training on one device does.
        virtual_local_rank=plan.kind == "cuda",
    )
    arguments = ("-P", "-m", "retune.training.distributed.rank", str(folder), str(os.getpid()))
    try:
        elastic_launch(config, sys.executable)(*arguments)
    except SignalException:
        STOP.requested = True
        STOP.raise_if_requested()
    except ChildFailedError as error:
        _explain(plan, folder, error.failures)


def _explain(plan: DevicePlan, folder: Path, failures: dict[int, ProcessFailure]) -> NoReturn:
    killed = {
        rank: signal.Signals(-found.exitcode).name
        for rank, found in failures.items()
        if found.exitcode < 0
    }
    first = min(failures.values(), key=lambda found: found.timestamp)
    silent = (
        f"rank {first.local_rank} of {plan.count} ended with exit code {first.exitcode} and said "
        "nothing. The log of the stage process holds what it printed; run again to go on."
    )
    explain_end(folder, plan.count, killed, silent)


@contextmanager
def _events_to(reporter: Reporter, pipe: Path) -> Iterator[None]:
    """Pass on what the first rank says, as it says it."""
    os.mkfifo(pipe)
    # Open for both ends, so that neither this waits for a rank nor the end of one is its end.
    handle = os.open(pipe, os.O_RDWR)
    thread = threading.Thread(target=_pass_on, args=(handle, reporter), daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.write(handle, b"\n")
        thread.join()


def _pass_on(handle: int, reporter: Reporter) -> None:
    with os.fdopen(handle, encoding="utf-8") as lines:
        for line in lines:
            if line == "\n":
                return
            event = json.loads(line)
            getattr(reporter, event.pop("event"))(**event)
