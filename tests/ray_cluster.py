"""A cluster of Ray on this machine: a head that computes, and a second node that can be lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.tiny_models import REPOSITORY
from tests.waiting import GUARD_SECONDS

# Nothing is told to anybody, memory that others use ends no worker, and workers take turns with
# other tests: as nice as Ray has them, they hardly run while each core has another process.
VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",
}
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


class RayCluster:
    """Two nodes of one core each.

    Args:
        cluster: Ray's own, with its head.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.address: str = cluster.address
        self._second = cluster.add_node(**NODE)

    def second_node(self) -> list[psutil.Process]:
        """Return the processes of the second node, those that its workers started among them."""
        [raylet] = self._second.all_processes["raylet"]
        process = psutil.Process(raylet.process.pid)
        return [*process.children(recursive=True), process]

    def lose_second_node(self) -> None:
        """End all of its processes at once, as a machine that loses its power."""
        lost = self.second_node()
        for end in ("suspend", "kill"):
            for process in lost:
                if process.is_running():
                    getattr(process, end)()
        self._cluster.remove_node(self._second, allow_graceful=False)


@contextmanager
def start_ray() -> Iterator[RayCluster]:
    """Start a cluster, and end it with the block."""
    from ray._private import services
    from ray.cluster_utils import Cluster

    ask_once = services.get_node

    def ask_until_it_is_there(*arguments: Any) -> Any:
        # Ray gives a node half a minute to start, on however busy a machine.
        end = time.monotonic() + GUARD_SECONDS
        while True:
            try:
                return ask_once(*arguments)
            except RuntimeError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    cluster = Cluster()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in VARIABLES.items():
                patch.setenv(name, value)
            patch.setattr(services, "get_node", ask_until_it_is_there)
            patch.setenv("PYTHONPATH", f"{REPOSITORY / 'src'}:{REPOSITORY}")
            cluster.add_node(include_dashboard=False, **NODE)
            started = RayCluster(cluster)
        yield started
    finally:
        cluster.shutdown()


def holder(lock: Path) -> int | None:
    """Return the number of the process that holds the lock of a stage."""
    # Line by line: "7: FLOCK ADVISORY WRITE 887 fe:00:2179130 0 EOF".
    held = (line.split() for line in Path("/proc/locks").read_text("utf-8").splitlines())
    inode = str(lock.stat().st_ino)
    return next((int(each[4]) for each in held if each[5].rpartition(":")[2] == inode), None)
