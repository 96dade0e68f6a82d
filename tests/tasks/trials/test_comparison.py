"""A comparison: how its trials are run, searched and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect import task
from prefect.cache_policies import NO_CACHE

from retune.errors import ConfigError, DataError, DoesNotFit, Interrupted, RetuneError, StageError
from retune.recipe.loading import load_recipe
from retune.trials.lines import describe_trial
from retune.trials.page import JSON_FILE
from retune.trials.results import TrialResult
from retune.trials.space import read_axes
from retune.trials.trials import LoadedTrial, Trial, TrialRequest
from tasks.trials.comparison import OpenComparison, open_comparison, open_study, search_trials
from tasks.trials.reporting import report_comparison
from tasks.trials.trial_runners import TrialOptions, spread_trials
from tests.retune.trials.conftest import make_result  # noqa: F401 - a fixture
from tests.tasks.conftest import MakeRun, Told, write_recipe

pytestmark = pytest.mark.usefixtures("server")


@task(cache_policy=NO_CACHE, persist_result=False)
def pretend(request: TrialRequest) -> TrialResult:
    """End as the trial's name says."""
    match request.trial.name:
        case "wrong":
            raise DataError("no rows")
        case "stop":
            raise Interrupted("stopped")
    recipe = load_recipe(request.recipe).recipe
    return describe_trial(request.trial, recipe, state="stopped", reason=request.comparison)


def make_comparison(make_run: MakeRun, folder: Path, **sections: Any) -> OpenComparison:
    """Return a comparison that is under way."""
    run = make_run(**sections)
    return OpenComparison(run, "sweep", "digest", TrialOptions(), folder / "recipe.yaml")


def test_one_that_fails_leaves_the_others(make_run: MakeRun, tmp_path: Path, told: Told) -> None:
    """Each is a line, told as it ends, in the order that was asked for."""
    comparison = make_comparison(make_run, tmp_path)
    trials = [Trial(name=name, overrides=()) for name in ("a", "wrong", "b")]
    found = comparison.run_trials(pretend, trials)
    assert [each.state for each in found] == ["stopped", "failed", "stopped"]
    assert [line.name for line in told.lines] == ["a", "wrong", "b"]
    assert told.lines[1].reason == "failed: no rows"
    # By which any machine's store names what is remembered.
    assert found[0].reason == "digest"
    assert comparison.ledger == comparison.run.store.root / "comparisons" / "digest"


def test_a_stop_ends_all_trials(tmp_path: Path) -> None:
    """It is no failure of one trial; what follows does not begin."""
    done: list[TrialResult] = []
    requests = [
        TrialRequest(
            recipe=write_recipe(tmp_path),
            trial=Trial(name=name, overrides=()),
            comparison="digest",
            parent_run="",
            stop_hopeless=False,
        )
        for name in ("a", "stop", "b")
    ]
    with pytest.raises(Interrupted):
        spread_trials(pretend, requests, None, done.append)
    assert [each.name for each in done] == ["a"]


def test_a_search_runs_as_many_points_as_were_asked_for(make_run: MakeRun, tmp_path: Path) -> None:
    """Opened again, a finished search asks for the same points, trained by now."""
    comparison = make_comparison(make_run, tmp_path)
    axes = read_axes([], ["training.learning_rate=1e-4..1e-2:log"])

    def search() -> list[TrialResult]:
        study = open_study(comparison, axes, "random", 3, "perplexity")
        return search_trials(comparison, pretend, study, "perplexity", ())

    first = [each.name for each in search()]
    assert len(set(first)) == 3
    assert [each.name for each in search()] == first


def test_a_comparison_is_reported_in_pages_and_as_json(
    make_run: MakeRun,
    tmp_path: Path,
    make_result: Any,  # noqa: F811
) -> None:
    """Below the store's reports, under the digest of what is compared."""
    comparison = make_comparison(make_run, tmp_path, scoring={"resamples": 200})
    results = [make_result("good"), make_result("bad", [True] * 2 + [False] * 8)]
    told = report_comparison(comparison, results)
    folder = comparison.run.store.root / "reports" / "compare-digest"
    assert told.folder == folder and (folder / "compare.html").is_file()
    assert [each.result.name for each in told.trials] == ["good", "bad"]
    assert json.loads((folder / JSON_FILE).read_text())["kind"] == "sweep"


def test_where_all_failed_there_is_nothing_to_compare(make_run: MakeRun, tmp_path: Path) -> None:
    """The message gives each reason once, with the trials that it is of."""
    comparison = make_comparison(make_run, tmp_path)
    recipe = comparison.run.recipe
    results = [
        describe_trial(Trial(name=name, overrides=()), recipe, reason=reason)
        for name, reason in (("a", "no rows"), ("b", "no memory"), ("c", "no rows"))
    ]
    with pytest.raises(StageError, match=r"All 3 trials failed:\n  a, c: no rows\n  b: no memory"):
        report_comparison(comparison, results)


def test_where_all_failed_for_one_reason_it_is_that_error(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """Its own class, whose exit code is that of a run, and its own message."""
    comparison = make_comparison(make_run, tmp_path)
    recipe = comparison.run.recipe
    results = [
        describe_trial(
            Trial(name=name, overrides=()), recipe, reason="too large", error="ConfigError"
        )
        for name in ("a", "b")
    ]
    with pytest.raises(ConfigError, match=r"^too large$"):
        report_comparison(comparison, results)


def test_where_no_trial_fits_the_recipe_is_wrong(make_run: MakeRun, tmp_path: Path) -> None:
    """As for a run, whose exit code is 2; each trial's reason is given."""
    comparison = make_comparison(make_run, tmp_path)
    recipe = comparison.run.recipe
    results = [
        describe_trial(Trial(name=name, overrides=()), recipe, reason=reason, error="DoesNotFit")
        for name, reason in (("a", "by 1 GB"), ("b", "by 2 GB"))
    ]
    with pytest.raises(DoesNotFit, match=r"trials failed:\n  a: by 1 GB\n  b: by 2 GB") as failed:
        report_comparison(comparison, results)
    assert failed.value.exit_code == 2


def test_nothing_is_started_where_a_file_is_missing(tmp_path: Path, told: Told) -> None:
    """MLflow is not asked and no store is made before everything that trials need is there."""
    recipe = write_recipe(tmp_path)
    loaded = [LoadedTrial(Trial(name="a", overrides=()), load_recipe(recipe))]
    with (
        pytest.raises(RetuneError, match=r"rows\.jsonl"),
        open_comparison(recipe, loaded, "comparison", [], TrialOptions()),
    ):
        pass
    assert not (tmp_path / ".retune").exists() and not told.lines
