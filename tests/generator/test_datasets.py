"""The shipped datasets: what the generator gives, executable, varied, and without leaks."""

import functools
import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from generator.datasets import (
    ENGLISH_ROWS,
    TEST_ROWS,
    TRAIN_ROWS,
    write_text_to_sql_en_sample,
    write_text_to_sql_pt,
)
from generator.lexicon_pt import TEST_LEXICON, TRAIN_LEXICON
from generator.queries import KINDS
from generator.words import Lexicon

ASSETS = Path(__file__).parents[2] / "assets"
PORTUGUESE = ASSETS / "text_to_sql_pt"
ENGLISH = ASSETS / "text_to_sql_en"
SEED = 0

Record = dict[str, Any]


def _load(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _databases(folder: Path) -> dict[str, Record]:
    return {database["db_id"]: database for database in _load(folder / "databases.jsonl")}


def _nouns(lexicon: Lexicon) -> set[str]:
    return {entity.noun.singular for entity in lexicon.entities}


def _values(lexicon: Lexicon) -> set[str]:
    return {value for attribute in lexicon.attributes for value in attribute.pool}


@functools.cache
def _names() -> re.Pattern[str]:
    words = {
        form.lower()
        for lexicon in (TRAIN_LEXICON, TEST_LEXICON)
        for item in (*lexicon.entities, *lexicon.attributes)
        for form in (item.noun.singular, item.noun.plural)
    } | {value.lower() for value in _values(TRAIN_LEXICON) | _values(TEST_LEXICON)}
    longest_first = sorted(words, key=lambda word: (-len(word), word))
    return re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})\b")


def _skeleton(question: str) -> str:
    masked = _names().sub("#", question.lower())
    return re.sub(r"['\"?.]", "", re.sub(r"\d+([,.-]\d+)*", "9", masked)).strip()


def test_the_shipped_portuguese_files_are_what_the_generator_gives(tmp_path: Path) -> None:
    write_text_to_sql_pt(tmp_path, SEED)
    for name in ("train.jsonl", "test.jsonl", "databases.jsonl"):
        assert (tmp_path / name).read_bytes() == (PORTUGUESE / name).read_bytes(), name


def test_the_shipped_english_files_are_what_the_generator_gives(tmp_path: Path) -> None:
    write_text_to_sql_en_sample(tmp_path, SEED)
    for name in ("sample.jsonl", "databases.jsonl", "reference.jsonl"):
        assert (tmp_path / name).read_bytes() == (ENGLISH / name).read_bytes(), name


def test_another_seed_gives_other_rows(tmp_path: Path) -> None:
    write_text_to_sql_en_sample(tmp_path, SEED + 1)
    assert (tmp_path / "sample.jsonl").read_bytes() != (ENGLISH / "sample.jsonl").read_bytes()


def test_there_are_as_many_rows_and_databases_as_the_design_says() -> None:
    train, test = _load(PORTUGUESE / "train.jsonl"), _load(PORTUGUESE / "test.jsonl")
    assert (len(train), len(test)) == (TRAIN_ROWS, TEST_ROWS)
    assert len(_load(ENGLISH / "sample.jsonl")) == ENGLISH_ROWS
    assert len({row["db_id"] for row in train}) >= 500
    assert len({row["db_id"] for row in test}) >= 100


@pytest.mark.parametrize(
    "path",
    [PORTUGUESE / "train.jsonl", PORTUGUESE / "test.jsonl", ENGLISH / "sample.jsonl"],
    ids=lambda path: path.stem,
)
def test_every_reference_query_runs_and_gives_something(path: Path) -> None:
    databases = _databases(path.parent)
    for row in _load(path):
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(databases[row["db_id"]]["context"])
            answer = connection.execute(row["query"]).fetchall()
        assert answer, row
        assert answer not in ([(0,)], [(None,)]), row


def test_train_and_test_share_no_table_no_question_and_no_query() -> None:
    train, test = _load(PORTUGUESE / "train.jsonl"), _load(PORTUGUESE / "test.jsonl")
    databases = _databases(PORTUGUESE)

    def schemas(rows: list[Record]) -> set[str]:
        return {databases[row["db_id"]]["schema"] for row in rows}

    def tables(rows: list[Record]) -> set[str]:
        return {name for text in schemas(rows) for name in re.findall(r"TABLE (\w+)", text)}

    assert not schemas(train) & schemas(test)
    assert not tables(train) & tables(test)
    for field in ("db_id", "question", "query"):
        shared = {row[field] for row in train} & {row[field] for row in test}
        assert not shared, field


def test_no_question_and_no_query_over_a_database_comes_twice() -> None:
    for rows in (_load(PORTUGUESE / "train.jsonl"), _load(PORTUGUESE / "test.jsonl")):
        assert len({row["question"] for row in rows}) == len(rows)
        assert len({(row["db_id"], row["query"]) for row in rows}) == len(rows)


def test_the_two_halves_of_the_words_share_only_the_word_for_name() -> None:
    def attributes(lexicon: Lexicon) -> set[str]:
        return {attribute.noun.singular for attribute in lexicon.attributes}

    assert not _nouns(TRAIN_LEXICON) & _nouns(TEST_LEXICON)
    assert not _values(TRAIN_LEXICON) & _values(TEST_LEXICON)
    assert attributes(TRAIN_LEXICON) & attributes(TEST_LEXICON) == {"nome"}


def test_the_english_sample_holds_no_portuguese() -> None:
    accents = re.compile(r"[áàâãéêíóôõúç]", re.IGNORECASE)
    portuguese = re.compile(r"\b(qual|quais|quantos|quantas|mostre|liste|dos|das)\b", re.IGNORECASE)
    for row in _load(ENGLISH / "sample.jsonl"):
        assert not accents.search(row["question"] + row["query"]), row
        assert not portuguese.search(row["question"]), row


def test_questions_are_said_in_many_ways() -> None:
    # With names, values and numbers masked, 2,200 questions keep more than 1,900 forms. Forms that
    # differ only in politeness or in a verb count as different: a reader would see them so too.
    rows = _load(PORTUGUESE / "train.jsonl")
    assert len({_skeleton(row["question"]) for row in rows}) > 1900


def test_every_kind_of_query_is_in_train_and_test() -> None:
    for name in ("train", "test"):
        counts = Counter(row["kind"] for row in _load(PORTUGUESE / f"{name}.jsonl"))
        assert set(counts) == set(KINDS), name


def test_the_files_stay_small() -> None:
    size = sum(path.stat().st_size for path in PORTUGUESE.iterdir())
    assert size < 4_000_000
