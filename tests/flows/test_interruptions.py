"""What happens to a run that is killed, interrupted, or cannot go on: nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.flows.conftest import environment, last_json, retune, write_project
from tests.waiting import GUARD_SECONDS, wait_until

pytestmark = pytest.mark.slow

LONGER = ["--set", "training.max_steps=24", "--set", "training.checkpoint_every_steps=2"]


def start(recipe: Path, *, own_server: bool = False) -> subprocess.Popen[str]:
    """Start a run in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "retune.cli", "run", str(recipe), *LONGER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(recipe.parent, own_server=own_server),
        start_new_session=True,
    )


def wait_for_checkpoint(recipe: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a checkpoint is sealed while training goes on."""
    pattern = "train_adapter/*.work/scratch/checkpoints/checkpoint-*/sealed.json"
    end = time.monotonic() + GUARD_SECONDS
    while time.monotonic() < end:
        if list((recipe.parent / ".retune").glob(pattern)):
            return
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.05)
    raise AssertionError("no checkpoint")


def adapter_bytes(recipe: Path) -> bytes:
    (weights,) = (recipe.parent / ".retune" / "train_adapter").glob("*/adapter_model.safetensors")
    return weights.read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The adapter of a run that nothing disturbed."""
    recipe = write_project(tmp_path_factory.mktemp("uninterrupted") / "project")
    last_json(retune(recipe, "--json", *LONGER))
    return adapter_bytes(recipe)


def test_a_killed_training_resumes_to_the_same_adapter_bit_for_bit(
    uninterrupted: bytes, tmp_path: Path
) -> None:
    """Kill -9 of the whole process group in the middle of training, then the same command again."""
    recipe = write_project(tmp_path / "project")
    process = start(recipe)
    wait_for_checkpoint(recipe, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    summary = last_json(retune(recipe, "--json", *LONGER))
    lines = {(line["name"], line["role"]): line for line in summary["stages"]}
    assert lines["load_rows", "train"]["state"] == "reused"
    assert lines["train_adapter", None]["reason"] == "an earlier run did not finish"
    assert adapter_bytes(recipe) == uninterrupted


def test_ctrl_c_ends_cleanly_and_the_next_run_resumes(uninterrupted: bytes, tmp_path: Path) -> None:
    """One message, exit code 130, no traceback, no process left, and the same adapter later."""
    recipe = write_project(tmp_path / "project")
    # Ctrl-C in a terminal reaches a server of its own too.
    process = start(recipe, own_server=True)
    wait_for_checkpoint(recipe, process)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to parent and child alike
    _, errors = process.communicate(timeout=GUARD_SECONDS)
    assert process.returncode == 130, errors[-3000:]
    assert "run again to go on" in errors and "Traceback" not in errors
    # Prefect's temporary server takes a moment.
    wait_until(lambda: not _runs(process.pid), what="the end of all that it started")
    last_json(retune(recipe, "--json", *LONGER))
    assert adapter_bytes(recipe) == uninterrupted


def _runs(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
