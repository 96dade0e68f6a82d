"""How many rows go through a device at once, found before a weight is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import retune.preflight.find_batch as finding
from retune.machine import Device
from retune.model_records import BaseRef
from retune.modeling.memory.estimate_memory import estimate_memory
from retune.modeling.memory.memory_estimate import BatchShape
from retune.preflight.estimate_training import plan_of
from retune.preflight.find_batch import find_batch, search_largest
from retune.preflight.stages import EstimateSettings, FindBatchInputs
from retune.records import SideRef
from tests.making import make_workdir, settings_of


@pytest.mark.parametrize(
    ("fitting", "most", "asked"),
    [
        (0, 100, [1]),
        (1, 100, [1, 2]),
        (11, 100, [1, 2, 4, 8, 16, 12, 10, 11]),
        # No more rows than there are: 6 is asked in place of 8.
        (50, 6, [1, 2, 4, 6]),
        (5, 6, [1, 2, 4, 6, 5]),
        (8, 8, [1, 2, 4, 8]),
        (9, 1, [1]),
    ],
)
def test_the_largest_is_found_in_few_steps(fitting: int, most: int, asked: list[int]) -> None:
    """Doubled until one does not fit, then halved in between."""
    seen: list[int] = []

    def fits(rows: int) -> bool:
        seen.append(rows)
        return rows <= fitting

    assert search_largest(fits, most=most) == min(fitting, most)
    assert seen == asked


def test_a_pass_with_one_row_more_would_not_fit(
    base: BaseRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device has exactly what five rows take, and the largest batch is five of the longest."""
    settings = settings_of(
        EstimateSettings,
        model={"id": "tiny"},
        method={"kind": "lora", "r": 4},
        training={"batch_size": 8, "gradient_accumulation": 2, "evaluations": 0},
    )
    lengths = [30] * 63 + [64], [8] * 64
    monkeypatch.setattr(finding, "row_lengths", lambda _: lengths)
    inputs = FindBatchInputs(
        base=base,
        train=SideRef(digest="side", folder=tmp_path),
        device=Device(name="cpu", bfloat16=False),
        capacity=0,
    )
    plan = plan_of(inputs, settings, *lengths)
    five = BatchShape(rows=5, tokens=64, answer_tokens=5 * 8)
    peak = estimate_memory(replace(plan, batch=five)).total

    found = find_batch(
        inputs.model_copy(update={"capacity": peak}), settings, make_workdir(tmp_path / "work")
    )

    assert (found.largest, found.tokens) == (5, 64)
    assert [each.rows for each in found.tried] == [1, 2, 4, 5, 6, 8]
    assert next(each.peak_bytes for each in found.tried if each.rows == 5) == peak
    nothing = find_batch(inputs, settings, make_workdir(tmp_path / "other"))
    assert nothing.largest == 0 and [each.rows for each in nothing.tried] == [1]
