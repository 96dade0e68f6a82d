"""What the gate needs is refused before a training, and names what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retune.errors import ConfigError, DataError
from retune.gate.requirements import (
    choose_planned_metric,
    list_scored_figures,
    read_scored_groups,
    refuse_small_guards,
    refuse_unfit_rows,
    refuse_unscored,
)
from retune.inputs import Inputs
from retune.recipe.loading import load_recipe
from retune.recipe.recipe import Recipe
from retune.recipe.sections import GateConfig
from tests.making import source_of
from tests.retune.gate.conftest import write_side
from tests.tasks.conftest import locate, make_inputs, write_recipe

PROBES = {"probes": {"file": "probes.yaml", "robustness": {}}}
PROBE_FILE = """
categories:
  tone:
    - {id: one, input: "Oi?", expected: olá, required_words: [olá]}
  facts:
    - {id: two, input: "Quanto?", expected: dois, required_words: [dois]}
"""


def recipe_of(folder: Path, **sections: Any) -> Recipe:
    return load_recipe(write_recipe(folder, **sections), ()).recipe


def scored_by(folder: Path, format_name: str, probes: bool = False, **sections: Any) -> set[str]:
    path = folder / "probes.yaml"
    path.write_text(PROBE_FILE, "utf-8")
    inputs: Inputs = make_inputs(
        folder, locate(format_name=format_name), probes=source_of(path) if probes else None
    )
    more = PROBES if probes else {}
    return set(list_scored_figures(recipe_of(folder, **more, **sections), inputs))


ALWAYS = {"unscored_rate", "release_bytes"}
WRITER = {*ALWAYS, "perplexity", "bits_per_byte", "general_text_bits_per_byte"}
CLASSES = {"macro_f1", "accuracy", "seconds_per_answer"}
QUERIES = {"sql_execution_match", "sql_exact_match", "seconds_per_answer"}


def test_metrics_of_text_are_scored_where_the_recipe_names_them(tmp_path: Path) -> None:
    """And answers are then written, and timed, even where no samples are shown."""
    metrics = [{"folder": "metrics/house"}, {"folder": "wer", "lower_is_better": True}, "bleu"]
    found = scored_by(tmp_path, "instruction", scoring={"text_metrics": metrics, "samples": 0})
    own = {"own_metric.house", "own_error.wer", "bleu", "seconds_per_answer"}
    assert found == WRITER | own


def test_a_judge_scores_where_the_recipe_has_one(tmp_path: Path) -> None:
    """Over the rows that are answered in free text, so that the gate can count them before."""
    judge = {"endpoint": "http://127.0.0.1:1/v1", "model": "judge"}
    found = scored_by(tmp_path, "instruction", scoring={"text_metrics": ["chrf"]}, judge=judge)
    assert found == WRITER | {"chrf", "judge_win_rate", "seconds_per_answer"}


def test_a_metric_of_text_is_over_the_rows_that_are_answered_in_free_text(tmp_path: Path) -> None:
    """Not over queries, classes and plain text that stand beside them."""
    kinds = [{"db_id": "shop"}, {"label": "sim"}, {"question": ""}, {}, {}]
    side = write_side(
        tmp_path / "side",
        [
            {"row_id": str(at), "question": "Oi?", "group": f"g{at}"} | kind
            for at, kind in enumerate(kinds)
        ],
    )
    assert read_scored_groups("chrf", side) == ["g3", "g4"]
    assert len(read_scored_groups("own_error.wer", side)) == 2
    assert read_scored_groups("judge_win_rate", side) == ["g3", "g4"]


def test_what_is_scored_depends_on_rows_probes_and_head(tmp_path: Path) -> None:
    """Latency is measured where answers are written and where classes are named."""
    assert scored_by(tmp_path, "text_to_sql") == WRITER | QUERIES
    assert scored_by(tmp_path, "text") == WRITER
    assert scored_by(tmp_path, "text_label") == WRITER | CLASSES
    head = scored_by(tmp_path, "text_label", head={}, method={"kind": "lora"})
    assert head == ALWAYS | CLASSES
    by_text = scored_by(tmp_path, "text_label", scoring={"classify_by": "generation"})
    assert by_text == WRITER | CLASSES
    rates = {"probe_pass_rate", "probe_pass_rate.tone", "probe_pass_rate.facts", "flip_rate"}
    assert scored_by(tmp_path, "text_to_sql", probes=True) == WRITER | QUERIES | rates


def test_a_guard_that_no_scorer_gives_is_refused_and_the_others_are_named() -> None:
    """Also the deciding figure, and a category that no probe has."""
    scored = sorted(WRITER)
    refuse_unscored(GateConfig(metric="bits_per_byte", guards={"release_bytes": 1.0}), scored)
    gate = GateConfig(metric="macro_f1", guards={"probe_pass_rate.tone": 0.1, "perplexity": 0.1})
    expected = r"gate.guards.probe_pass_rate.tone, gate.metric: .* It scores bits_per_byte, .*"
    with pytest.raises(ConfigError, match=expected):
        refuse_unscored(gate, scored)


def test_the_planned_figure_is_that_of_the_recipe_or_of_the_rows() -> None:
    assert choose_planned_metric(GateConfig(), WRITER | QUERIES) == "sql_execution_match"
    assert choose_planned_metric(GateConfig(), WRITER) == "perplexity"
    assert choose_planned_metric(GateConfig(metric="accuracy"), WRITER | CLASSES) == "accuracy"


def test_rows_that_the_bounds_cannot_be_met_on_are_refused(tmp_path: Path) -> None:
    """Three of five rows are queries: four are asked for, or a label, or parts of probes."""
    rows = [{"db_id": "d", "group": "d", "answer": "SELECT a FROM t"}] * 3 + [{}] * 2
    side = write_side(tmp_path / "rows", rows)
    metric = "sql_execution_match"
    assert read_scored_groups(metric, side) == ["d"] * 3
    assert refuse_unfit_rows(GateConfig(min_rows=3), metric, side, "sqlite") == []
    with pytest.raises(DataError, match=r"over 3 held-out rows, under gate\.min_rows 4"):
        refuse_unfit_rows(GateConfig(min_rows=4), metric, side, "sqlite")
    with pytest.raises(ConfigError, match="no held-out row has a label"):
        refuse_unfit_rows(GateConfig(slices=("label", "group")), metric, side, "sqlite")
    with pytest.raises(ConfigError, match="Probe pass rate decides, which is over cases"):
        refuse_unfit_rows(GateConfig(slices=("group",)), "probe_pass_rate", side, "sqlite")
    [note] = refuse_unfit_rows(GateConfig(slices=("group",)), metric, side, "sqlite")
    assert "no group has gate.min_slice_rows 20 held-out rows (the largest of 3 has 3)" in note
    assert refuse_unfit_rows(
        GateConfig(slices=("group",), min_slice_rows=3), metric, side, "sqlite"
    ) == []  # fmt: skip


def test_guards_over_too_few_units_are_refused(tmp_path: Path) -> None:
    """At 0.005 nine are needed: the rows are eight groups, and the probes nine cases of two kinds.

    How many changes of questions and batches there will be is not known yet.
    """
    rows = [{"db_id": "d", "group": f"g{at % 8}", "answer": "SELECT 1"} for at in range(40)]
    side, cases = write_side(tmp_path / "rows", rows), ["tone"] * 8 + ["facts"]

    def refuse(*names: str, level: float = 0.005, margin: float = 1.0) -> list[str]:
        gate = GateConfig(guards=dict.fromkeys(names, margin))
        return refuse_small_guards(gate, "sql_execution_match", side, cases, level)

    assert not refuse("probe_pass_rate", "flip_rate", "seconds_per_answer", "release_bytes")
    assert not refuse("perplexity", "unscored_rate", "probe_pass_rate.tone", level=0.05)
    for name, count in (
        ("perplexity", 8),
        ("unscored_rate", 8),
        ("probe_pass_rate.tone", 8),
        ("probe_pass_rate.facts", 1),
    ):
        with pytest.raises(DataError, match=rf"{name} is over {count} rows, .* under 9 show"):
            refuse(name)
    # Two equal models are within 1.96 / (8 + 2) = 0.196 at 0.05; perplexity has no such bound.
    assert not refuse("unscored_rate", "perplexity", level=0.05, margin=0.2)
    [note] = refuse("unscored_rate", "perplexity", level=0.05, margin=0.19)
    assert note.startswith("gate.guards.unscored_rate 0.19: a model that is equal on all of 40")
    assert "is shown to be within 0.2 at level 0.05, so that only one that gains can pass" in note
