"""The stage `sample_answers`: a few answers of a model, for a person to read."""

from __future__ import annotations

from collections import Counter

from retune.data.tables import read_rows
from retune.digests import digest_folder
from retune.inference.generation import write_answers
from retune.inference.latency import write_latency
from retune.inference.loaded_models import SLOT
from retune.modeling.tokenizer_identity import refuse_other_tokenizer
from retune.records import LOG_FOLDER
from retune.score_records import ScoreReport
from retune.scoring.outcomes import LATENCY_FILE, write_outcomes
from retune.scoring.stages import SampleSettings, ScoreInputs
from retune.spine.stage import Workdir


def sample_answers(inputs: ScoreInputs, settings: SampleSettings, work: Workdir) -> ScoreReport:
    """Let the model answer a few questions, spread evenly over the side, for a person to read.

    Args:
        inputs: Model and rows; rows without a question (plain text) are passed over.
        settings: How many answers, and their length limit.
        work: `rows.jsonl` with question, reference and answer goes to its artifact folder.

    Returns:
        No metric: nothing is judged. A prompt over the context has no answer (`prompt_too_long`).

    Raises:
        ScoringError: The model has another tokenizer.
    """
    rows = [row for row in read_rows(inputs.rows.folder / "rows.parquet") if row["question"]]
    loaded = SLOT.get(inputs.model, settings.devices)
    refuse_other_tokenizer(loaded.tokenizer, rows)
    count = min(settings.samples, len(rows))
    shown = [rows[number * len(rows) // count] for number in range(count)]
    answers = write_answers(
        loaded,
        [row["prompt_ids"] for row in shown],
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        progress=lambda done, total: work.reporter.progress("answers", done, total),
    )
    write_latency(
        work.artifact / LATENCY_FILE,
        loaded,
        {row["row_id"]: answer for row, answer in zip(shown, answers, strict=True)},
        batch_size=settings.batch_size,
    )
    unscored = Counter(answer.unscored_reason for answer in answers if answer.unscored_reason)
    write_outcomes(
        work.artifact,
        (
            {
                "row_id": row["row_id"],
                "group": row["group"],
                "question": row["question"],
                "reference": row["answer"],
                "prediction": answer.text or "",
                "reason": answer.unscored_reason,
            }
            for row, answer in zip(shown, answers, strict=True)
        ),
    )
    return ScoreReport(
        digest=digest_folder(work.artifact, without=(LOG_FOLDER,)),
        folder=work.artifact,
        metrics={},
        rows=count,
        unscored=dict(unscored),
    )
