"""A model of this machine as the judge: the embedded one, which gives no verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retune.model_records import ScoredModel
from retune.recipe.sections import JudgeConfig
from retune.scoring.judge.agreement import check_local_judge
from retune.scoring.judge.kept_answers import Said
from retune.scoring.judge.local_judge import LocalJudge
from retune.scoring.judge.spending import Purse
from retune.scoring.judge.stages import CheckLocalJudgeInputs, LocalJudgeInputs, LocalJudgeSettings
from retune.scoring.judge.standing import doubt_judge
from retune.scoring.judge.win_rate import judge_answers_locally
from retune.scoring.judge.wording import locate_wording
from tests.making import settings_of, source_of
from tests.retune.scoring.judge.conftest import (
    work_in,
    write_answers_of,
    write_asked_rows,
    write_verdicts,
)
from tests.tiny_models import REPOSITORY

BASE = REPOSITORY / "assets" / "base_tiny"
MODEL = ScoredModel(digest="the embedded base", weights=BASE, tokenizer=BASE)
SECTIONS: dict[str, Any] = {
    "judge": {"local": str(BASE), "max_new_tokens": 8},
    "scoring": {"resamples": 200, "runtime": {"batch_size": 4, "devices": 1}},
}


def test_a_model_that_gives_no_verdicts_is_counted_and_decides_nothing(tmp_path: Path) -> None:
    """Held against people it agrees with nobody; asked about answers it has no figure.

    Its answers are kept as an endpoint's are: a second judging loads no model.
    """
    settings = settings_of(LocalJudgeSettings, **SECTIONS)
    wording = locate_wording(None, "pt")
    path = write_verdicts(tmp_path / "v.jsonl", [("sim", "não", "a"), ("x", "y", "b")])
    inputs = CheckLocalJudgeInputs(human_verdicts=source_of(path), wording=wording, judge=MODEL)
    found = check_local_judge(inputs, settings, work_in(tmp_path, "check"))
    assert found.unscored == {"no_verdict": 2}
    assert (found.kappa.value, found.spent.asked) == (0.0, 8)
    assert found.spent.input_tokens > 8 * 50
    config = JudgeConfig(local=str(BASE), human_verdicts=path)
    assert "2 of 2 pairs have no verdict" in doubt_judge(config, found)[0]

    split, source = write_asked_rows(tmp_path / "rows", 2)
    answers = LocalJudgeInputs(
        challenger=write_answers_of(tmp_path / "ours", ["sim", "igual"]),
        opponent=write_answers_of(tmp_path / "theirs", ["não", "igual"]),
        split=split,
        sources=(source,),
        system=None,
        wording=wording,
        itself=("the base",),
        judge=MODEL,
    )
    first = judge_answers_locally(answers, settings, work_in(tmp_path, "one"))
    assert first.unscored == {"no_verdict": 1} and first.equal == 1
    again = judge_answers_locally(answers, settings, work_in(tmp_path, "two"))
    assert again.digest == first.digest and again.spent.asked == 0


def test_what_a_local_judge_is_asked_does_not_depend_on_its_batches() -> None:
    """Alone or beside others, each question has its own answer."""
    questions = ["Quantos clientes há?", "Liste os nomes dos produtos.", "Qual é o maior?"]

    def ask(batch_size: int) -> dict[int, Said]:
        said: dict[int, Said] = {}
        judge = LocalJudge(
            MODEL,
            max_new_tokens=6,
            batch_size=batch_size,
            devices=1,
            purse=Purse(JudgeConfig(local="x").budget, None),
        )
        judge.answer(questions, said.__setitem__)
        return said

    assert ask(1) == ask(3)
    assert sorted(ask(1)) == [0, 1, 2]


def test_a_pair_that_does_not_fit_the_judge_has_no_verdict(tmp_path: Path) -> None:
    """It is counted by its reason, and the others go on."""
    path = write_verdicts(tmp_path / "v.jsonl", [("palavra " * 20_000, "y", "a"), ("x", "y", "b")])
    inputs = CheckLocalJudgeInputs(
        human_verdicts=source_of(path), wording=locate_wording(None, "pt"), judge=MODEL
    )
    settings = settings_of(LocalJudgeSettings, **SECTIONS)
    found = check_local_judge(inputs, settings, work_in(tmp_path, "check"))
    assert found.unscored == {"no_verdict": 1, "prompt_too_long": 1}
    assert found.kappa.n == 1
