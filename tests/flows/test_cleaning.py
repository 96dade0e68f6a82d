"""`retune gc` on a real store: what is kept is found by the next run, beside a run as after one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.conftest import last_json, retune
from tests.flows.test_interruptions import LONGER, start, wait_for_checkpoint
from tests.waiting import GUARD_SECONDS

pytestmark = pytest.mark.slow

OTHER = ["--set", "training.learning_rate=0.02"]
NOW = ["--keep-days", "0", "--drop-rejected", "--delete", "--json"]


def states(recipe: Path, *arguments: str) -> set[str]:
    summary = last_json(retune(recipe, "--json", *arguments))
    return {line["state"] for line in summary["stages"]}


def test_after_a_clean_up_the_kept_recipe_computes_nothing(project: Path) -> None:
    """Of two trainings the one that no recipe asks for goes."""
    last_json(retune(project, "--json", *OTHER))
    trained = project.parent / ".retune" / "train_adapter"
    assert len(list(trained.iterdir())) == 2
    done = last_json(retune(project, *OTHER, *NOW, command="gc"))
    gone = {row["stage"]: row for row in done["goes"] if row["kind"] == "artifact"}
    assert gone["train_adapter"]["number"] == gone["merge_adapter"]["number"] == 1
    assert "load_rows" not in gone
    assert len(list(trained.iterdir())) == 1
    assert states(project, *OTHER) == {"reused"}


def test_a_run_at_work_loses_nothing(project: Path) -> None:
    """Its settings are no recipe's, and nothing is kept for its age: it ends as if alone."""
    process = start(project)
    wait_for_checkpoint(project, process)
    last_json(retune(project, *NOW, command="gc"))
    _, told = process.communicate(timeout=GUARD_SECONDS)
    assert process.returncode == 0, told[-3000:]
    assert states(project, *LONGER) == {"reused"}
