"""Leaks: what stands on two sides is found by its closest kind, and dropped where it learns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retune.data.findings import LEAK_PAIRS_FILE, LEAKS_FILE, LeakFinding, LeakReport
from retune.data.parts.leaks import remove_leaks
from retune.data.parts.splitting import SIDES, split_rows
from retune.data.quality.near import hash_parts, sign_sets
from retune.data.quality.texts import fold, row_text, text_hash
from retune.data.schemas import DATABASE_SCHEMA, INDEX_SCHEMA, ROW_SCHEMA
from retune.data.stages import LeaksInputs, LeaksSettings, SplitInputs, SplitSettings
from retune.data.tables import read_rows, write_table
from retune.errors import DataError
from retune.records import CleanRef, DatabasesRef, DatasetRef, Side, SplitRef
from tests.making import make_workdir, settings_of
from tests.tiny_models import REPOSITORY

Rows = dict[Side, Sequence[dict[str, Any]]]

SCHEMA = "CREATE TABLE dogs (name TEXT, age INTEGER);"
# 21 words have 19 runs of three; another last word changes one: 18 / 20 = 0.9 are shared.
LONG = " ".join(f"word{number}" for number in range(20))


def row(name: str, question: str, answer: str = "a", db_id: str | None = None) -> dict[str, Any]:
    empty = {"history": None, "context": "", "thinking": None, "label": None}
    place = {"group": None, "file": 0, "line": 1}
    return {
        "row_id": name,
        "question": question,
        "answer": answer,
        "db_id": db_id,
        **empty,
        **place,
    }


def index_of(source: int, number: int, one: dict[str, Any]) -> dict[str, Any]:
    text, db_id = row_text(one), one["db_id"]
    folded = text_hash(fold(text), db_id)
    hashes = {"exact": text_hash(text, db_id), "folded": folded, "key": one["row_id"]}
    group = one["group"] or db_id or f"{folded:016x}"
    kept = {"row_id": one["row_id"], "label": None, "db_id": db_id, "held_out": False}
    return {"source": source, "row": number, "group": group, **kept, **hashes}


def make_inputs(
    folder: Path,
    sides: Rows,
    schemas: dict[str, str] | None = None,
) -> LeaksInputs:
    """Write rows as one source per side, their index and signatures."""
    datasets, index, texts = [], [], []
    for source, side in enumerate(SIDES):
        place = folder / f"source{source}"
        place.mkdir(parents=True)
        rows = sides[side]
        write_table(place / "rows.parquet", rows, ROW_SCHEMA)
        datasets.append(
            DatasetRef(
                digest=side, folder=place, format="instruction", rows=len(rows), bad_rows=0,
                labels=(), databases=0,
            )
        )  # fmt: skip
        listed = [index_of(source, number, one) for number, one in enumerate(rows)]
        write_table(folder / f"{side}.parquet", listed, INDEX_SCHEMA)
        index += listed
        texts += [row_text(one) for one in rows]
    write_table(folder / "index.parquet", index, INDEX_SCHEMA)
    np.save(
        folder / "signatures.npy", sign_sets([np.concatenate(hash_parts(text)) for text in texts])
    )
    databases = None
    if schemas:
        listed = [{"db_id": db, "schema": text, "context": ""} for db, text in schemas.items()]
        write_table(folder / "databases.parquet", listed, DATABASE_SCHEMA)
        databases = DatabasesRef(digest="d", folder=folder, databases=len(schemas))
    counts = {side: len(rows) for side, rows in sides.items()}
    return LeaksInputs(
        split=SplitRef(digest="s", folder=folder, groups_shared=0, **counts),
        clean=CleanRef(digest="c", folder=folder, rows=len(index), test_rows=0, faults={}),
        rows=tuple(datasets),
        databases=databases,
    )


def compare(
    tmp_path: Path,
    sides: Rows,
    schemas: dict[str, str] | None = None,
    **quality: Any,
) -> tuple[SplitRef, LeakReport]:
    inputs = make_inputs(tmp_path, sides, schemas)
    section = settings_of(LeaksSettings, quality=quality, scoring={})
    found = remove_leaks(inputs, section, make_workdir(tmp_path / "work"))
    return found, LeakReport.model_validate_json((found.folder / LEAKS_FILE).read_bytes())


def finding(report: LeakReport, side: Side, source_side: Side) -> LeakFinding:
    return next(
        each for each in report.findings if (each.side, each.source_side) == (side, source_side)
    )


def names(found: SplitRef, side: Side) -> list[str]:
    return [one["row_id"] for one in read_rows(found.folder / f"{side}.parquet")]


OTHERS: Rows = {
    "validation": [row("v", "something else entirely")],
    "train": [row("t", "nothing of the kind")],
}


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("Wie alt ist der Hund von Anna?", "exact"),
        ("wie alt ist  der Hund von ANNA?", "folded"),
    ],
)
def test_a_copy_is_found_by_its_closest_kind(tmp_path: Path, question: str, kind: str) -> None:
    """One of two held-out rows stands in training too."""
    held = [row("h", "Wie alt ist der Hund von Anna?"), row("other", "What is a cat?")]
    sides: Rows = {**OTHERS, "test": held, "train": [*OTHERS["train"], row("copy", question)]}
    found, report = compare(tmp_path, sides)
    leak = finding(report, "test", "train")
    assert (leak.rows, leak.of) == (1, 2)
    assert {name: count for name, count in leak.by_kind.items() if count} == {kind: 1}
    assert found.faults["leaked_rows"].model_dump() == {"rows": 1, "of": 2, "first": ("h",)}


def test_a_near_copy_is_confirmed_by_its_text(tmp_path: Path) -> None:
    """18 of 20 shingles are shared: 0.9 is near at 0.85, and not at 0.95."""
    sides: Rows = {**OTHERS, "test": [row("h", f"{LONG} one")], "train": [row("c", f"{LONG} two")]}
    _, near = compare(tmp_path / "a", sides, near_threshold=0.85)
    _, far = compare(tmp_path / "b", sides, near_threshold=0.95)
    assert finding(near, "test", "train").by_kind["near"] == 1
    assert finding(far, "test", "train").rows == 0
    pair = json.loads((tmp_path / "a/work/artifact" / LEAK_PAIRS_FILE).read_text())
    assert pair == {
        "held_out": "h",
        "held_out_side": "test",
        "copy": "c",
        "copy_side": "train",
        "kind": "near",
        "similarity": 0.9,
    }


def test_near_texts_about_two_databases_are_no_copies(tmp_path: Path) -> None:
    """The same question over another database has another answer."""
    sides: Rows = {
        **OTHERS,
        "test": [row("h", f"{LONG} one", "SELECT 1", "cats")],
        "train": [row("c", f"{LONG} two", "SELECT 2", "dogs")],
    }
    _, report = compare(tmp_path, sides)
    assert finding(report, "test", "train").rows == 0


def test_a_paraphrase_is_found_by_its_query(tmp_path: Path) -> None:
    """The query is written otherwise but means the same, over the same schema."""
    sides: Rows = {
        **OTHERS,
        "test": [row("h", "How old is Rex?", "SELECT age FROM dogs WHERE name = 'Rex'", "kennel")],
        "train": [row("c", "Age of Rex", "select d.age from dogs d where 'Rex' = d.name", "pound")],
    }
    _, same = compare(tmp_path / "a", sides, {"kennel": SCHEMA, "pound": SCHEMA})
    _, other = compare(tmp_path / "b", sides, {"kennel": SCHEMA, "pound": SCHEMA + " "})
    assert finding(same, "test", "train").by_kind["query"] == 1
    assert finding(other, "test", "train").rows == 0


def test_a_query_that_cannot_be_read_is_counted(tmp_path: Path) -> None:
    """Of four SQL rows two are broken, and one has a database that nobody knows."""
    sides: Rows = {
        "test": [row("h", "a", "SELECT FROM WHERE", "kennel")],
        "validation": [row("v", "b", "not sql", "kennel")],
        "train": [row("t", "c", "SELECT 1", "kennel"), row("u", "d", "SELECT 1", "lost")],
    }
    _, report = compare(tmp_path, sides, {"kennel": SCHEMA})
    assert report.uncompared == 3


LEAKY: Rows = {
    "test": [row("h1", "first question"), row("h2", "second question")],
    "validation": [row("v1", "second question"), row("v2", "third question")],
    "train": [
        row("t0", "a question of its own"),
        row("t1", "first question"),
        row("t2", "Second question"),
        row("t3", "third question"),
        row("t4", "first  question"),
    ],
}


def test_copies_are_dropped_and_held_out_rows_are_not(tmp_path: Path) -> None:
    """Train loses t1, t4 (of h1), t2 (of h2) and t3 (of v2); validation loses v1 (of h2)."""
    found, report = compare(tmp_path, LEAKY, drop_leaked=True)
    assert [names(found, side) for side in SIDES] == [["t0"], ["v2"], ["h1", "h2"]]
    assert (found.train, found.validation, found.test) == (1, 1, 2)
    assert finding(report, "test", "train").dropped == 3
    assert finding(report, "test", "validation").dropped == 1
    assert finding(report, "validation", "train").dropped == 1
    assert found.faults["leaked_rows"].model_dump() == {"rows": 0, "of": 2, "first": ()}


def test_a_dropped_validation_row_drops_nothing_itself(tmp_path: Path) -> None:
    """Of 20 shingles h and near share 19 (19 / 21 = 0.90), near and t 19, h and t 18 (0.82)."""
    sides: Rows = {
        "test": [row("h", f"a {LONG} b")],
        "validation": [row("near", f"a {LONG} c"), *OTHERS["validation"]],
        "train": [row("t", f"d {LONG} c")],
    }
    found, _ = compare(tmp_path, sides, drop_leaked=True, near_threshold=0.85)
    assert names(found, "validation") == ["v"]
    assert names(found, "train") == ["t"]


def test_without_dropping_the_sides_stay_as_they_were(tmp_path: Path) -> None:
    """Both held-out rows are repeated; the copy of v2 in training is reported and not counted."""
    found, report = compare(tmp_path, LEAKY)
    for side in SIDES:
        kept = (found.folder / f"{side}.parquet").read_bytes()
        assert kept == (tmp_path / f"{side}.parquet").read_bytes()
    assert found.faults["leaked_rows"].rows == 2
    assert finding(report, "validation", "train").rows == 2
    assert sum(each.dropped for each in report.findings) == 0


def test_every_copy_and_every_repeated_row_stands_in_a_pair(tmp_path: Path) -> None:
    """Of test: h1 with t1 and t4, h2 with t2 and v1. Of validation: v1 with t2, v2 with t3."""
    found, report = compare(tmp_path, LEAKY)
    lines = (found.folder / LEAK_PAIRS_FILE).read_text().splitlines()
    pairs = {(each["held_out"], each["copy"]) for each in map(json.loads, lines)}
    assert pairs == {
        ("h1", "t1"), ("h1", "t4"), ("h2", "t2"), ("h2", "v1"), ("v1", "t2"), ("v2", "t3"),
    }  # fmt: skip
    assert report.pairs == len(lines) == 6


def test_a_side_that_loses_all_its_rows_is_refused(tmp_path: Path) -> None:
    """Both training rows are the held-out one; the message says how to go on."""
    sides: Rows = {
        "test": [row("h", "the one question")],
        "validation": OTHERS["validation"],
        "train": [row("a", "the one question"), row("b", "The one question")],
    }
    with pytest.raises(DataError, match=r"no rows on the train side \(there were: train 2\)"):
        compare(tmp_path, sides, drop_leaked=True)


def test_the_digest_leaves_the_log_out(tmp_path: Path) -> None:
    """Equal sides have equal digests, whatever was found on the way to them."""
    strict, _ = compare(tmp_path / "a", LEAKY, near_threshold=0.99)
    loose, _ = compare(tmp_path / "b", LEAKY, near_threshold=0.6)
    (strict.folder / LEAKS_FILE).write_text("changed")
    assert strict.digest == loose.digest


def test_many_alike_rows_are_compared_in_linear_time(tmp_path: Path) -> None:
    """Every row is made from one template: 40,000 pairs are alike, and few are looked at."""
    rows = [row(f"r{number}", f"{LONG} number {number} and more") for number in range(500)]
    sides: Rows = {
        "test": rows[:100], "validation": rows[100:101], "train": rows[101:],
    }  # fmt: skip
    found, report = compare(tmp_path, sides, near_threshold=0.7)
    assert finding(report, "test", "train").by_kind["near"] == 100
    assert found.faults["leaked_rows"].rows == 100


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def read_asked(reference_data: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return questions with a paraphrase each, and schemas of some of their databases by name."""
    folder = reference_data / "spider_train"
    if folder.is_dir():
        schemas = json.loads((folder / "schemas.json").read_text(encoding="utf-8"))
        some = {name: schemas[name] for name in sorted(schemas)[:12]}
        return read_lines(folder / "questions.jsonl"), some
    shipped = REPOSITORY / "assets" / "text_to_sql_pt"
    databases = read_lines(shipped / "databases.jsonl")[:60]
    asked = read_lines(shipped / "train.jsonl")
    for one in asked:
        one["question_synonym"] = f"Responda, por favor: {one['question']}"
    return asked, {one["db_id"]: one["schema"] for one in databases}


