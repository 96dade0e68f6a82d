"""Robustness of a model on held-out rows: their questions again, spoilt on purpose.

`flip_rate` and `flip_rate.KIND`, as `retune.scoring.robustness` defines them: the share of changed
questions whose outcome is another one than the same row's without the change. Lower is better. The
outcome is, by row:

- with a database: execution match, as `retune.scoring.sql` defines it (right or wrong);
- with a label: whether the predicted class is the row's (right or wrong);
- any other: the answer's text, letter by letter.

So a wrong query or class that becomes another wrong one is no flip, and another wording is one.

The changed question is put into the row's own prompt in place of the question's last occurrence:
the schema, earlier turns and the template stay letter by letter. Rows are drawn among those with a
question by a hash of seed and row id, so that neither their order nor rows that are added choose
others. The answer to the unchanged question is computed once per row, all kinds are answered
together, and a question that its kind leaves as it is is neither asked nor counted in a rate.

Excluded, and counted by reason: rows whose prompt does not hold the question verbatim (a template
that rewrites it: `question_not_found`), prompts that do not fit into the context, and rows without
an outcome before or after (a broken reference, say).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.modeling.loading import SLOT, LoadedModel
from retune.recipe.sections import RobustnessConfig
from retune.records import ScoreReport
from retune.requests import RobustnessInputs, RobustnessSection
from retune.scoring.generation import write_answers
from retune.scoring.held_out import refuse_other_tokenizer
from retune.scoring.labels import find_label_answers, predict_labels
from retune.scoring.outcomes import write_outcomes
from retune.scoring.robustness import (
    FlipScores,
    Kind,
    PerturbationOptions,
    Trial,
    load_paraphrases,
    perturb,
    score_flips,
)
from retune.scoring.sql.records import SqlLimits, SqlOutcome, SqlRow
from retune.scoring.sql.score import extract_sql, score_sql
from retune.stage import Workdir

FLIPS_FILE = "flips.json"
_DATABASES_FILE = "databases.parquet"
QUESTION_NOT_FOUND = "question_not_found"
GOLD_NOT_A_LABEL = "gold_not_a_label"
UNCHANGED = "unchanged"

Row = dict[str, Any]
Key = tuple[str, str]
"""Row id and the question as it was asked."""


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


@dataclass(frozen=True)
class Change:
    """One row's question and what one kind makes of it.

    Attributes:
        row: Of the side's `rows.parquet`.
        kind: Which change.
        question: Without white space around it, which some templates cut off.
        perturbed: The same text where there is nothing to change.
    """

    row: Row
    kind: Kind
    question: str
    perturbed: str

    @property
    def is_asked(self) -> bool:
        """Whether there is something to ask, and a place to ask it in."""
        return self.perturbed != self.question and self.question in self.row["prompt"]


class Asked(NamedTuple):
    """One prompt that a model answers."""

    row: Row
    prompt: str


class AnswerJudge:
    """Asks a model and judges its answers by what each row is.

    Args:
        inputs: Model, the rows' side, classes.
        section: Lengths, dialect, how a class is named.
        work: Where progress goes.
        rows: All rows of the side: how classes are written is read from them.
    """

    def __init__(
        self,
        inputs: RobustnessInputs,
        section: RobustnessSection,
        work: Workdir,
        rows: Sequence[Row],
    ) -> None:
        self._inputs, self._scoring, self._work, self._rows = inputs, section.scoring, work, rows
        self._loaded: LoadedModel = SLOT.get(inputs.model)

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
            max_new_tokens=self._scoring.max_new_tokens,
            batch_size=self._scoring.runtime.batch_size,
            progress=self._report("answers"),
        )
        return [Judged(answer.text, answer.text, answer.unscored_reason) for answer in answers]

    def _judge_labels(self, asked: Sequence[Asked]) -> list[Judged]:
        labels = self._inputs.labels
        found = predict_labels(
            self._loaded,
            self._encode(asked),
            find_label_answers(self._rows, labels, self._loaded),
            classify_by=self._scoring.classify_by,
            max_new_tokens=self._scoring.max_new_tokens,
            batch_size=self._scoring.runtime.batch_size,
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
        scores = score_sql(
            _as_sql_rows(queries.values(), read_rows(self._inputs.rows.folder / _DATABASES_FILE)),
            [query for _, query in queries],
            dialect=self._scoring.sql_dialect,
            limits=SqlLimits(deadline_s=self._scoring.sql_timeout_seconds),
            report_progress=self._report("queries"),
        )
        return dict(zip(queries, scores.outcomes, strict=True))


def probe_robustness(
    inputs: RobustnessInputs, section: RobustnessSection, work: Workdir
) -> ScoreReport:
    """Ask held-out questions again, spoilt on purpose, and count the outcomes that turn.

    Args:
        inputs: Model, rows, classes, questions in other words.
        section: Kinds of change, how many rows, seed; lengths and dialect as on held-out rows.
        work: `rows.jsonl` with each row and kind, and `flips.json` with the counts of each kind, go
            to its artifact folder.

    Returns:
        The metrics `flip_rate` and `flip_rate.KIND`; None where no changed question was scored.
        `rows` counts the pairs of row and kind whose question changed.

    Raises:
        ConfigError: The file of paraphrases is broken.
        ScoringError: The model has another tokenizer than the rows, its loss is not finite, or no
            SQL worker can start.
    """
    config = section.probes.robustness or RobustnessConfig()
    rows = read_rows(inputs.rows.folder / "rows.parquet")
    drawn = draw_rows(rows, config.rows, config.seed)
    if drawn:
        refuse_other_tokenizer(SLOT.get(inputs.model).tokenizer, drawn)
    found = inputs.paraphrases
    options = PerturbationOptions(
        typo_rate=config.typo_rate, paraphrases=load_paraphrases(found.path) if found else {}
    )
    kinds: tuple[Kind, ...] = tuple(dict.fromkeys(config.kinds))
    changes = make_changes(drawn, kinds, config.seed, options)
    asked = list_prompts(changes)
    judged = AnswerJudge(inputs, section, work, rows).judge(list(asked.values()))
    by_key = dict(zip(asked, judged, strict=True))
    trials = [_make_trial(change, by_key) for change in changes]
    scores = score_flips(trials, kinds=kinds, resamples=section.scoring.resamples)
    outcomes = [_describe(change, by_key) for change in changes]
    write_outcomes(work.artifact, outcomes)
    _write_flips(work, scores)
    reasons = Counter(one["reason"] for one in outcomes)
    unchanged = reasons.pop(UNCHANGED, 0)
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics={
            **scores.estimates,
            **{f"flip_rate.{kind}": flips.flip_rate for kind, flips in scores.by_kind.items()},
        },
        rows=len(changes) - unchanged,
        unscored={reason: count for reason, count in sorted(reasons.items(), key=str) if reason},
    )


def draw_rows(rows: Sequence[Row], count: int, seed: int) -> list[Row]:
    """Draw rows that have a question.

    Args:
        rows: Of a side's `rows.parquet`.
        count: Most rows.
        seed: Another seed draws other rows.

    Returns:
        The rows with the smallest hashes of seed and row id, by row id: whatever their order was.
    """

    def place(row: Row) -> str:
        return hashlib.sha256(json.dumps([seed, row["row_id"]]).encode()).hexdigest()

    asking = [row for row in rows if (row["question"] or "").strip()]
    return sorted(sorted(asking, key=place)[:count], key=lambda row: str(row["row_id"]))


def make_changes(
    rows: Sequence[Row], kinds: Sequence[Kind], seed: int, options: PerturbationOptions
) -> list[Change]:
    """Change every row's question in every way.

    Args:
        rows: Rows with a question.
        kinds: Which changes.
        seed: Of typos, and of which paraphrase and suffix is taken.
        options: Rates and texts.

    Returns:
        By row, then by kind.
    """
    changes = []
    for row in rows:
        question = row["question"].strip()
        for kind in kinds:
            changed = perturb(question, kind, seed, options=options)
            changes.append(Change(row, kind, question, changed))
    return changes


def list_prompts(changes: Iterable[Change]) -> dict[Key, Asked]:
    """List what a model has to be asked, each prompt once.

    Args:
        changes: From `make_changes`.

    Returns:
        Prompts by row and question: changed ones, and the unchanged one of every row that has any.
    """
    asked: dict[Key, Asked] = {}
    for change in changes:
        if change.is_asked:
            for text in (change.question, change.perturbed):
                prompt = replace_question(change.row["prompt"], change.question, text)
                asked[change.row["row_id"], text] = Asked(change.row, prompt)
    return asked


def replace_question(prompt: str, question: str, text: str) -> str:
    """Put another text in place of a question's last occurrence.

    The last, since earlier turns and a context that quotes the question stand before it.

    Args:
        prompt: Holds the question.
        question: What to replace.
        text: What to put there.

    Returns:
        The prompt, otherwise letter by letter.
    """
    before, _, after = prompt.rpartition(question)
    return before + text + after


def _judged_of(change: Change, judged: dict[Key, Judged]) -> tuple[Judged, Judged]:
    if not change.is_asked:
        unchanged = change.question == change.perturbed
        neither = Judged(None, None, UNCHANGED if unchanged else QUESTION_NOT_FOUND)
        return neither, neither
    row_id = change.row["row_id"]
    return judged[row_id, change.question], judged[row_id, change.perturbed]


def _make_trial(change: Change, judged: dict[Key, Judged]) -> Trial:
    before, after = _judged_of(change, judged)
    return Trial(
        row_id=change.row["row_id"],
        kind=change.kind,
        text=change.question,
        perturbed=change.perturbed,
        before=before.outcome,
        after=after.outcome,
    )


def _describe(change: Change, judged: dict[Key, Judged]) -> dict[str, Any]:
    before, after = _judged_of(change, judged)
    scored = before.outcome is not None and after.outcome is not None
    return {
        "row_id": f"{change.row['row_id']}/{change.kind}",
        "group": change.row["group"],
        "kind": change.kind,
        "question": change.question,
        "perturbed": change.perturbed,
        "answer_before": before.answer,
        "answer_after": after.answer,
        "before": before.outcome,
        "after": after.outcome,
        "flip_rate": before.outcome != after.outcome if scored else None,
        "reason": before.reason or after.reason,
    }


def _write_flips(work: Workdir, scores: FlipScores) -> None:
    table = [
        {"kind": kind, **flips.model_dump(mode="json")} for kind, flips in scores.by_kind.items()
    ]
    text = json.dumps(table, ensure_ascii=False, indent=2)
    (work.artifact / FLIPS_FILE).write_text(text + "\n", encoding="utf-8")


def _as_sql_rows(rows: Iterable[Row], databases: Iterable[Row]) -> list[SqlRow]:
    known = {row["db_id"]: (row["schema"], row["context"]) for row in databases}
    sql_rows = []
    for row in rows:
        schema, context = known.get(row["db_id"], ("", None))
        sql_rows.append(
            SqlRow(
                row_id=row["row_id"],
                group=row["group"],
                gold=row["answer"],
                schema=schema,
                context=context,
            )
        )
    return sql_rows
