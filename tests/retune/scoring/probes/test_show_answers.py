"""Questions that a report shows the answers of: greedy and drawn, and nothing is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from retune.model_records import BaseRef
from retune.recipe.sections import ProbesConfig
from retune.release.report import render
from retune.release.samples import gather_shown
from retune.score_records import ModelScores, ScoreReport
from retune.scoring.outcomes import read_outcomes
from retune.scoring.probes.show_answers import show_answers
from retune.scoring.stages import ShowInputs, ShowSettings
from tests.conftest import make_workdir
from tests.flows.planted import PERSONAL
from tests.making import settings_of
from tests.retune.release.test_report import example_report

QUESTIONS = ["Quantos clientes moram em Évora?", f"Quem é {PERSONAL['e-mail']}?", "x " * 5000]
HOT = {"temperature": 2.0, "top_p": 1.0}


def shown(base: BaseRef, folder: Path, sampling: dict[str, Any] | None, *at: int) -> ScoreReport:
    settings = settings_of(
        ShowSettings,
        probes={
            "show": [QUESTIONS[each] for each in at or range(3)],
            "sampling": sampling,
            "max_new_tokens": 12,
        },
    )
    inputs = ShowInputs(model=base.as_scored(), template=None)
    return show_answers(inputs, settings, make_workdir(folder))


def test_a_drawn_answer_depends_on_its_question_and_seed_alone(
    base: BaseRef, tmp_path: Path
) -> None:
    """The same beside other questions and again, another with another seed; greedy ones stay."""
    both = read_outcomes(shown(base, tmp_path / "both", HOT, 0, 1))
    alone = read_outcomes(shown(base, tmp_path / "alone", HOT, 1))
    other = read_outcomes(shown(base, tmp_path / "other", HOT | {"seed": 8}, 1))
    plain = read_outcomes(shown(base, tmp_path / "plain", None, 1))
    assert both[1]["sampled"] == alone[0]["sampled"] != other[0]["sampled"]
    assert alone[0]["greedy"] == other[0]["greedy"] == plain[0]["greedy"]
    assert alone[0]["greedy"] != alone[0]["sampled"]
    assert plain[0]["sampled"] is None


def test_next_to_no_temperature_draws_what_is_likeliest(base: BaseRef, tmp_path: Path) -> None:
    cold = read_outcomes(shown(base, tmp_path / "cold", {"temperature": 1e-4, "top_p": 1.0}, 0))
    assert cold[0]["sampled"] == cold[0]["greedy"]


def test_the_report_shows_both_answers_of_each_model_as_text(base: BaseRef, tmp_path: Path) -> None:
    """Nothing is scored; personal data is redacted, and what did not fit is said."""
    report = shown(base, tmp_path / "shown", HOT)
    assert (report.metrics, report.unscored) == ({}, {"prompt_too_long": 1})
    scores = ModelScores.of({"shown": report})
    found = gather_shown({"base": scores, "merged": scores})
    assert [len(each.answers) for each in found] == [2, 2, 2]
    assert PERSONAL["e-mail"] not in found[1].question
    assert found[2].answers["base"].greedy is found[2].answers["base"].sampled is None
    sampling = ProbesConfig(show=("x",), sampling=HOT).sampling  # type: ignore[arg-type]
    filled = example_report().model_copy(update={"shown": found, "sampling": sampling})
    for name in ("report.html", "report.md"):
        page = render(name, filled)
        assert "temperature 2, top_p 1, repetition penalty 1, seed 7." in page
        assert QUESTIONS[0] in page
    assert render("report.html", filled).count("(not asked)") == 4
    assert "Questions of the recipe" not in render("report.html", example_report())


def test_settings_of_drawing_without_a_question_are_refused() -> None:
    with pytest.raises(ValidationError, match="show has no questions"):
        ProbesConfig(file=Path("a.yaml"), sampling=HOT)  # type: ignore[arg-type]