@pytest.fixture(scope="module")
def spider(
    reference_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LeaksInputs, list[dict[str, Any]]]:
    """Questions over some databases and their paraphrases, as two sources."""
    questions, schemas = read_asked(reference_data)
    read = [each for each in questions if each["db_id"] in schemas]
    asked = {
        key: [row(f"{key}-{one['id']}", one[key], one["query"], one["db_id"]) for one in read]
        for key in ("question", "question_synonym")
    }
    sides: Rows = {"train": asked["question"], "validation": asked["question_synonym"], "test": []}
    rows = [*asked["question"], *asked["question_synonym"]]
    return make_inputs(tmp_path_factory.mktemp("spider"), sides, schemas), rows


@pytest.mark.parametrize("grouped", [True, False])
def test_paraphrases_leak_unless_databases_stay_together(
    tmp_path: Path, spider: tuple[LeaksInputs, list[dict[str, Any]]], grouped: bool
) -> None:
    """Ungrouped, every test row leaks whose query, letter by letter, another side has too."""
    inputs, rows = spider
    section = settings_of(SplitSettings, split={"grouped": grouped, "seed": 2})
    split = split_rows(SplitInputs(rows=inputs.clean), section, make_workdir(tmp_path / "split"))
    found = remove_leaks(
        inputs.model_copy(update={"split": split}),
        settings_of(LeaksSettings, quality={}, scoring={}),
        make_workdir(tmp_path / "leaks"),
    )
    held = set(names(split, "test"))
    queries = {(one["db_id"], one["answer"]) for one in rows if one["row_id"] not in held}
    repeated = sum(
        one["row_id"] in held and (one["db_id"], one["answer"]) in queries for one in rows
    )
    leaked = found.faults["leaked_rows"].rows
    assert leaked >= repeated
    assert leaked == 0 if grouped else repeated > len(held) / 2
    report = LeakReport.model_validate_json((found.folder / LEAKS_FILE).read_bytes())
    assert (finding(report, "test", "train").by_kind["query"] > 0) is not grouped
