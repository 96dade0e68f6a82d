"""How trials are spread: what is shared out, and over how many."""

from __future__ import annotations

import pytest

from retune.trials.sharing import count_at_once, list_devices, worker_place


def test_devices_are_those_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA names them; an empty list means none, and not all."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-abc")
    assert list_devices() == ("2", "GPU-abc")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert list_devices() == ()


def test_without_a_number_there_is_a_worker_for_each_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four devices, four workers; none, two; without a runner always one by one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert count_at_once("dask", None) == 4
    assert count_at_once("dask", 3) == 3
    assert count_at_once(None, None) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert count_at_once("dask", None) == 2


def test_outside_of_dask_there_is_no_place() -> None:
    """This process is no worker."""
    assert worker_place() is None
