"""A training that the device cannot hold is refused alike, whoever starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.conftest import environment, last_json, retune, write_project
from tests.waiting import GUARD_SECONDS

pytestmark = pytest.mark.slow

TOO_SMALL = "device.memory=1MB"
Start = Callable[[Path], subprocess.CompletedProcess[str]]


def from_python(recipe: Path) -> subprocess.CompletedProcess[str]:
    """Call the flow as a schedule does; its error's message and exit code become the process's."""
    program = (
        "import sys; from pathlib import Path; from flows.finetune import finetune\n"
        "try: finetune(Path(sys.argv[1]), [sys.argv[2]])\n"
        "except Exception as error: print(error, file=sys.stderr); sys.exit(error.exit_code)"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(recipe), TOO_SMALL],
        capture_output=True,
        text=True,
        env=environment(recipe.parent),
        timeout=GUARD_SECONDS,
        check=False,
    )


def find_refusal(printed: str) -> str:
    """Return the line that says why, of all that a way prints."""
    (line,) = {
        line
        for line in printed.splitlines()
        if line.startswith("device.memory: 1.0 MiB, but this training needs at least")
    }
    return line


WAYS: dict[str, Start] = {
    "check": lambda recipe: retune(recipe, "--set", TOO_SMALL, command="check"),
    "run": lambda recipe: retune(recipe, "--set", TOO_SMALL),
    "compare": lambda recipe: retune(
        recipe, "--set", TOO_SMALL, "--methods", "qlora,full", command="compare"
    ),
    "flow": from_python,
}


def test_every_way_refuses_a_training_that_cannot_fit(tmp_path: Path) -> None:
    """One message and exit code 2, of a comparison for each trial, before the base is scored.

    Libraries alone are over 1 MB, so no change of settings makes it fit, on any machine.
    """
    recipe = write_project(tmp_path / "project")
    ended = {name: start(recipe) for name, start in WAYS.items()}
    assert {name: done.returncode for name, done in ended.items()} == dict.fromkeys(WAYS, 2)
    comparison = ended.pop("compare").stderr
    (message,) = {find_refusal(done.stderr) for done in ended.values()}
    assert f"  qlora: {message}" in comparison and "  full: device.memory: " in comparison
    assert message.endswith("No single change makes it fit. retune estimate shows the parts.")
    manifests = (recipe.parent / ".retune").glob("*/*/manifest.json")
    stages = {path.parents[1].name for path in manifests}
    assert "estimate_training" in stages
    assert not {each for each in stages if each.startswith(("quantize", "score", "train"))}


def test_an_estimate_is_of_no_machine(tmp_path: Path) -> None:
    """Asked for a smaller device, the stored one is reused; real steps leave nothing behind."""
    recipe = write_project(tmp_path / "project")
    timed = last_json(retune(recipe, "--json", command="estimate"))
    assert timed["times"]["steps"] == 4 and timed["seconds"] > 0
    artifacts = recipe.parent / ".retune"
    assert not (artifacts / "train_adapter").exists()
    stored = {path: path.stat().st_mtime_ns for path in artifacts.glob("estimate_training/*/*")}
    small = retune(
        recipe, "--json", "--no-steps", "--set", "device.memory=10GB", command="estimate"
    )
    told = json.loads(small.stdout.strip().splitlines()[-1])
    assert (told["capacity_bytes"], told["memory"]) == (10_000_000_000, timed["memory"])
    assert {
        path: path.stat().st_mtime_ns for path in artifacts.glob("estimate_training/*/*")
    } == stored
