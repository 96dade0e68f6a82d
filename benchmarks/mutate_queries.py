"""How often exact match says yes to a query that does not mean the same: it should be never.

    python benchmarks/mutate_queries.py --mutations 2000 --seed 1

Golds with one token deleted, swapped with another, replaced or written twice, scored against the
golds they were made of. A false yes is an exact match whose query fails, or gives other rows (in
another order, where the gold orders them) on the row's database or on one of several others of the
same tables, filled with other rows drawn from its values. Golds are those that the repository
ships, and those of Spider's development set where it lies in `--spider`.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from retune.scoring.sql.score import score_queries
from retune.sql.catalogue import read_schema
from retune.sql.lexing import orders_rows, read_tokens
from retune.sql.records import SqlRow

REPOSITORY = Path(__file__).resolve().parents[1]
SHIPPED = ("text_to_sql_pt/test.jsonl", "text_to_sql_en/sample.jsonl")
WORDS = """
SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT OFFSET DISTINCT ALL AS ON USING JOIN LEFT RIGHT FULL
INNER OUTER CROSS NATURAL UNION EXCEPT INTERSECT AND OR NOT IN IS NULL ISNULL NOTNULL LIKE GLOB
BETWEEN CASE WHEN THEN ELSE END ASC DESC CAST COLLATE EXISTS WITH VALUES TRUE count sum avg min max
total length len upper lower ifnull coalesce nvl substr substring round abs mod date year now
( ) , . ; = == != <> < > <= >= + - * / % || & | ~ ' " ` [ ] :: ! ^ 0 1 2 1.0 '1' "x" `x` [x] 'x'
""".split()  # noqa: SIM905 - a list of a hundred lines reads worse
STEPS = 2_000_000
FILLINGS = 4
MOST_ROWS = 40

Rows = list[tuple[Any, ...]]


class FalseYes(NamedTuple):
    """An exact match that is none."""

    gold: str
    prediction: str
    why: str


def read_shipped() -> list[SqlRow]:
    """Return the text-to-SQL rows that the repository ships."""
    rows = []
    for name in SHIPPED:
        path = REPOSITORY / "assets" / name
        lines = (path.parent / "databases.jsonl").read_text("utf-8").splitlines()
        databases = {value["db_id"]: value for value in map(json.loads, lines)}
        for row in map(json.loads, path.read_text("utf-8").splitlines()):
            database = databases[row["db_id"]]
            rows.append(
                SqlRow(
                    row_id=row["id"],
                    gold=row["query"],
                    group=row["db_id"],
                    schema=database["schema"],
                    context=database["context"],
                )
            )
    return rows


def read_spider(folder: Path) -> list[SqlRow]:
    """Return the rows of Spider's development set; none where it is not there."""
    if not (folder / "dev.jsonl").exists():
        return []
    schemas = json.loads((folder / "schemas.json").read_text("utf-8"))
    return [
        SqlRow(
            row_id=row["id"],
            gold=row["query"],
            group=row["db_id"],
            schema=schemas[row["db_id"]],
            database=folder / "databases" / f"{row['db_id']}.sqlite",
        )
        for row in map(json.loads, (folder / "dev.jsonl").read_text("utf-8").splitlines())
    ]


def mutate(sql: str, others: Sequence[str], chance: random.Random) -> str:
    """Change one token of a query.

    Args:
        sql: The query.
        others: Tokens that may take another's place.
        chance: Decides.

    Returns:
        The query with one token deleted, swapped, replaced or written twice.
    """
    pieces = [token.text for token in read_tokens(sql)]
    at, other = chance.randrange(len(pieces)), chance.randrange(len(pieces))
    kind = chance.choice(("delete", "swap", "swap_next", "replace", "requote", "duplicate"))
    if kind == "delete":
        del pieces[at]
    elif kind == "swap":
        pieces[at], pieces[other] = pieces[other], pieces[at]
    elif kind == "swap_next" and at + 1 < len(pieces):
        pieces[at], pieces[at + 1] = pieces[at + 1], pieces[at]
    elif kind == "replace":
        pieces[at] = chance.choice(others)
    elif kind == "requote":
        left, right = chance.choice(("''", '""', "``", "[]"))
        pieces[at] = left + pieces[at].strip("'\"`[]") + right
    else:
        pieces.insert(at, pieces[at])
    return " ".join(pieces)


def make_mutants(rows: Sequence[SqlRow], count: int, seed: int) -> list[tuple[SqlRow, str]]:
    """Return that many rows with a mutant of their gold each; one seed, one list."""
    chance = random.Random(seed)
    tokens: dict[str | None, set[str]] = {}
    for row in rows:
        known = tokens.setdefault(row.group, set())
        known |= {token.text for token in read_tokens(row.gold)}
        known |= {
            name for columns in read_schema(row.schema, "sqlite").values() for name in columns
        }
    mutants: list[tuple[SqlRow, str]] = []
    while len(mutants) < count:
        row = chance.choice(rows)
        others = [*WORDS, *sorted(tokens[row.group])]
        mutant = mutate(row.gold, others, chance)
        if mutant.split() != row.gold.split():
            mutants.append((row, mutant))
    return mutants


