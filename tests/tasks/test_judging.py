"""A judge in a run: looked at before the training, and who it is among the models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retune.errors import ConfigError, ScoringError
from retune.model_records import ChampionRef, MergedRef
from retune.modeling.memory.stage_sizes import JudgeSizes
from retune.score_records import ModelScores
from retune.scoring.judge.wording import locate_wording
from tasks import judging
from tasks.runs.job import Job
from tests.judge_stand_in import StandInJudge, always_first, preferring, standing_in
from tests.making import source_of
from tests.retune.preflight.test_memory_plan import plan_judged
from tests.retune.preflight.test_memory_plan import sized as sizes
from tests.retune.scoring.judge.conftest import write_answers_of, write_asked_rows, write_verdicts
from tests.tasks.conftest import PENDING, MakeJob, labels_of, locate, make_data
from tests.tiny_models import REPOSITORY

BASE = REPOSITORY / "assets" / "base_tiny"
RIGHT = preferring(lambda _, answer: float("right" in answer))
VERDICTS = [("right", "wrong", "a"), ("wrong", "right", "b")] * 10
ANSWERS = {"scoring": {"text_metrics": ["chrf"], "resamples": 200}}


@pytest.fixture
def make_judged(tmp_path: Path, make_job: MakeJob) -> Any:
    """Make jobs whose judge is a server of this machine, and that run their stages right here."""

    def make(judge: StandInJudge, held: bool = True, **sections: Any) -> Job:
        config = {"endpoint": judge.address, "model": "judge"}
        given: dict[str, Any] = {"judge_wording": locate_wording(None, "en")}
        if held:
            path = write_verdicts(tmp_path / "verdicts.jsonl", VERDICTS)
            config |= {"human_verdicts": str(path)}
            given |= {"human_verdicts": source_of(path)}
        rows = locate(format_name="instruction")
        job = make_job(rows, given=given, judge=config, **ANSWERS, **sections)
        split, source = write_asked_rows(tmp_path / f"rows{held}", 8)
        data = replace(make_data(tmp_path), split=split, rows=(source,))
        return replace(job, run=replace(job.run, planning=False, direct=True), data=data)

    return make


def test_a_judge_that_is_to_decide_is_refused_before_the_training(make_judged: Any) -> None:
    """By what was measured; asked again, it is not asked at all."""
    with standing_in() as judge:
        judge.rule = always_first
        job = make_judged(judge, gate={"metric": "judge_win_rate"})
        for _ in range(2):
            with pytest.raises(ScoringError, match=r"gate\.metric: the judge judge may decide"):
                judging.check_judge(job)
        assert judge.requests == 2 * len(VERDICTS)


def test_a_judge_that_decides_nothing_may_lean_to_what_it_likes(make_judged: Any) -> None:
    """It is measured all the same; without people's verdicts it is not even asked."""
    with standing_in() as judge:
        judge.rule = always_first
        found = judging.check_judge(make_judged(judge))
        assert found is not None and found.kappa.value == 0.0
        before = judge.requests
        assert judging.check_judge(make_judged(judge, held=False)) is None
        assert judge.requests == before


@pytest.fixture
def scores(tmp_path: Path) -> dict[Any, ModelScores | None]:
    """Answers of three models to eight rows: the challenger is better than the champion alone."""
    answers = {"merged": ["right"] * 8, "base": ["right so"] * 8, "champion": ["wrong"] * 8}
    found: dict[Any, ModelScores | None] = {
        role: ModelScores.of({"text": write_answers_of(tmp_path / role, each)})
        for role, each in answers.items()
    }
    return found | {"adapter": None}


def make_merged(folder: Path) -> MergedRef:
    return MergedRef(
        digest="merged",
        folder=folder,
        rows_checked=1,
        max_logit_difference=0.0,
        logit_spread=1.0,
        answers_equal=1,
    )


def rate_of(scores: Any, role: str) -> float | None:
    found = scores[role].metrics().get("judge_win_rate")
    return None if found is None else found.value


