"""Asking a model questions of held-out rows once more, and judging answers by what each row is.

The outcome of an answer is, by row: with a database, execution match as `retune.scoring.sql`
defines it; with a label, whether the predicted class is the row's; any other, the answer's text.
An outcome of None is unscored, with a reason: the prompt was not asked, the reference cannot be
run, or the label is none of the classes (`gold_not_a_label`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from retune.inference.generation import write_answers
from retune.inference.loaded_models import SLOT, LoadedModel
from retune.scoring.label_predictions import find_label_answers, predict_labels
from retune.scoring.sql.rows import read_sql_rows
from retune.scoring.sql.score import extract_sql, score_queries
from retune.scoring.stages import RobustnessInputs, RobustnessSettings
from retune.spine.stage import Workdir
from retune.sql.records import SqlLimits, SqlOutcome

GOLD_NOT_A_LABEL = "gold_not_a_label"

Row = dict[str, Any]
Key = tuple[str, str]
"""Row id and a text: the question as it was asked, or the query that answers it."""


class Judged(NamedTuple):
    """What came of one question.

    Attributes:
        outcome: Right or wrong, or the answer; None where unscored.
        answer: What the model wrote, or the class that it named.
        reason: Why there is no outcome.
    """

    outcome: bool | str | None
    answer: str | None
    reason: str | None


class Asked(NamedTuple):
    """One prompt that a model answers."""

    row: Row
    prompt: str


class AnswerJudge:
    """Asks a model and judges its answers by what each row is.

    Args:
        inputs: Model, the rows' side, classes.
        settings: Lengths, dialect, how a class is named.
        work: Where progress goes.
        rows: All rows of the side: how classes are written is read from them.
    """

    def __init__(
        self,
        inputs: RobustnessInputs,
        settings: RobustnessSettings,
        work: Workdir,
        rows: Sequence[Row],
    ) -> None:
        self._inputs, self._settings, self._work, self._rows = inputs, settings, work, rows
        self._loaded: LoadedModel = SLOT.get(inputs.model, settings.devices)

    def judge(self, asked: Sequence[Asked]) -> list[Judged]:
        """Ask the model and say what came of each prompt, in their order."""
        judges: dict[str, Callable[[Sequence[Asked]], list[Judged]]] = {
            "sql": self._judge_sql,
            "label": self._judge_labels,
            "text": self._judge_texts,
        }
        judged: dict[int, Judged] = {}
        for name, judge in judges.items():
            places = [at for at, one in enumerate(asked) if self._judged_by(one.row) == name]
            found = judge([asked[at] for at in places]) if places else []
            judged |= dict(zip(places, found, strict=True))
        return [judged[at] for at in range(len(asked))]

    def _judged_by(self, row: Row) -> str:
        if row["db_id"] is not None:
            return "sql"
        return "label" if row["label"] is not None and self._inputs.labels else "text"

    def _report(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._work.reporter.progress(what, done, total)

    def _encode(self, asked: Sequence[Asked]) -> list[list[int]]:
        prompts = [one.prompt for one in asked]
        ids: list[list[int]] = self._loaded.tokenizer(prompts, add_special_tokens=False)[
            "input_ids"
        ]
        return ids

    def _judge_texts(self, asked: Sequence[Asked]) -> list[Judged]:
        answers = write_answers(
            self._loaded,
            self._encode(asked),
            max_new_tokens=self._settings.max_new_tokens,
            batch_size=self._settings.batch_size,
            progress=self._report("answers"),
        )
        return [Judged(answer.text, answer.text, answer.unscored_reason) for answer in answers]

    def _judge_labels(self, asked: Sequence[Asked]) -> list[Judged]:
        labels = self._inputs.labels
        found = predict_labels(
            self._loaded,
            self._encode(asked),
            find_label_answers(self._rows, labels, self._loaded),
            classify_by=self._settings.classify_by,
            max_new_tokens=self._settings.max_new_tokens,
            batch_size=self._settings.batch_size,
            progress=self._report("classes"),
        )
        judged = []
        for place, (row, _) in enumerate(asked):
            prediction, reason = found.predictions[place], found.unscored_reasons[place]
            if row["label"] not in labels:
                reason = GOLD_NOT_A_LABEL
            # No prediction is a wrong answer, unless it was not asked.
            right = prediction == row["label"] if reason is None else None
            judged.append(Judged(right, found.texts[place], reason))
        return judged

    def _judge_sql(self, asked: Sequence[Asked]) -> list[Judged]:
        written = self._judge_texts(asked)
        queries = {
            (one.row["row_id"], extract_sql(text.answer)): one.row
            for one, text in zip(asked, written, strict=True)
            if text.answer is not None
        }
        verdicts = self._run_queries(queries)
        judged = []
        for (row, _), text in zip(asked, written, strict=True):
            if text.answer is None:
                judged.append(text)
                continue
            query = extract_sql(text.answer)
            verdict = verdicts[row["row_id"], query]
            judged.append(Judged(verdict.execution_match, query, verdict.unscored_reason))
        return judged

    def _run_queries(self, queries: dict[Key, Row]) -> dict[Key, SqlOutcome]:
        """Judge each query of a row once: most changes leave the query as it was."""
        if not queries:
            return {}
        scores = score_queries(
            read_sql_rows(list(queries.values()), self._inputs.rows),
            [query for _, query in queries],
            dialect=self._settings.sql_dialect,
            limits=SqlLimits(deadline_s=self._settings.sql_timeout_seconds),
            report_progress=self._report("queries"),
        )
        return dict(zip(queries, scores.outcomes, strict=True))
