"""The datasets that ship: rows over executable databases, split so that nothing leaks.

Portuguese test databases are made of other tables, columns and values than those to train on: see
the two halves in ``lexicon_pt``. The English sample is made of the words that the base was taught,
in databases and questions of its own. Every file is the same, byte for byte, for the same seed.
"""

import json
import random
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from generator.executing import BuiltDatabase
from generator.lexicon_en import ENGLISH_LEXICON
from generator.lexicon_pt import TEST_LEXICON, TRAIN_LEXICON
from generator.queries import KINDS, Query, draw_query, render_sql
from generator.questions_en import ask_in_english
from generator.questions_pt import ask_in_portuguese
from generator.schemas import Schema, Shape, draw_schema
from generator.stream import Turn
from generator.words import Lexicon

TRAIN_ROWS = 6600
"""Rows of ``train.jsonl``: 2,000 to train on and 200 to validate with, split by database."""
TEST_ROWS = 400
ENGLISH_ROWS = 200

_LEVELS = (1.0, 1.0, 1.0)

Ask = Callable[[random.Random, Query], str]


@dataclass(frozen=True)
class Row:
    """One question with its query; ``kind`` and ``level`` are those of ``queries.KINDS``."""

    id: str
    db_id: str
    question: str
    query: str
    kind: str
    level: int


@dataclass(frozen=True)
class Database:
    """A database: ``schema`` as a prompt shows it, ``context`` as SQLite builds it."""

    db_id: str
    schema: str
    context: str


@dataclass(frozen=True)
class Dataset:
    """Rows and the databases that they ask."""

    rows: list[Row]
    databases: list[Database]


def write_text_to_sql_pt(folder: Path, seed: int) -> None:
    """Write ``train.jsonl``, ``test.jsonl`` and ``databases.jsonl`` of the Portuguese task.

    Args:
        folder: Where to write; made if absent.
        seed: Seed of everything in them.
    """
    train = draw_dataset(
        "train", TRAIN_ROWS, 4, lexicon=TRAIN_LEXICON, ask=ask_in_portuguese, seed=seed
    )
    test = draw_dataset(
        "test", TEST_ROWS, 3, lexicon=TEST_LEXICON, ask=ask_in_portuguese, seed=seed
    )
    folder.mkdir(parents=True, exist_ok=True)
    _write_lines(folder / "train.jsonl", train.rows)
    _write_lines(folder / "test.jsonl", test.rows)
    _write_lines(folder / "databases.jsonl", train.databases + test.databases)


def write_text_to_sql_en_sample(folder: Path, seed: int) -> None:
    """Write ``sample.jsonl`` and ``databases.jsonl``: held-out rows of what the base was taught.

    ``reference.jsonl`` holds the same rows as prompts and answers, on which a quantized base is
    compared.

    Args:
        folder: Where to write; made if absent.
        seed: Seed of everything in them.
    """
    sample = _draw_english(seed)
    folder.mkdir(parents=True, exist_ok=True)
    _write_lines(folder / "sample.jsonl", sample.rows)
    _write_lines(folder / "databases.jsonl", sample.databases)
    schemas = {database.db_id: database.schema for database in sample.databases}
    pairs = (
        {"prompt": f"{schemas[row.db_id]}\n{row.question}", "text": row.query}
        for row in sample.rows
    )
    lines = (json.dumps(pair, ensure_ascii=False) for pair in pairs)
    (folder / "reference.jsonl").write_text(
        "".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n"
    )


def draw_english_turns(*, seed: int) -> list[Turn]:
    """Return the rows of ``sample.jsonl`` as prompts and answers.

    Args:
        seed: The seed that the file is written with.

    Returns:
        One turn a row.
    """
    sample = _draw_english(seed)
    schemas = {database.db_id: database.schema for database in sample.databases}
    return [Turn(f"{schemas[row.db_id]}\n{row.question}", row.query) for row in sample.rows]


def draw_dataset(
    name: str, row_count: int, rows_per_database: int, *, lexicon: Lexicon, ask: Ask, seed: int
) -> Dataset:
    """Draw databases and questions to them; no question and no query comes twice.

    Args:
        name: Part of every id, and of the seed.
        row_count: Number of rows.
        rows_per_database: Number of rows that share a database, but for the last one.
        lexicon: Words that the schemas are made of.
        ask: Says a query in a language.
        seed: Seed of everything in it.

    Returns:
        The rows, and the databases in order.
    """
    rng = random.Random(f"{name}-{seed}")
    rows: list[Row] = []
    databases: list[Database] = []
    questions: set[str] = set()
    while len(rows) < row_count:
        schema = draw_schema(rng, lexicon, Shape(), key_first=rng.random() < 0.5)
        db_id = f"{name}_{len(databases):03d}_{schema.child.identifier}"
        databases.append(Database(db_id, schema.prompt, schema.context))
        wanted = min(rows_per_database, row_count - len(rows))
        for query in _draw_queries(rng, schema, wanted):
            question = _ask_anew(rng, query, ask, questions)
            sql, level = render_sql(query, schema), KINDS[query.kind].level
            rows.append(Row(f"{name}-{len(rows):04d}", db_id, question, sql, query.kind, level))
    return Dataset(rows, databases)


def _draw_english(seed: int) -> Dataset:
    return draw_dataset(
        "english", ENGLISH_ROWS, 3, lexicon=ENGLISH_LEXICON, ask=ask_in_english, seed=seed
    )


def _draw_queries(rng: random.Random, schema: Schema, count: int) -> list[Query]:
    kept: dict[str, Query] = {}
    with closing(BuiltDatabase(schema)) as database:
        while len(kept) < count:
            query = draw_query(rng, schema, _LEVELS)
            # One of a kind: the rows of a database then differ by more than a value.
            if query.kind not in kept and database.is_worth_asking(query):
                kept[query.kind] = query
    return list(kept.values())


def _ask_anew(rng: random.Random, query: Query, ask: Ask, asked: set[str]) -> str:
    question = ask(rng, query)
    while question in asked:
        question = ask(rng, query)
    asked.add(question)
    return question


def _write_lines(path: Path, items: Iterable[Row] | Iterable[Database]) -> None:
    lines = (json.dumps(asdict(item), ensure_ascii=False) for item in items)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
