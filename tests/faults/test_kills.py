"""Runs that are killed at random moments, again and again, until they come to their end."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retune.spine.store import Store
from tests.faults.faulty_process import PLAN
from tests.faults.running_faults import digests_of
from tests.flows.conftest import environment, write_project
from tests.flows.test_aligning import GRPO, change
from tests.flows.test_head import SETTINGS as HEAD
from tests.flows.test_other_rows import labelled_rows, write_rows_project
from tests.preloading import run_command
from tests.waiting import GUARD_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.service]

KILLS = int(os.environ.get("RETUNE_KILLS", "34"))
"""Of each recipe; three of them make a hundred and two."""
_REACH = 1 / 3
"""Of a run's changes, so many until the next kill, on average. A run that begins again makes about
a quarter of them before it comes to anything new: with less, most kills would come before that."""


def small(folder: Path) -> Path:
    return write_project(folder)


def head(folder: Path) -> Path:
    training = HEAD["training"] | {"max_steps": 6, "checkpoint_every_steps": 2}
    return write_rows_project(folder, labelled_rows(), **{**HEAD, "training": training})


def rewards(folder: Path) -> Path:
    recipe = write_project(folder)
    change(recipe, grpo={**GRPO, "max_steps": 2})
    return recipe


RECIPES: dict[str, Callable[[Path], Path]] = {"demo": small, "head": head, "grpo": rewards}


@pytest.mark.skipif(
    os.environ.get("RETUNE_FAULTS") != "all", reason="takes minutes of each core: make faults"
)
@pytest.mark.parametrize("name", RECIPES)
def test_a_run_killed_at_random_moments_comes_to_the_same_end(
    name: str, tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    """Whatever change of a file it dies at, its last try has the digests of an undisturbed run."""
    recipe = RECIPES[name](tmp_path / "undisturbed" / "project")
    changes = count_changes(recipe)
    wanted = digests_of(Store(recipe.parent / ".retune"))
    drawn = random.Random(f"{name} is killed")
    kills, ends, moments = 0, 0, []
    places: Counter[str] = Counter()
    while kills < KILLS:
        recipe = RECIPES[name](tmp_path / f"disturbed-{ends}" / "project")
        code = None
        while code != 0:
            # Behind the last kill the run has to come to its end.
            moment = int(drawn.expovariate(1 / (_REACH * changes))) + 1
            code = kill_at(recipe, moment if kills < KILLS else 10 * changes)
            if code != 0:
                kills += 1
                moments.append(moment)
                places[last_place(recipe)] += 1
        ends += 1
        found = digests_of(Store(recipe.parent / ".retune"))
        differing = [key for key, digest in wanted.items() if found.get(key) != digest]
        assert not differing, (moments, differing)
        assert found.keys() == wanted.keys(), moments
        assert not list((recipe.parent / ".retune").glob("*/*.work")), moments
    told = ", ".join(f"{place} {count}" for place, count in places.most_common())
    record_property("kills", f"{name}: {kills} kills, {ends} ends, each as undisturbed; in {told}")


def count_changes(recipe: Path) -> int:
    """Run a recipe undisturbed, and return how many changes of files that took."""
    counted = recipe.parent / "counted"
    assert kill_at(recipe, 10**9) == 0
    return counted.stat().st_size


def last_place(recipe: Path) -> str:
    """Return the folder of the store, such as a stage's, in which a run was killed."""
    path = Path((recipe.parent / "last").read_text("utf-8"))
    return path.relative_to(recipe.parent / ".retune").parts[0]


def kill_at(recipe: Path, moment: int) -> int:
    """Run a recipe, kill it and its stage process at a change of a file, return the exit code."""
    counted = recipe.parent / "counted"
    counted.unlink(missing_ok=True)
    plan = {
        "count": str(counted),
        "below": f"{recipe.parent}/.retune/",
        "at": moment,
        "does": "kill all",
        "spent": str(recipe.parent / "spent"),
        "last": str(recipe.parent / "last"),
    }
    done = run_command(
        "tests.faults.faulty_process",
        ["retune.cli", "run", str(recipe), "--json"],
        folder=recipe.parent,
        environment={**environment(recipe.parent), PLAN: json.dumps(plan)},
        timeout=GUARD_SECONDS,
    )
    assert done.returncode in (0, -9), done.stderr[-3000:]
    return done.returncode
