"""What is made of the trials' results: order, cost, Pareto set, who is shown to be worse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from retune.model_records import AdapterRef
from retune.recipe.recipe import Recipe
from retune.records import LOG_FOLDER
from retune.trials.gathering import gather_comparison
from retune.trials.results import Cost, TrialComparison, TrialResult, add_costs, read_cost
from tests.retune.trials.conftest import MakeResult

SQL = "sql_execution_match"


def make_recipe(**sections: Any) -> Recipe:
    """Make a recipe with the least that it needs."""
    body = {
        "name": "small",
        "data": {"train": "rows.jsonl"},
        "model": {"id": "model"},
        "registry": {"model_name": "small"},
        "scoring": {"resamples": 200},
        **sections,
    }
    return Recipe.model_validate_json(json.dumps(body))


def gather(*results: TrialResult, folder: Path = Path("x"), **sections: Any) -> TrialComparison:
    """Put results side by side."""
    recipe = make_recipe(**sections)
    return gather_comparison(recipe, results, kind="comparison", folder=folder)


def costing(seconds: float, memory: int | None = 100) -> Cost:
    """Return a cost."""
    return Cost(
        seconds=seconds,
        estimated=False,
        memory_bytes=memory,
        peak_bytes=memory,
        tokens=1,
        device="cpu",
    )


def test_best_first_then_stopped_then_failed(make_result: MakeResult) -> None:
    """5 of 10 right before 2 of 10, whatever the order they ran in."""
    found = gather(
        make_result("broken", scores=None, state="failed", reason="no"),
        make_result("bad", [True] * 2 + [False] * 8),
        make_result("slow", scores=None, state="stopped", reason="behind"),
        make_result("good", [True] * 5 + [False] * 5),
    )
    assert [each.result.name for each in found.trials] == ["good", "bad", "slow", "broken"]
    assert found.metric == SQL
    assert found.rows == 10


def test_lower_is_better_for_perplexity(make_result: MakeResult) -> None:
    """The figure that decides says which way is good; equal figures go by the held-out loss."""
    one, other = make_result("one", validation_loss=2.0), make_result("other", validation_loss=1.0)
    found = gather(one, other, gate={"metric": "perplexity"})
    assert found.metric == "perplexity"
    assert found.best.result.name == "other"


def test_better_is_said_only_where_it_is_shown(make_result: MakeResult) -> None:
    """A paired test decides, and not the two figures.

    10 against 9 of 10 rows: one disagreement, McNemar's p is 1.0, so nothing is shown. 10 against
    0: ten disagreements to one side, p = 2 / 2**10 = 0.002.
    """
    found = gather(
        make_result("best"),
        make_result("near", [True] * 9 + [False]),
        make_result("far", [False] * 10),
    )
    best, near, far = found.trials
    assert best.against_best is None
    assert near.against_best is not None and near.against_best.verdict == "undecided"
    assert far.against_best is not None and far.against_best.verdict == "worse"
    assert far.against_best.p_value == pytest.approx(2 / 2**10)
    assert any("Not shown to be worse than best" in note and "near" in note for note in found.notes)


def test_the_pareto_set_trades_quality_against_each_cost(make_result: MakeResult) -> None:
    """best: dear and good. cheap: fast and worse. poor: as cheap as best in nothing, and worse."""
    found = gather(
        make_result("best", cost=costing(50)),
        make_result("cheap", [True] * 5 + [False] * 5, cost=costing(10)),
        make_result("poor", [True] * 4 + [False] * 6, cost=costing(50)),
    )
    assert {each.result.name for each in found.trials if each.pareto} == {"best", "cheap"}
    assert found.counts == ("quality", "memory", "time", "trainable parameters")


def test_a_cost_that_one_trial_lacks_is_no_count(make_result: MakeResult) -> None:
    """Memory of one was never measured: the set is over the rest, and says so."""
    found = gather(
        make_result("a", cost=costing(50, memory=None)), make_result("b", cost=costing(50))
    )
    assert found.counts == ("quality", "time", "trainable parameters")
    assert all(each.pareto for each in found.trials)


def test_a_price_is_that_of_the_time(make_result: MakeResult) -> None:
    """36 s at 100 an hour: 36 / 3600 * 100 = 1."""
    found = gather(make_result("a"), make_result("b"), device={"price_per_hour": 100.0})
    assert [each.price for each in found.trials] == pytest.approx([1.0, 1.0])
    assert gather(make_result("c"), make_result("d")).trials[0].price is None


def test_notes_say_what_the_figures_do_not(make_result: MakeResult) -> None:
    """One learning rate for two methods; a reused trial; two devices."""
    on_gpu = costing(5).model_copy(update={"device": "cuda"})
    notes = " ".join(
        gather(make_result("full", cost=on_gpu), make_result("lora", reused=True)).notes
    )
    assert "with the learning rate 0.001" in notes
    assert "marked as reused" in notes
    assert "Trained on cpu and cuda" in notes
    other = make_result("prompt", learning_rate=0.1)
    assert "learning rate" not in " ".join(gather(make_result("x"), other).notes)


@pytest.fixture
def adapter(tmp_path: Path) -> AdapterRef:
    """A training of 20 steps."""
    (tmp_path / LOG_FOLDER).mkdir()
    return AdapterRef(
        digest="d",
        folder=tmp_path,
        trainable_parameters=1,
        total_parameters=2,
        steps=20,
        best_step=20,
        resumed_from_step=5,
        train_loss=1.0,
        validation_loss=1.0,
        base_validation_loss=None,
    )


def write_measured(adapter: AdapterRef, **changes: Any) -> None:
    """Write what a training measured."""
    measured = {
        "device": "cpu",
        "seconds": 30.0,
        "memory_before_bytes": 700,
        "model_bytes": 100,
        "peak_memory_bytes": 1000,
        "steps": 20,
        "tokens": 640,
        "resumed": False,
        **changes,
    }
    path = adapter.folder / LOG_FOLDER / "measured.json"
    path.write_text(json.dumps(measured), "utf-8")


def test_memory_is_what_training_added_to_the_libraries(adapter: AdapterRef) -> None:
    """700 before, of which the model 100: libraries 600. Peak 1000 - 600 = 400."""
    write_measured(adapter)
    cost = read_cost(adapter, {})
    assert (cost.memory_bytes, cost.peak_bytes, cost.tokens) == (400, 1000, 640)
    assert (cost.seconds, cost.estimated) == (30.0, False)


def test_the_time_of_a_resumed_training_is_reckoned_for_all_steps(adapter: AdapterRef) -> None:
    """15 of 20 steps took 30 s: 20 take 40 s; tokens of a part are not told as those of all."""
    write_measured(adapter, steps=15, resumed=True)
    cost = read_cost(adapter, {})
    assert (cost.seconds, cost.estimated, cost.tokens) == (40.0, True, None)


def test_without_measurements_the_stage_s_own_time_is_told(adapter: AdapterRef) -> None:
    """An artifact from before they were written."""
    cost = read_cost(adapter, {"seconds": 12.0})
    assert (cost.seconds, cost.memory_bytes, cost.device) == (12.0, None, None)


def test_costs_of_one_training_after_the_other_add_up() -> None:
    """10 + 5 s, 1 + 1 tokens, the larger of 300 and 100 bytes; unknown where one is unknown."""
    both = add_costs([costing(10, memory=300), costing(5, memory=100)])
    assert (both.seconds, both.tokens, both.memory_bytes) == (15, 2, 300)
    assert add_costs([costing(10), costing(5, memory=None)]).memory_bytes is None
