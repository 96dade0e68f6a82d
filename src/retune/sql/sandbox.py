"""The parent's side of the worker process in which queries run."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from retune.asked_processes import AskedProcess
from retune.sql.records import SqlLimits

_SOURCE_ROOT = Path(__file__).resolve().parents[2]
# Isolated (-I) and without site-packages (-S): neither the environment nor an installed .pth
# decides what runs in there. Appended, not first, so that nothing beside retune shadows the
# standard library.
_BOOT = "import sys; sys.path.append({root!r}); from retune.sql.worker import main; main()"
_BUSY_MACHINE = 20
"""How many seconds of the clock a second of a query may take: other processes have a part of the
time. Also ends a worker that waits for a disk, which takes no processor time."""


class SqlSandbox(AskedProcess):
    """A worker process that is started when needed and killed when it is late.

    Use it as a context manager, from one thread: the kernel ends the worker with the thread that
    started it.

    Args:
        limits: What one statement may cost.
    """

    def __init__(self, limits: SqlLimits) -> None:
        self._limits = limits
        boot = _BOOT.format(root=str(_SOURCE_ROOT))
        super().__init__(
            [sys.executable, "-I", "-S", "-c", boot, limits.model_dump_json(), str(os.getpid())],
            name="The SQL worker",
            environment={},
        )

    def ask(self, op: str, *, deadline_s: float, **fields: Any) -> dict[str, Any]:
        """Have the worker do one thing.

        Args:
            op: `open`, `gold`, `probe`, `prepare`, `show` or `prediction`.
            deadline_s: Seconds of processor time until its answer is late.
            **fields: What the operation needs.

        Returns:
            The answer; its `status` is `timeout` when the worker was late, `crashed` when it
            died. In both cases the next call has a new worker without an open database.

        Raises:
            ScoringError: No worker process can be started on this machine.
        """
        seconds = deadline_s + self._limits.grace_s
        return self.exchange(
            {"op": op, "deadline_s": deadline_s, **fields},
            seconds=seconds,
            clock_seconds=_BUSY_MACHINE * seconds,
        )
