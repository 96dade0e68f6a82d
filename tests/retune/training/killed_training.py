"""A training in a process of its own that is killed in the middle of a step."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from retune.spine.stage import SilentReporter, Workdir
from retune.training.stages import TrainInputs, TrainSettings
from tests.preloading import forker, run_command
from tests.tiny_models import REPOSITORY
from tests.waiting import GUARD_SECONDS


def train_until_killed(
    inputs: TrainInputs, settings: TrainSettings, work: Workdir, *, step: int
) -> None:
    """Train in another process, and kill it when it reports a step.

    Args:
        inputs: Of the training.
        settings: Of the training.
        work: Its folders; `artifact` and `scratch` lie side by side.
        step: That it reports last.
    """
    texts = (inputs.model_dump_json(), settings.model_dump_json())
    killed = run_command(
        "tests.retune.training.killed_training",
        [*texts, str(work.artifact.parent), str(step)],
        folder=REPOSITORY,
        environment=forker(),
        timeout=GUARD_SECONDS,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]


class Killing(SilentReporter):
    """Kills its process.

    Args:
        step: When it was reported.
    """

    def __init__(self, step: int) -> None:
        self._step = step

    def progress(self, what: str, done: int, total: int) -> None:
        if what == "steps" and done == self._step:
            os.kill(os.getpid(), signal.SIGKILL)


def _main(inputs: str, settings: str, folder: str, step: str) -> None:
    from retune.training.supervised import train_adapter

    train_adapter(
        TrainInputs.model_validate_json(inputs),
        TrainSettings.model_validate_json(settings),
        Workdir(Path(folder, "artifact"), Path(folder, "scratch"), Killing(int(step))),
    )


if __name__ == "__main__":
    _main(*sys.argv[1:])
