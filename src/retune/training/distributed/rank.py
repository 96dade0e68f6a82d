"""One rank of a training: ``python -m retune.training.distributed.rank FOLDER OWNER``."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from retune.spine.children import die_with, share_cores


class PipeReporter:
    """Writes what a stage reports to the owner.

    Args:
        pipe: Open for writing.
    """

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe

    def _send(self, event: str, **fields: Any) -> None:
        self._pipe.write(json.dumps({"event": event, **fields}) + "\n")
        self._pipe.flush()

    def started(self) -> None:
        """Say nothing: the owner has said so."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Say how far it is."""
        self._send("progress", what=what, done=done, total=total)

    def metric(self, name: str, value: float, step: int) -> None:
        """Say a live figure."""
        self._send("metric", name=name, value=value, step=step)

    def log(self, message: str) -> None:
        """Say one line."""
        self._send("log", message=message)


def run_rank(folder: Path, rank: int) -> int:
    """Train as one of several processes, and leave what came of it in a file.

    Args:
        folder: Holds the request.
        rank: Number of this process.

    Returns:
        The exit code.
    """
    # Imported late: torch reads the environment, and dying with the parent comes first of all.
    from retune.errors import RetuneError
    from retune.training.checkpoints import write_atomically
    from retune.training.distributed.messages import OUTCOME, RankRequest

    code, outcome = 0, dict[str, Any]()
    try:
        request = RankRequest.model_validate_json((folder / "request.json").read_bytes())
        outcome["record"] = _train(request, folder, rank)
    except Exception as error:  # noqa: BLE001 - the owner raises it
        code = error.exit_code if isinstance(error, RetuneError) else 1
        outcome = {
            "rank": rank,
            "time": time.time(),
            "type": type(error).__name__,
            "message": str(error),
            "traceback": traceback.format_exc(),
        }
        traceback.print_exc()
    write_atomically(folder / OUTCOME.format(rank=rank), json.dumps(outcome))
    return code


def _train(request: Any, folder: Path, rank: int) -> dict[str, Any]:
    from retune.inference.batching import telling_out_of_memory
    from retune.spine.stage import SilentReporter, Workdir
    from retune.training.distributed.messages import EVENTS
    from retune.training.distributed.ranks import join_ranks

    ranks = join_ranks(request.ranks)
    inputs = _look_up(request.inputs_type).model_validate_json(json.dumps(request.inputs))
    settings = _look_up(request.settings_type).model_validate_json(json.dumps(request.settings))
    artifact = request.artifact
    if not ranks.is_main:
        # What a training notes is written once; the others note the same where nobody looks.
        artifact = folder / f"artifact-{rank}"
        artifact.mkdir()
    with open(folder / EVENTS if ranks.is_main else os.devnull, "w", encoding="utf-8") as pipe:
        reporter = PipeReporter(pipe) if ranks.is_main else SilentReporter()
        work = Workdir(artifact, request.scratch, reporter, request.context)
        with telling_out_of_memory():
            record = _look_up(request.function)(inputs, settings, work)
    ranks.wait()
    return dict(record.model_dump(mode="json"))


def _look_up(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


if __name__ == "__main__":
    die_with(int(sys.argv[2]))
    share_cores(int(os.environ["WORLD_SIZE"]))
    from retune.spine.stopping import STOP

    STOP.install()
    # Nothing is left to be cleaned up, and a process group that lost a member would wait for it.
    exit_code = run_rank(Path(sys.argv[1]), int(os.environ["RANK"]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
