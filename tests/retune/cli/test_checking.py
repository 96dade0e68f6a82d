"""What `retune check` says of the work ahead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from retune.cli import checking
from retune.cli.checking import check_recipe
from retune.data.tables import read_rows
from retune.errors import ServiceError
from retune.preflight.steps import plan_packs
from tests.flows.conftest import retune, write_project
from tests.tasks.conftest import make_inputs, tracking, write_recipe  # noqa: F401 - a fixture
from tests.waiting import closed_port


@pytest.mark.usefixtures("tracking")
def test_a_cluster_that_is_to_train_has_to_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `retune run` says it, before rows are looked at."""
    monkeypatch.setattr(checking, "locate_inputs", lambda *_, **__: make_inputs(tmp_path))
    monkeypatch.setattr(checking, "_say_sources", lambda *_: pytest.fail("went on"))
    with closed_port() as port:
        runner = {"kind": "ray", "address": f"127.0.0.1:{port}"}
        recipe = write_recipe(tmp_path, runner=runner, training={"devices": 2, "batch_size": 8})
        with pytest.raises(ServiceError, match="nobody answers"):
            check_recipe(recipe, (), show=0)


@pytest.mark.slow
def test_packed_sequences_are_counted(tmp_path: Path) -> None:
    """An epoch has as many steps as packed sequences need, not as rows would."""
    recipe = write_project(tmp_path / "project")
    settings = ("max_steps=null", "epochs=2", "packing=true", "warmup_steps=0.0")
    sets = [part for text in settings for part in ("--set", f"training.{text}")]
    done = retune(recipe, *sets, "--set", "quantization.kind=none", command="check")
    assert done.returncode == 0, done.stderr

    sides = recipe.parent.glob(".retune/prepare_sides/*/train/rows.parquet")
    lengths = [len(row["prompt_ids"]) + len(row["answer_ids"]) for row in read_rows(next(sides))]
    limit = int(re.findall(r"longest +[\d,]+ of ([\d,]+)", done.stdout)[0].replace(",", ""))
    packs = len(plan_packs(lengths, limit))
    assert packs < len(lengths)
    # Batches of 4, 2 passes.
    steps = 2 * -(-packs // 4)
    assert f"{steps} of 4 of {packs} packed sequences" in " ".join(done.stdout.split())
