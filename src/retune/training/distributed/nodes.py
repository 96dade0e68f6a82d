"""Starting a training's processes on the nodes of a Ray cluster, by Ray Train.

They do what those of one machine do, and find request, checkpoints and artifact in the work folder,
which all nodes mount. Ray Train starts one for each device, has them meet, and ends all where one
is lost; the next try resumes from the last sealed checkpoint, on the nodes that are left.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retune.clusters import joined_to_ray
from retune.errors import ServiceError
from retune.preflight.devices import DevicePlan
from retune.spine.stage import Reporter
from retune.spine.stopping import keeping_handlers
from retune.training.distributed.messages import EVENTS
from retune.training.distributed.outcomes import explain_end, read_outcome
from retune.training.distributed.ranks import choose_backend

_LOST = "its node or process was lost"
_LOOK_SECONDS = 0.2
"""How often the file of events is looked at: no pipe reaches from one machine to another."""


def launch_on_nodes(plan: DevicePlan, folder: Path, address: str, reporter: Reporter) -> None:
    """Run a training's ranks on the nodes of a cluster, and wait for them.

    Args:
        plan: Says how many.
        folder: Holds the request; all nodes have it under this path.
        address: Of the cluster.
        reporter: Is told where others hold what is needed.

    Raises:
        ServiceError: The cluster does not take this process in, or is smaller than asked for.
        RetuneError: What a rank raised.
        StageDied: A rank was lost.
        Interrupted: A stop was asked for.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    with joined_to_ray(address):
        on_gpus = expect_room(plan, ray.cluster_resources())
        if waits := say_wait(plan, ray.available_resources(), on_gpus=on_gpus):
            reporter.log(waits)
        trainer = TorchTrainer(
            train_rank,
            train_loop_config={"folder": str(folder)},
            scaling_config=ScalingConfig(num_workers=plan.count, use_gpu=on_gpus),
            run_config=RunConfig(
                storage_path=str(folder / "ray"), failure_config=FailureConfig(max_failures=0)
            ),
            torch_config=TorchConfig(backend=choose_backend(on_gpus)),
        )
        try:
            with keeping_handlers():
                trainer.fit()
        except TrainingFailedError as error:
            ended: dict[int, Exception] = getattr(error, "worker_failures", {})
            # Those that failed by themselves have written why.
            lost = {rank: _LOST for rank in ended if not read_outcome(folder, rank)}
            silent = f"Ray ended the training ({' '.join(str(error).split())}). Run again to go on."
            explain_end(folder, plan.count, lost, silent)


def train_rank(config: dict[str, Any]) -> None:
    """Be one rank; Ray Train calls this in each of its processes.

    Args:
        config: Names the folder with the request.

    Raises:
        RuntimeError: The rank failed, and has written why.
    """
    import ray.train

    from retune.training.distributed.rank import run_rank

    code = run_rank(Path(config["folder"]), ray.train.get_context().get_world_rank())
    if code:
        raise RuntimeError(f"the rank ended with exit code {code}")


@contextmanager
def follow_events(reporter: Reporter, folder: Path) -> Iterator[None]:
    """Pass on what the first rank writes, as it comes."""
    ended = threading.Event()
    thread = threading.Thread(target=_follow, args=(reporter, folder / EVENTS, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _follow(reporter: Reporter, path: Path, ended: threading.Event) -> None:
    path.touch()
    with open(path, encoding="utf-8") as lines:
        part = ""
        while True:
            last = ended.is_set()
            while line := lines.readline():
                part += line
                if part.endswith("\n"):
                    event = json.loads(part)
                    part = ""
                    getattr(reporter, event.pop("event"))(**event)
            if last:
                return
            ended.wait(_LOOK_SECONDS)


def expect_room(plan: DevicePlan, resources: dict[str, float]) -> bool:
    """Say whether a cluster trains on GPUs, and refuse one that could never start all ranks.

    Args:
        plan: Says how many.
        resources: All of the cluster's, by Ray's names.

    Raises:
        ServiceError: It is too small; Ray would wait for nodes that nobody starts.
    """
    kind = "GPU" if resources.get("GPU") else "CPU"
    there = int(resources.get(kind, 0))
    if there < plan.count:
        raise ServiceError(
            f"training.devices: is {plan.count}, and the cluster of Ray has {there} {kind}s in "
            f"all. Add nodes, or write at most {there}: a training goes on from its checkpoint "
            "with another number of devices."
        )
    return kind == "GPU"


def say_wait(plan: DevicePlan, free: dict[str, float], *, on_gpus: bool) -> str:
    """Say for what a training waits; nothing where all that it needs is free.

    Args:
        plan: Says how many devices.
        free: What nobody holds of the cluster, by Ray's names.
        on_gpus: Whether GPUs are needed, or cores.
    """
    kind = "GPU" if on_gpus else "CPU"
    now = int(free.get(kind, 0))
    if now >= plan.count:
        return ""
    return f"waiting for {plan.count} {kind}s of the cluster of Ray: {now} of them free now"