def test_the_champion_is_the_opponent_and_the_base_where_there_is_none(
    make_judged: Any, scores: Any, tmp_path: Path
) -> None:
    """Both have what is theirs of the rate; a judge that nobody has looked at is in doubt."""
    merged = make_merged(tmp_path)
    champion = ChampionRef(digest="c", version=1, weights=tmp_path, tokenizer=tmp_path)
    with standing_in() as judge:
        judge.rule = RIGHT
        job = make_judged(judge, held=False)
        against = judging.judge_release(job, merged, champion, scores, None)
        assert [rate_of(against, role) for role in ("merged", "champion", "base")] == [
            1.0,
            0.0,
            None,
        ]
        alone = judging.judge_release(job, merged, None, scores, None)
        assert [rate_of(alone, role) for role in ("merged", "base")] == [0.5, 0.5]
    assert against["merged"].judge.figures["requests"] == 2 * 8
    assert against["merged"].judge.doubts == alone["base"].judge.doubts != ()
    assert against["merged"].digest not in (scores["merged"].digest, alone["merged"].digest)


@pytest.mark.parametrize(
    ("names", "itself"),
    [
        ({"model": {"id": "judge"}}, ["the base", "the challenger"]),
        ({"registry": {"model_name": "judge"}}, ["the champion"]),
        ({}, []),
    ],
)
def test_a_judge_that_judges_itself_is_named(
    make_judged: Any, scores: Any, tmp_path: Path, names: dict[str, Any], itself: list[str]
) -> None:
    """By its name at the endpoint; what was trained from it is its own kind."""
    champion = ChampionRef(digest="c", version=1, weights=tmp_path, tokenizer=tmp_path)
    with standing_in() as judge:
        judge.rule = RIGHT
        job = make_judged(judge, held=False, **names)
        base = job.inputs.base.model_copy(update={"model_id": job.run.recipe.model.id})
        job = replace(job, inputs=replace(job.inputs, base=base))
        found = judging.judge_release(job, make_merged(tmp_path), champion, scores, None)
    told = [note for note in found["merged"].judge.notes if "judges itself" in note]
    assert len(told) == bool(itself)
    assert all(name in told[0] for name in itself)


def test_a_plan_knows_that_a_judge_will_be_asked(make_judged: Any, scores: Any) -> None:
    """Before the challenger is there, nothing is asked."""
    with standing_in() as judge:
        job = make_judged(judge, held=False)
        job = replace(job, run=replace(job.run, planning=True))
        judging.judge_release(job, PENDING, None, {**scores, "merged": PENDING}, None)
        assert labels_of(job) == ["judge_answers"]
        assert judge.requests == 0


def test_without_a_judge_scores_are_as_they_are(
    make_job: MakeJob, scores: Any, tmp_path: Path
) -> None:
    """And so is a model that writes nothing: the gate says that it could not be compared."""
    job = make_job(locate(format_name="instruction"), **ANSWERS)
    assert judging.check_judge(job) is None
    assert judging.judge_release(job, make_merged(tmp_path), None, scores, None) is scores


def test_a_local_judge_is_found_by_what_it_holds(make_job: MakeJob, tmp_path: Path) -> None:
    """A folder of this machine; one that is not there is refused before the training."""
    job = make_job(judge={"local": str(BASE)}, **ANSWERS)
    found = judging.find_local(job)
    assert found is not None and found.weights == BASE
    path = write_verdicts(tmp_path / "verdicts.jsonl", VERDICTS)
    given = {"judge_wording": locate_wording(None, "en"), "human_verdicts": source_of(path)}
    absent = make_job(given=given, judge={"local": str(tmp_path / "none")}, **ANSWERS)
    with pytest.raises(ConfigError, match="there is no folder"):
        judging.check_judge(absent)


def test_a_local_judge_is_held_where_the_plan_says(make_job: MakeJob) -> None:
    """It is the same judge there: what it said elsewhere is kept."""
    job = make_job(judge={"local": str(BASE)}, **ANSWERS)
    whole, sized = judging.find_local(job), JudgeSizes(digest="j", asked=sizes(14_000, 600, 500))
    found = judging.find_local(replace(job, plan=plan_judged("6GB", "16GB", sized)))
    assert whole is not None and found is not None
    assert (whole.place.placement, found.place.placement) == ("device", "offloaded")
    assert found.digest == whole.digest
