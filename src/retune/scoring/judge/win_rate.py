"""The stage `judge_answers`: of two models' answers to the same rows, how often one is better.

`judge_win_rate`: wins and half the ties, as a share of the rows with a verdict; the opponent's is
what is left of 1. The difference of the two is wins minus losses, which the gate compares row by
row: a tie is a row that neither won. Over rows on their own its test is the exact sign test over
the decided rows (McNemar's, of wins and losses). Rows with equal answers are ties, and not asked
about; a row that a model could not answer, or that has no verdict, has no figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from retune.digests import digest_folder
from retune.score_records import JudgedAnswers, JudgedSide, Metric
from retune.scoring.judge.asked import read_asked
from retune.scoring.judge.asking import Asking, PairVerdict, count_reasons, list_first_preferred
from retune.scoring.judge.opening import open_asking, open_local_asking
from retune.scoring.judge.spending import Purse
from retune.scoring.judge.stages import (
    JudgeInputs,
    JudgeSettings,
    LocalJudgeInputs,
    LocalJudgeSettings,
)
from retune.scoring.judge.wording import Pair
from retune.scoring.outcomes import read_outcomes, write_outcomes
from retune.scoring.uncertainty.estimates import estimate_rate, estimate_ratio, wilson_interval
from retune.spine.stage import Workdir

FIGURE = "judge_win_rate"
_VALUES = {"a": 1.0, "tie": 0.5, "b": 0.0}
_EQUAL = "equal"

Row = dict[str, Any]


class _Judged(NamedTuple):
    """A row of both models, and what was said of it; None where nothing was asked."""

    ours: Row
    theirs: Row
    found: PairVerdict | None

    @property
    def is_equal(self) -> bool:
        """Whether both gave the same answer."""
        return self.unanswered is None and _is_equal(self.ours, self.theirs)

    @property
    def unanswered(self) -> str | None:
        """Why a model has no answer."""
        return _reason_of(self.ours, self.theirs)

    @property
    def reason(self) -> str | None:
        """Why there is no verdict."""
        return self.unanswered or (self.found.reason if self.found else None)

    @property
    def value(self) -> float | None:
        """What the challenger has of the row."""
        if self.is_equal:
            return _VALUES["tie"]
        verdict = self.found.verdict if self.found else None
        return None if verdict is None else _VALUES[verdict]


def judge_answers(inputs: JudgeInputs, settings: JudgeSettings, work: Workdir) -> JudgedAnswers:
    """Let a judge at an endpoint compare two models' answers.

    Args:
        inputs: Both models' answers, as `score_text` keeps them, and how the judge is asked.
        settings: The judge, its budget, bootstrap draws.
        work: A folder for each of the two, with `rows.jsonl`, goes to its artifact folder.

    Returns:
        The win rates, and what was counted.

    Raises:
        ConfigError: The endpoint knows no such key or model.
        ScoringError: It refuses every question.
        ServiceError: It does not answer.
    """
    asking, purse = open_asking(inputs.wording, settings, work)
    return _judge(inputs, asking, purse, settings.resamples, work)


def judge_answers_locally(
    inputs: LocalJudgeInputs, settings: LocalJudgeSettings, work: Workdir
) -> JudgedAnswers:
    """Let a model of this machine compare two models' answers; as `judge_answers`."""
    asking, purse = open_local_asking(inputs.wording, inputs.judge, settings, work)
    return _judge(inputs, asking, purse, settings.resamples, work)


def _judge(
    inputs: JudgeInputs, asking: Asking, purse: Purse, resamples: int, work: Workdir
) -> JudgedAnswers:
    theirs = {row["row_id"]: row for row in read_outcomes(inputs.opponent)}
    both = [
        (row, theirs[row["row_id"]])
        for row in read_outcomes(inputs.challenger)
        if row["row_id"] in theirs
    ]
    asked = [pair for pair in both if not (_reason_of(*pair) or _is_equal(*pair))]
    sources = [each.folder / "rows.parquet" for each in inputs.sources]
    told = read_asked(inputs.split.folder / "test.parquet", sources, inputs.system)
    pairs = [
        Pair(told[ours["row_id"]], ours["prediction"], other["prediction"]) for ours, other in asked
    ]
    verdicts = asking.judge_pairs(pairs)
    by_id = {ours["row_id"]: each for (ours, _), each in zip(asked, verdicts, strict=True)}
    judged = [_Judged(*pair, by_id.get(pair[0]["row_id"])) for pair in both]
    _write(work, judged)
    values = [each.value for each in judged]
    first, shown = list_first_preferred(verdicts)
    rate = estimate_win_rate(values, [each.ours["group"] for each in judged], resamples)
    return JudgedAnswers(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        rows=len(judged),
        unscored=count_reasons(each.reason for each in judged),
        wins=values.count(1.0),
        losses=values.count(0.0),
        ties=values.count(0.5),
        equal=sum(each.is_equal for each in judged),
        turned=sum(each.changed for each in verdicts),
        first_preferred=estimate_rate(first, groups=shown, resamples=resamples),
        win_rates={"challenger": rate, "opponent": _other_side(rate)},
        itself=inputs.itself,
        spent=purse.tell(asking.asked, asking.reused),
    )


def _reason_of(ours: Row, theirs: Row) -> str | None:
    found: str | None = ours["reason"] or theirs["reason"]
    return found


def _is_equal(ours: Row, theirs: Row) -> bool:
    return str(ours["prediction"]).strip() == str(theirs["prediction"]).strip()


def _write(work: Workdir, judged: Sequence[_Judged]) -> None:
    sides: tuple[JudgedSide, ...] = ("challenger", "opponent")
    for side in sides:
        folder = work.artifact / side
        folder.mkdir()
        write_outcomes(folder, (_as_row(each, side) for each in judged))


def _as_row(judged: _Judged, side: JudgedSide) -> Row:
    ours, theirs, found = judged
    own, other = (ours, theirs) if side == "challenger" else (theirs, ours)
    value = judged.value
    turned = value if value is None or side == "challenger" else 1 - value
    return {
        "row_id": ours["row_id"],
        "group": ours["group"],
        "question": ours["question"],
        "prediction": own["prediction"],
        "opponents": other["prediction"],
        "reason": judged.reason,
        "compared": _EQUAL if judged.is_equal else "changed" if found and found.changed else None,
        "said": [each.text for each in found] if found else [],
        FIGURE: turned,
    }


def estimate_win_rate(
    values: Sequence[float | None], groups: Sequence[str | None], resamples: int
) -> Metric:
    """Estimate a win rate.

    Args:
        values: 1 for a row that was won, a half for a tie, 0 for one that was lost; None without a
            verdict.
        groups: What each row shares with others.
        resamples: Bootstrap draws.

    Returns:
        The mean, with the wider, on each side, of the bootstrap's interval and Wilson's: a model
        that won all of six rows is not known to win all.
    """
    kept = [at for at, value in enumerate(values) if value is not None]
    scored = [float(values[at] or 0.0) for at in kept]
    found = estimate_ratio(scored, groups=[groups[at] for at in kept], resamples=resamples)
    if found.value is None:
        return found
    low, high = wilson_interval(round(sum(scored)), len(scored))
    low = low if found.low is None else min(low, found.low)
    high = high if found.high is None else max(high, found.high)
    return found.model_copy(update={"low": max(0.0, low), "high": min(1.0, high)})


def _other_side(rate: Metric) -> Metric:
    if rate.value is None or rate.low is None or rate.high is None:
        return rate
    update = {"value": 1 - rate.value, "low": 1 - rate.high, "high": 1 - rate.low}
    return rate.model_copy(update=update)
