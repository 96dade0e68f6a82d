"""The settings of a training that goes on from another one."""

from __future__ import annotations

import pytest

from retune.recipe.sections import TrainingConfig
from retune.training.continuing import settings_after_sft


@pytest.mark.parametrize(
    ("warmup", "length", "found"),
    [
        # 20 pairs by 8 are 3 steps, of which a half is 1.
        (100.0, {"examples": 20, "epochs": 1.0}, 1.0),
        # 2 passes are 6 steps.
        (100.0, {"examples": 20, "epochs": 2.0}, 3.0),
        (100.0, {"max_steps": 10}, 5.0),
        (2.0, {"max_steps": 10}, 2.0),
        (0.03, {"examples": 20}, 0.03),
    ],
)
def test_a_warm_up_takes_at_most_half_of_the_steps(
    warmup: float, length: dict[str, float], found: float
) -> None:
    """Also where epochs count; a warm-up that is a part of the steps stays."""
    training = TrainingConfig(max_steps=400, warmup_steps=warmup)
    further = settings_after_sft(training, batch_size=8, learning_rate=1e-5, **length)  # type: ignore[arg-type]
    assert further.warmup_steps == found
