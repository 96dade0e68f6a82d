"""Ratios of measured to estimated peaks are kept, bounded, and used."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.calibrating import CALIBRATION, add_calibration, read_calibration


def test_the_median_of_past_trainings_counts(tmp_path: Path) -> None:
    """Ratios 1.0, 1.2 and 3.0: the median is 1.2, which one odd training does not move."""
    for training, measured in (("a", 100), ("b", 120), ("c", 300)):
        add_calibration(tmp_path, "cpu/lora", training, measured=measured, estimated=100)
    assert read_calibration(tmp_path) == {"cpu/lora": pytest.approx(1.2)}


def test_a_reused_training_counts_once(tmp_path: Path) -> None:
    """The same training told three times beside another: 1.0 and 2.0, the median is 1.5."""
    for _ in range(3):
        add_calibration(tmp_path, "cpu/full", "a", measured=100, estimated=100)
    add_calibration(tmp_path, "cpu/full", "b", measured=200, estimated=100)
    assert read_calibration(tmp_path) == {"cpu/full": pytest.approx(1.5)}


def test_old_trainings_are_forgotten(tmp_path: Path) -> None:
    """Of 30 trainings the last 20 count: those of ratio 2, not the first 10 of ratio 1."""
    for number in range(30):
        ratio = 1 if number < 10 else 2
        add_calibration(tmp_path, "cpu/lora", str(number), measured=ratio * 10, estimated=10)
    assert read_calibration(tmp_path) == {"cpu/lora": pytest.approx(2.0)}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"cpu/lora": [{"ratio": "x", "of": "a"}]}'])
def test_a_spoilt_file_stops_nothing(tmp_path: Path, text: str) -> None:
    """A file that holds something else counts as none, and the next training writes a good one."""
    (tmp_path / CALIBRATION).write_text(text)
    assert read_calibration(tmp_path) == {}
    add_calibration(tmp_path, "cpu/lora", "a", measured=150, estimated=100)
    assert read_calibration(tmp_path) == {"cpu/lora": pytest.approx(1.5)}


def test_what_was_not_measured_is_not_kept(tmp_path: Path) -> None:
    """A peak below what was held before is no peak."""
    add_calibration(tmp_path, "cpu/lora", "a", measured=0, estimated=100)
    assert read_calibration(tmp_path) == {}
