"""Robustness of a model on held-out rows: their questions again, perturbed on purpose.

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.inference.loaded_models import SLOT
from retune.modeling.tokenizer_identity import refuse_other_tokenizer
from retune.score_records import ScoreReport
from retune.scoring.answer_judging import AnswerJudge, Asked, Judged, Key, Row
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
from retune.scoring.stages import RobustnessInputs, RobustnessSettings
from retune.spine.stage import Workdir

FLIPS_FILE = "flips.json"
QUESTION_NOT_FOUND = "question_not_found"
UNCHANGED = "unchanged"


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


def probe_robustness(
    inputs: RobustnessInputs, settings: RobustnessSettings, work: Workdir
) -> ScoreReport:
    """Ask held-out questions again, perturbed on purpose, and count the outcomes that turn.

    Args:
        inputs: Model, rows, classes, questions in other words.
        settings: Kinds of change, how many rows, seed; lengths and dialect as on held-out rows.
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
    rows = read_rows(inputs.rows.folder / "rows.parquet")
    drawn = draw_rows(rows, settings.rows, settings.seed)
    if drawn:
        refuse_other_tokenizer(SLOT.get(inputs.model, settings.devices).tokenizer, drawn)
    found = inputs.paraphrases
    options = PerturbationOptions(
        typo_rate=settings.typo_rate, paraphrases=load_paraphrases(found.path) if found else {}
    )
    kinds: tuple[Kind, ...] = tuple(dict.fromkeys(settings.kinds))
    changes = make_changes(drawn, kinds, settings.seed, options)
    asked = list_prompts(changes)
    judged = AnswerJudge(inputs, settings, work, rows).judge(list(asked.values()))
    by_key = dict(zip(asked, judged, strict=True))
    trials = [_make_trial(change, by_key) for change in changes]
    scores = score_flips(trials, kinds=kinds, resamples=settings.resamples)
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
        group=change.row["group"],
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
