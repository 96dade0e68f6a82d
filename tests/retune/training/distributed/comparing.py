"""A short training, and what one process and several are compared by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from retune.training.metrics import read_metrics
from retune.training.stages import TrainSettings
from tests.making import settings_of

CLOSE = 1e-5
LORA: dict[str, Any] = {"kind": "lora", "r": 4, "alpha": 8, "dropout": 0.0}
STEPS: dict[str, Any] = {
    # 28 rows make three steps of eight and one of four, which the second epoch follows.
    **{"max_steps": 5, "batch_size": 8, "gradient_accumulation": 2, "learning_rate": 0.003},
    # Five rows are a batch of one process and none of another.
    **{"evaluations": 2, "evaluation_rows": 5, "checkpoint_every_steps": 2, "warmup_steps": 0.0},
    **{"keep_best": False, "runtime": {"log_every_steps": 1}},
}


def section(method: dict[str, Any] = LORA, kind: str = "none", **training: Any) -> TrainSettings:
    """Five steps of eight rows in float32, where two ways to add up differ by rounding alone."""
    found: TrainSettings = settings_of(
        TrainSettings,
        seed=11,  # type: ignore[arg-type]
        model={"id": "tiny"},
        quantization={"kind": kind, "compute_dtype": "float32"},
        method=method,
        training={**STEPS, **training},
    )
    return found


def curves_of(artifact: Path) -> dict[tuple[str, int], float]:
    """Return each figure of a training by name and step."""
    points = read_metrics(artifact / "log" / "metrics.jsonl")
    return {(each["name"], each["step"]): each["value"] for each in points}


def assert_same_weights(found: Path, expected: Path) -> None:
    """Compare two artifacts' weights, name by name."""
    names = sorted(path.name for path in expected.glob("*.safetensors"))
    assert names and names == sorted(path.name for path in found.glob("*.safetensors"))
    for name in names:
        ours, theirs = load_file(found / name), load_file(expected / name)
        assert ours.keys() == theirs.keys()
        for key, weight in theirs.items():
            torch.testing.assert_close(ours[key], weight, atol=CLOSE, rtol=0)
