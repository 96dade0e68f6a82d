"""Held-out rows to look through in a run's report: what each model answered, and who was better.

Whether a row was won is told by the figure that decides, where that is one of rows, else by the
first that compares answers row by row: the number that the gate's own differences are made of.
A page holds so many rows and characters; where there are more, those that were lost come first,
then the won, the unscored and the tied. Secrets and personal data are redacted, as in samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

from retune.data.quality.sensitive import redact
from retune.data.tables import iterate_rows
from retune.gate.pairing import gain_by_row, pair_rows
from retune.model_records import Role
from retune.records import Record, SideRef
from retune.release.samples import Row, answer_of, answers_by_row, is_right
from retune.score_records import ModelScores, ScoreReport
from retune.scoring.figures import all_figures, figure_of
from retune.scoring.showing import ROLE_LABELS, label_of
from retune.visible_text import visible

Outcome = Literal["lost", "won", "unscored", "tied"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
"""What can be said of a row, in the order in which rows are taken into a page."""
MOST_ROWS = 2_000
MOST_CHARACTERS = 4_000_000
LONGEST_TEXT = 4_000
"""Characters of one prompt or answer that a page shows."""
CHALLENGER: Role = "merged"
_OPPONENTS: tuple[Role, ...] = ("champion", "base")
_COLUMNS: tuple[Role, ...] = ("base", "champion", CHALLENGER)


class ExploredRow(Record):
    """One held-out row, as a page shows it."""

    row_id: str
    group: str | None
    outcome: Outcome
    question: str
    prompt: str | None
    """The whole prompt as the recipe's base reads it; None where it is not known."""
    reference: str
    answers: dict[Role, str | None]
    """None where the model could not be asked."""
    right: dict[Role, bool | None]
    """Whether the answer is right; None where that could not be said."""


class Exploration(Record):
    """The rows that a page shows, and how many there are."""

    metric: str | None
    """The figure by which a row is won or lost; None where no figure compares rows."""
    against: Role | None
    """Whom the challenger is compared with."""
    counts: dict[Outcome, int]
    """Of all rows that the challenger answered."""
    rows: tuple[ExploredRow, ...]

    @property
    def selection(self) -> str:
        """Which rows these are, in words."""
        total = sum(self.counts.values())
        if len(self.rows) == total:
            return f"All {total:,} rows that were answered."
        shown = Counter(row.outcome for row in self.rows)
        parts = [
            f"{shown[each]:,} of {count:,} {each}" for each, count in self.counts.items() if count
        ]
        return f"{len(self.rows):,} of {total:,} rows, chosen in this order: {', '.join(parts)}."

    @property
    def basis(self) -> str:
        """By what a row is won or lost, in words."""
        if self.metric is None or self.against is None:
            return "No figure compares these answers row by row, so none is won or lost."
        way = "lower" if figure_of(self.metric).lower_is_better else "higher"
        return (
            f"A row is won where the released model has the {way} {label_of(self.metric)} than "
            f"the {self.against}."
        )

    def as_json(self) -> dict[str, Any]:
        """Return what the page's script reads; what would steer a screen is written out."""
        roles = [role for role in _COLUMNS if any(role in row.answers for row in self.rows)]
        return {
            "roles": [[role, ROLE_LABELS[role]] for role in roles],
            "rows": [_visible(row.model_dump()) for row in self.rows],
        }


def explore_rows(scores: Mapping[Role, ModelScores], metric: str, side: SideRef) -> Exploration:
    """Choose the rows that the page of a run shows.

    Args:
        scores: Reports by role.
        metric: The figure that decided.
        side: The held-out rows, for their prompts.

    Returns:
        The rows, in the order in which they were answered; none where no model wrote answers.

    Raises:
        ScoringError: Two reports are not over the same rows.
    """
    answers = {role: answers_by_row(scores[role]) for role in _COLUMNS if role in scores}
    ours = answers.get(CHALLENGER, {})
    against = next((role for role in _OPPONENTS if role in scores), None)
    pair = _choose_figure(scores, metric, against)
    gains = gain_by_row(pair[0], pair_rows(*pair)) if pair else {}
    outcomes = {row_id: _outcome_of(gains.get(row_id)) for row_id in ours}
    counted = Counter(outcomes.values())
    # The sort is stable: rows of one outcome stay in their order.
    first = sorted(ours, key=lambda row_id: OUTCOMES.index(outcomes[row_id]))[:MOST_ROWS]
    prompts, texts = _read_prompts(side, first), _Texts()
    found = (
        _explore(
            {role: rows[row_id] for role, rows in answers.items() if row_id in rows},
            outcomes[row_id],
            prompts.get(row_id),
            texts,
        )
        for row_id in first
    )
    kept = {row.row_id: row for row in _take_what_fits(found)}
    return Exploration(
        metric=pair[0] if pair else None,
        against=against,
        counts={each: counted[each] for each in OUTCOMES},
        rows=tuple(kept[row_id] for row_id in ours if row_id in kept),
    )


def _take_what_fits(rows: Iterable[ExploredRow]) -> Iterator[ExploredRow]:
    """Yield rows until a page is full."""
    characters = 0
    for row in rows:
        said = (row.question, row.prompt, row.reference, *row.answers.values())
        characters += sum(len(text or "") for text in said)
        if characters > MOST_CHARACTERS:
            return
        yield row


def _choose_figure(
    scores: Mapping[Role, ModelScores], metric: str, against: Role | None
) -> tuple[str, ScoreReport, ScoreReport] | None:
    """Name the figure that tells rows apart, with both reports; None where there is none."""
    if CHALLENGER not in scores or against is None:
        return None
    ours, theirs = scores[CHALLENGER], scores[against]
    names = [each.name for each in all_figures(ours.metrics()) if each.over == "rows"]
    for name in sorted(names, key=lambda name: name != metric):
        pair = ours.report_of(name), theirs.report_of(name)
        if pair[0] is not None and pair[1] is not None:
            return name, pair[0], pair[1]
    return None


def _outcome_of(gain: float | None) -> Outcome:
    if gain is None:
        return "unscored"
    return "won" if gain > 0 else "lost" if gain < 0 else "tied"


def _read_prompts(side: SideRef, row_ids: Collection[str]) -> dict[str, str]:
    wanted = set(row_ids)
    rows = iterate_rows(side.folder / "rows.parquet", ["row_id", "prompt"])
    return {row["row_id"]: row["prompt"] for row in rows if row["row_id"] in wanted}


class _Texts:
    """Redacts and cuts texts, each once: models mostly write the same."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, text: object) -> str:
        said = str(text)
        if said not in self._known:
            self._known[said] = _cut(redact(said))
        return self._known[said]


def _explore(
    rows: Mapping[Role, Row], outcome: Outcome, prompt: str | None, texts: _Texts
) -> ExploredRow:
    ours = rows[CHALLENGER]
    asked = {role: answer_of(row) for role, row in rows.items()}
    return ExploredRow(
        row_id=ours["row_id"],
        group=ours["group"],
        outcome=outcome,
        question=texts(ours["question"]),
        prompt=None if prompt is None else texts(prompt),
        reference=texts(ours["reference"]),
        answers={role: None if said is None else texts(said) for role, said in asked.items()},
        right={role: is_right(row) for role, row in rows.items()},
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {name: _visible(each) for name, each in value.items()}
    return value
