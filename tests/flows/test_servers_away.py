"""A server that goes away in the middle of a run: what is computed is kept, and said in one go."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faulty_proxy import FaultyProxy
from tests.flows.conftest import environment, last_json, write_project
from tests.serving import prefect_address
from tests.waiting import GUARD_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.service]

SETTINGS = {"training.checkpoint_every_steps": 1, "tracking.prefect_patience_seconds": 1.0}


def run(
    recipe: Path, proxy: FaultyProxy, lost_in: str, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run whose Prefect is behind the proxy, which goes away once a stage has begun.

    Whichever request is the first to find it begun: its progress, its end, or the look before the
    next stage, none of which the run leaves out.
    """
    stage = recipe.parent / ".retune" / lost_in
    proxy.turn_when(lambda: any(stage.glob("*/*")))
    overrides = {**SETTINGS, **settings}
    given = [part for name, value in overrides.items() for part in ("--set", f"{name}={value}")]
    return subprocess.run(
        [sys.executable, "-m", "retune.cli", "run", str(recipe), "--json", *given],
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        check=False,
        env={**environment(recipe.parent), "PREFECT_API_URL": proxy.address},
    )


def test_prefect_that_goes_away_costs_no_stage(tmp_path: Path) -> None:
    """Away in training, it ends the run after that stage, with one message and code 7.

    Run again, it takes up there; away once more, in merging, and not needed, the run goes on to its
    end, whose summary is as whole as any.
    """
    recipe = write_project(tmp_path / "project")
    with FaultyProxy(prefect_address()) as proxy:
        stopped = run(recipe, proxy, "train_adapter")
        assert stopped.returncode == 7, stopped.stderr[-3000:]
        assert "score_perplexity is next" in stopped.stderr
        for word in ("Traceback", "ERROR", "bug"):
            assert word not in stopped.stderr
        proxy.turn("well")

        resumed = run(recipe, proxy, "merge_adapter", **{"tracking.on_prefect_lost": "continue"})
        summary = last_json(resumed)
    states = {line["name"]: line["state"] for line in summary["stages"]}
    assert states["train_adapter"] == "reused" and states["merge_adapter"] == "ran"
    assert states["register_model"] == "ran" and Path(summary["report"]).exists()
