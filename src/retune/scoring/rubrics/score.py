"""The stage `check_rubrics`: written answers, each checked by every rule of the recipe.

The answers are those of `score_text`, so that a changed rule asks no model again. A figure is the
part of the judged rows that keep to the rule, with Wilson's interval, rows of one group together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from retune.data.tables import iterate_rows
from retune.digests import digest_folder
from retune.recipe.sections.rubrics import figure_name
from retune.records import LOG_FOLDER
from retune.score_records import Metric, ScoreReport
from retune.scoring.outcomes import read_outcomes, write_outcomes
from retune.scoring.rubrics.checking import RubricChecker, Verdict, Written
from retune.scoring.stages import RubricInputs, RubricSettings
from retune.scoring.uncertainty.estimates import estimate_rate
from retune.spine.stage import Workdir

Row = dict[str, Any]


def check_rubrics(inputs: RubricInputs, settings: RubricSettings, work: Workdir) -> ScoreReport:
    """Check each written answer by every rule.

    Args:
        inputs: Answers as `score_text` wrote them, and their rows, for the prompts.
        settings: The rules, bootstrap draws.
        work: `rows.jsonl` with what each rule says of each answer goes to its artifact folder.

    Returns:
        One figure a rule; rows that a rule could not judge are counted by the reason.

    Raises:
        ConfigError: A language cannot be recognised.
    """
    answers = read_outcomes(inputs.answers)
    table = iterate_rows(inputs.rows.folder / "rows.parquet", ["row_id", "prompt"])
    prompts = {row["row_id"]: row["prompt"] or "" for row in table}
    names = [figure_name(each) for each in settings.rubrics]
    outcomes = []
    with RubricChecker(settings.rubrics) as checker:
        for done, row in enumerate(answers, start=1):
            if row["reason"]:
                said = dict.fromkeys(names, Verdict(None, row["reason"]))
            else:
                said = checker.check(Written(row["prediction"], prompts[row["row_id"]]))
            outcomes.append(_outcome(row, said))
            work.reporter.progress("answers checked", done, len(answers))
    write_outcomes(work.artifact, outcomes)
    unscored = Counter(
        f"{name}_{row['why'][name]}" for row in outcomes for name in names if row[name] is None
    )
    return ScoreReport(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        metrics={name: _estimate(name, outcomes, settings.resamples) for name in names},
        rows=len(outcomes),
        unscored=dict(unscored),
    )


def _outcome(row: Mapping[str, Any], said: Mapping[str, Verdict]) -> Row:
    return {
        "row_id": row["row_id"],
        "group": row["group"],
        **{name: _as_number(each) for name, each in said.items()},
        "why": {name: each.reason for name, each in said.items() if each.reason},
    }


def _as_number(verdict: Verdict) -> float | None:
    return None if verdict.passed is None else float(verdict.passed)


def _estimate(name: str, outcomes: Sequence[Row], resamples: int) -> Metric:
    scored = [row for row in outcomes if row[name] is not None]
    groups = [row["group"] for row in scored]
    return estimate_rate([bool(row[name]) for row in scored], groups=groups, resamples=resamples)
