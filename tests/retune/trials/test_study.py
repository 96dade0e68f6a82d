"""A search: its points, its end, and that an interrupted one goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.digests import digest_json
from retune.errors import ConfigError
from retune.trials.space import read_axes
from retune.trials.study import Search, TrialStudy, check_search, identify_sweep
from retune.trials.trials import Trial

AXES = read_axes(["method.r=4,8,16"], ["training.learning_rate=1e-4..1e-2:log"])
Points = list[tuple[int, Trial]]


def open_study(folder: Path, search: Search = "random", trials: int = 6) -> TrialStudy:
    """Open the one study of a folder."""
    return TrialStudy(
        folder / "study.db",
        "study",
        axes=AXES,
        search=search,
        trials=trials,
        higher_is_better=False,
        seed=7,
    )


def rate(trial: Trial) -> float:
    """Return a trial's learning rate."""
    return float(trial.overrides[-1].partition("=")[2])


def drain(study: TrialStudy, most: int = 100) -> Points:
    """Try points; the loss is the distance from 0.001, in units of it."""
    found: Points = []
    while len(found) < most and (points := study.next_points([], 1)):
        for number, trial in points:
            study.tell(number, abs(rate(trial) - 0.001) / 0.001, "finished")
        found += points
    return found


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_an_interrupted_search_draws_what_an_undisturbed_one_draws(
    tmp_path: Path, search: Search
) -> None:
    """Killed after the third of six points and opened again: the same six points."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = drain(open_study(tmp_path / "whole", search))
    drain(open_study(tmp_path / "killed", search), most=3)
    assert drain(open_study(tmp_path / "killed", search)) == whole
    assert len({trial.overrides for _, trial in whole}) == 6


def test_a_point_that_was_being_tried_is_given_again(tmp_path: Path) -> None:
    """Asked and never told, as after a kill: first the same point, and six in all."""
    [(number, trial)] = open_study(tmp_path).next_points([], 1)
    again = drain(open_study(tmp_path))
    assert again[0] == (number, trial)
    assert [number for number, _ in again] == [0, 1, 2, 3, 4, 5]


def test_a_longer_search_goes_on_where_the_shorter_one_ended(tmp_path: Path) -> None:
    """Two points, then four: the first two come again (their stages are in the store)."""
    short = drain(open_study(tmp_path, trials=2))
    longer = drain(open_study(tmp_path, trials=4))
    assert longer[:2] == short
    assert len(longer) == 4


def test_several_points_at_once(tmp_path: Path) -> None:
    """Six points for four workers: four, then two."""
    study = open_study(tmp_path)
    assert [len(study.next_points([], 4)) for _ in range(3)] == [4, 2, 0]


def test_stopped_and_failed_points_end_and_do_not_count_as_good(tmp_path: Path) -> None:
    """Optuna learns that they are pruned, or failed, and asks for others."""
    study = open_study(tmp_path, trials=3)
    for state in ("stopped", "failed", "finished"):
        [(number, _)] = study.next_points([], 1)
        study.tell(number, 1.0 if state == "finished" else None, state)
    assert [trial.state.name for trial in study.ended] == ["PRUNED", "FAIL", "COMPLETE"]


@pytest.mark.parametrize(
    ("search", "trials", "told"),
    [
        (None, 5, "add --search"),
        ("random", None, "add --trials"),
        ("tpe", 1, "expected 2 to"),
        ("tpe", 100_000, "expected 2 to"),
    ],
)
def test_a_search_needs_a_number_and_a_number_a_search(
    search: Search | None, trials: int | None, told: str
) -> None:
    """The message says which option is missing."""
    with pytest.raises(ConfigError, match=told):
        check_search(search, trials)


def test_a_logarithmic_search_does_not_go_on_from_a_plain_one() -> None:
    """Ends, names and recipes are the same; the points that are drawn are not."""
    rate = "training.learning_rate=1e-4..1e-2"
    plain, logarithmic = (read_axes([], [text]) for text in (rate, f"{rate}:log"))
    found = [digest_json(identify_sweep([], "random", axes)) for axes in (plain, logarithmic)]
    assert found[0] != found[1]
    assert found[0] == digest_json(identify_sweep([], "random", read_axes([], [rate])))
