"""Stages that rebuild what ships in `assets/`: the data, the tokenizer and the tiny base."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from generator.settings import (
    BaseInputs,
    BaseRecipe,
    BaseSettings,
    DrawnRef,
    DrawSettings,
    MoreInputs,
    MoreRecipe,
    MoreSettings,
    Nothing,
    PretrainedRef,
    TokenizerSettings,
)
from retune.data.jsonl import read_jsonl
from retune.digests import digest_folder
from retune.model_records import ScoredModel
from retune.score_records import Metric
from retune.spine.stage import Workdir

FIGURES = "pretraining.json"
"""What a pretraining did, beside the snapshot."""
_MAX_NEW_TOKENS = 96
_BATCH_ROWS = 64


def draw_task(inputs: Nothing, settings: DrawSettings, work: Workdir) -> DrawnRef:
    """Draw the Portuguese text-to-SQL task and the English sample.

    Args:
        inputs: None are needed.
        settings: The seed.
        work: `text_to_sql_pt/` and `text_to_sql_en/` go to its artifact folder.

    Returns:
        The drawn files.
    """
    from generator.datasets import write_text_to_sql_en_sample, write_text_to_sql_pt

    write_text_to_sql_pt(work.artifact / "text_to_sql_pt", settings.draw.seed)
    write_text_to_sql_en_sample(work.artifact / "text_to_sql_en", settings.draw.seed)
    return DrawnRef(digest=digest_folder(work.artifact), folder=work.artifact)


def draw_small_sets(inputs: Nothing, settings: DrawSettings, work: Workdir) -> DrawnRef:
    """Draw the Portuguese reviews and instructions that recipes in small are shown with.

    Args:
        inputs: None are needed.
        settings: The seed.
        work: `reviews_pt/` and `instructions_pt/` go to its artifact folder.

    Returns:
        The drawn files.
    """
    from generator.instructions import write_instructions_pt
    from generator.reviews import write_reviews_pt

    write_reviews_pt(work.artifact / "reviews_pt", settings.draw.seed)
    write_instructions_pt(work.artifact / "instructions_pt", settings.draw.seed)
    return DrawnRef(digest=digest_folder(work.artifact), folder=work.artifact)


def train_tokenizer(inputs: Nothing, settings: TokenizerSettings, work: Workdir) -> DrawnRef:
    """Train the byte-level BPE tokenizer on both languages.

    Args:
        inputs: None are needed: its text comes from the generator.
        settings: Vocabulary size and seed.
        work: The tokenizer goes to its artifact folder.

    Returns:
        The tokenizer's files.
    """
    from generator import tokenizer

    tokenizer.train_tokenizer(
        work.artifact,
        vocabulary_size=settings.tokenizer.vocabulary_size,
        seed=settings.tokenizer.seed,
    )
    return DrawnRef(digest=digest_folder(work.artifact), folder=work.artifact)


def pretrain_base(inputs: BaseInputs, settings: BaseSettings, work: Workdir) -> PretrainedRef:
    """Train the tiny base from scratch; killed, it goes on from its checkpoint.

    Args:
        inputs: The tokenizer, and the task whose test rows the card reports on.
        settings: Steps, batch, learning rate, seed.
        work: The snapshot with its model card goes to its artifact folder.

    Returns:
        The base and its figures.
    """
    return _train_base(
        settings.base, inputs.tokenizer.folder, inputs.task.folder / "text_to_sql_pt", None, work
    )


def continue_base(inputs: MoreInputs, settings: MoreSettings, work: Workdir) -> PretrainedRef:
    """Train the base on, for a second cycle over rows of all levels.

    Args:
        inputs: The base after its first cycle, and the task whose test rows the card reports on.
        settings: Steps, batch, learning rate, seed.
        work: The snapshot with its model card goes to its artifact folder.

    Returns:
        The base and its figures; steps and card count both cycles.
    """
    start = inputs.base.folder
    return _train_base(settings.more, start, inputs.task.folder / "text_to_sql_pt", start, work)


def _train_base(
    settings: BaseRecipe | MoreRecipe,
    tokenizer: Path,
    task: Path,
    start: Path | None,
    work: Workdir,
) -> PretrainedRef:
    from generator.base_card import write_base_card
    from generator.pretraining import PretrainingFigures, add_figures, pretrain_base

    figures = pretrain_base(
        work.artifact,
        tokenizer_folder=tokenizer,
        scratch=work.scratch,
        steps=settings.steps,
        batch_rows=settings.batch_rows,
        peak_learning_rate=settings.peak_learning_rate,
        seed=settings.seed,
        report=lambda step, steps, what: work.reporter.progress(what, step, steps),
        start=start,
    )
    if start is not None:
        before = json.loads((start / FIGURES).read_text("utf-8"))
        figures = add_figures(PretrainingFigures(**before), figures)
    (work.artifact / FIGURES).write_text(json.dumps(asdict(figures), indent=1) + "\n", "utf-8")
    match = measure_portuguese(work.artifact, task)
    assert match.value is not None  # every test row has a database
    write_base_card(
        work.artifact, figures, portuguese_execution_match=match.value, portuguese_rows=match.n
    )
    return PretrainedRef(
        digest=digest_folder(work.artifact, without=("README.md", FIGURES)),
        folder=work.artifact,
        parameters=figures.parameters,
        steps=figures.steps,
        english_exact_match=figures.english_exact_match,
    )


def measure_portuguese(base: Path, task: Path) -> Metric:
    """Measure what the base makes of the task that it was not taught.

    Args:
        base: The base's snapshot folder.
        task: Folder with `test.jsonl` and `databases.jsonl`.

    Returns:
        Execution match on the test rows.
    """
    from retune.data.chats.rendering import render_prompt
    from retune.inference.generation import generate_answers
    from retune.inference.loaded_models import load_scored_model
    from retune.scoring.sql.score import extract_sql, score_queries
    from retune.sql.records import SqlRow

    databases = {value["db_id"]: value for _, value in read_jsonl(task / "databases.jsonl")}
    rows = [value for _, value in read_jsonl(task / "test.jsonl")]
    loaded = load_scored_model(ScoredModel(digest="", weights=base, tokenizer=base))
    prompts = [
        render_prompt(
            loaded.tokenizer,
            [
                {
                    "role": "user",
                    "content": f"{databases[row['db_id']]['schema']}\n{row['question']}",
                }
            ],
        )
        for row in rows
    ]
    answers = generate_answers(
        loaded,
        loaded.tokenizer(prompts, add_special_tokens=False)["input_ids"],
        max_new_tokens=_MAX_NEW_TOKENS,
        batch_size=_BATCH_ROWS,
    )
    golds = [
        SqlRow(
            row_id=row["id"],
            group=row["db_id"],
            gold=row["query"],
            schema=databases[row["db_id"]]["schema"],
            context=databases[row["db_id"]]["context"],
        )
        for row in rows
    ]
    scores = score_queries(golds, [extract_sql(answer) for answer in answers])
    return scores.estimates["sql_execution_match"]