def find_false_yes(mutants: Sequence[tuple[SqlRow, str]], seed: int) -> tuple[int, list[FalseYes]]:
    """Score mutants.

    Args:
        mutants: Rows with a prediction each.
        seed: Of the other rows that databases are filled with.

    Returns:
        How many are exact matches, and those that should not be.
    """
    scores = score_queries([row for row, _ in mutants], [mutant for _, mutant in mutants])
    matched = [
        pair for pair, outcome in zip(mutants, scores.outcomes, strict=True) if outcome.exact_match
    ]
    found = []
    for row, mutant in matched:
        for filled in fill(row, seed):
            with closing(filled) as database:
                why = _differ(database, row.gold, mutant)
            if why:
                found.append(FalseYes(row.gold, mutant, why))
                break
    return len(matched), found


def fill(row: SqlRow, seed: int) -> Iterator[sqlite3.Connection]:
    """Yield a row's own database, then databases of its tables with other rows."""
    own = sqlite3.connect(":memory:")
    own.text_factory = lambda text: text.decode("utf-8", "replace")
    if row.database is not None:
        with closing(sqlite3.connect(f"{row.database.as_uri()}?mode=ro", uri=True)) as file:
            file.backup(own)
    else:
        own.executescript(row.context or "")
    tables = _read_tables(own)
    yield own
    for number in range(FILLINGS):
        # Not `hash`, which differs from process to process.
        chance = random.Random(f"{seed} {number} {row.group}")
        yield _fill_anew(tables, chance)


def _read_tables(database: sqlite3.Connection) -> dict[str, tuple[list[tuple[str, str]], Rows]]:
    names = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
    ).fetchall()
    tables = {}
    for (name,) in names:
        columns = [(c[1], c[2]) for c in database.execute(f'PRAGMA table_info("{name}")')]
        tables[name] = (columns, database.execute(f'SELECT * FROM "{name}" LIMIT 500').fetchall())
    return tables


def _fill_anew(
    tables: dict[str, tuple[list[tuple[str, str]], Rows]], chance: random.Random
) -> sqlite3.Connection:
    database = sqlite3.connect(":memory:")
    for name, (columns, rows) in tables.items():
        listed = ", ".join(f'"{column}" {kind}' for column, kind in columns)
        database.execute(f'CREATE TABLE "{name}" ({listed})')
        values = [[*{row[at] for row in rows}, None, 0, 1, "x"] for at in range(len(columns))]
        sorted_values = [sorted(column, key=repr) for column in values]
        drawn = [
            tuple(chance.choice(column) for column in sorted_values)
            for _ in range(chance.randint(3, MOST_ROWS))
        ]
        marks = ", ".join("?" for _ in columns)
        database.executemany(f'INSERT INTO "{name}" VALUES ({marks})', drawn)
    return database


def _differ(database: sqlite3.Connection, gold: str, prediction: str) -> str:
    expected = _run(database, gold)
    if isinstance(expected, str):
        return ""  # the gold is too slow on this filling
    found = _run(database, prediction)
    if isinstance(found, str):
        return found
    ordered = orders_rows(read_tokens(gold))
    same = expected == found if ordered else Counter(expected) == Counter(found)
    return "" if same else "other rows"


def _run(database: sqlite3.Connection, sql: str) -> Rows | str:
    left = [STEPS]

    def count_down() -> bool:
        left[0] -= 1000
        return left[0] < 0

    database.set_progress_handler(count_down, 1000)
    try:
        return database.execute(sql).fetchall()
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        return str(error)


def main() -> None:
    """Print one line for each set of golds, and every false yes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--spider", type=Path, default=REPOSITORY.parent / "shared/data/spider_dev")
    options = parser.parse_args()
    sets: dict[str, Callable[[], list[SqlRow]]] = {
        "shipped": read_shipped,
        "spider_dev": lambda: read_spider(options.spider.resolve()),
    }
    failed = False
    for name, read in sets.items():
        rows = read()
        if not rows:
            print(f"{name:<12} not there: {options.spider}")
            continue
        mutants = make_mutants(rows, options.mutations, options.seed)
        matched, false = find_false_yes(mutants, options.seed)
        print(f"{name:<12} {len(mutants)} mutations, {matched} exact matches, {len(false)} false")
        for one in false:
            print(f"  {one.why}\n    gold      {one.gold}\n    predicted {one.prediction}")
        failed |= bool(false)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
