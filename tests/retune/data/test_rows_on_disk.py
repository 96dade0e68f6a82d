"""Rows beyond memory: what is compared on disk comes out as it does in memory, byte by byte."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retune.data import stages
from retune.data.columns.in_memory import ColumnsInMemory
from retune.data.columns.on_disk import ColumnsOnDisk
from retune.data.findings import QUALITY_FILE
from retune.data.parts.leaks import remove_leaks
from retune.data.parts.splitting import split_rows
from retune.data.quality import near_indexes, shingle_sets
from retune.data.quality.cleaning import clean_rows
from retune.data.quality.near import LONGEST_CHAIN, PERMUTATIONS
from retune.data.quality.near_indexes import open_near_index
from retune.data.schemas import ROW_SCHEMA
from retune.data.stages import (
    CleanInputs,
    CleanSettings,
    LeaksInputs,
    LeaksSettings,
    SplitInputs,
    SplitSettings,
)
from retune.data.tables import write_table
from retune.errors import DataError
from retune.records import CleanRef, DatasetRef, SplitRef
from retune.spine.stage import key_parts
from tests.making import make_workdir, settings_of

EMPTY = dict.fromkeys(ROW_SCHEMA.names) | {"history": [], "context": "", "answer": "a", "file": 0}


CLEAN = CleanRef(digest="c", folder=Path("clean"), rows=1, test_rows=0, faults={})
SPLIT = SplitRef(digest="s", folder=Path("split"), groups_shared=0, train=1, validation=1, test=1)


def make_rows(seed: int, count: int, template: float) -> list[dict[str, Any]]:
    """Make rows of which many repeat, nearly repeat or contradict an earlier one.

    Their words are numbers but for two: a text of so few letters needs no model of languages.
    """
    draw = random.Random(seed)
    shared = " ".join(str(1000 + number) for number in range(30))
    rows: list[dict[str, Any]] = []
    for number in range(count):
        if rows and draw.random() < 0.5:
            words = draw.choice(rows)["question"].split(" ")
            change = draw.randrange(4)
            if change == 1:
                words = [word.upper() for word in words]
            elif change == 2:
                words[-1] = f"x{number}"
            elif change == 3:
                words.append("fim")
        else:
            words = ["nota", "fiscal", *(str(draw.randrange(90)) for _ in range(23))]
            if draw.random() < template:
                words = [*words[:4], shared]
        rows.append(
            {
                "question": " ".join(words),
                "label": draw.choice(["sim", "não", None]),
                "group": draw.choice([None, None, f"g{draw.randrange(40)}"]),
            }
        )
    return rows


def write_source(folder: Path, rows: Sequence[dict[str, Any]]) -> DatasetRef:
    """Write a source as `load_rows` does."""
    folder.mkdir(parents=True)
    listed = [{**EMPTY, "line": place, **row} for place, row in enumerate(rows, 1)]
    count = write_table(folder / "rows.parquet", listed, ROW_SCHEMA)
    labels = tuple(sorted({row["label"] for row in rows if row.get("label")}))
    of = {"digest": "0" * 64, "folder": folder, "format": "text_label", "databases": 0}
    return DatasetRef(rows=count, bad_rows=0, labels=labels, **of)


def prepare(
    folder: Path, sources: Sequence[DatasetRef], rows_in_memory: int, inputs: Any, **sections: Any
) -> list[tuple[str, Any]]:
    """Clean, divide and compare sources; return all records and all files."""
    sections["quality"] = sections.get("quality", {}) | {"rows_in_memory": rows_in_memory}
    works = {name: make_workdir(folder / name) for name in ("clean", "split", "leaks")}
    try:
        given_ = CleanInputs(
            rows=tuple(sources), names=tuple((f"{n}.jsonl",) for n, _ in enumerate(sources)),
            **inputs,
        )  # fmt: skip
        clean = clean_rows(given_, settings_of(CleanSettings, **sections), works["clean"])
        divided = settings_of(SplitSettings, **sections)
        split = split_rows(SplitInputs(rows=clean), divided, works["split"])
        compared = LeaksInputs(split=split, clean=clean, rows=tuple(sources), databases=None)
        leaks = remove_leaks(compared, settings_of(LeaksSettings, **sections), works["leaks"])
    except DataError as error:
        return [("error", str(error))]
    found: list[tuple[str, Any]] = [
        (type(each).__name__, each.model_dump(exclude={"folder"})) for each in (clean, split, leaks)
    ]
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            found.append((name, _without_seconds(path) if name.endswith(".json") else _read(path)))
    return found


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _without_seconds(path: Path) -> Any:
    read = json.loads(path.read_text("utf-8"))
    return read | {"seconds": None} if path.name == Path(QUALITY_FILE).name else read


SEEDS = st.integers(0, 10_000)


@given(
    seed=SEEDS,
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    quality=st.fixed_dictionaries(
        {
            "drop_duplicates": st.sampled_from(["none", "exact", "folded", "near"]),
            "drop_conflicting_labels": st.booleans(),
            "drop_leaked": st.booleans(),
            "near_threshold": st.sampled_from([0.6, 0.8, 0.95]),
        }
    ),
    split=st.fixed_dictionaries(
        {"grouped": st.booleans(), "stratified": st.booleans(), "test_fraction": st.just(0.3)},
        optional={"max_train_rows": st.integers(1, 30), "max_test_rows": st.integers(1, 9)},
    ),
    held_out=st.booleans(),
    weighted=st.booleans(),
)
@settings(max_examples=5, deadline=None)
@pytest.mark.slow
def test_generated_rows_come_out_the_same(
    seed: int, counts: list[int], quality: Any, split: Any, held_out: bool, weighted: bool
) -> None:
    """Copies, conflicts, groups, leaks, weights, subsets and refusals, whatever the settings."""
    rows = [make_rows(seed + place, count, 0.2) for place, count in enumerate(counts)]
    fixed = held_out and len(counts) > 1
    inputs = {
        "held_out": tuple(fixed and place == len(counts) - 1 for place in range(len(counts))),
        "weights": tuple(float(place + 1) if weighted else None for place in range(len(counts))),
    }
    with tempfile.TemporaryDirectory() as folder:
        sources = [write_source(Path(folder) / f"s{n}", each) for n, each in enumerate(rows)]
        memory, disk = (
            prepare(Path(folder) / str(most), sources, most, inputs, quality=quality, split=split)
            for most in (10_000, 0)
        )
    assert memory == disk


@pytest.mark.slow
def test_rows_made_from_a_template_come_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more rows in one band than are looked at, the same ones are, in pieces as with many rows.

    Signatures are copied by seven, and bands are joined by two.
    """
    sources = [write_source(tmp_path / "rows", make_rows(3, 400, 0.9))]
    inputs = {"held_out": (False,), "weights": (None,)}
    quality = {"drop_duplicates": "near", "near_threshold": 0.8, "drop_leaked": True}
    memory = prepare(tmp_path / "400", sources, 400, inputs, quality=quality)
    monkeypatch.setattr(shingle_sets, "_COPIED_AT_ONCE", 7)
    monkeypatch.setattr(near_indexes, "_HASHES_AT_ONCE", 2 * 400)
    disk = prepare(tmp_path / "399", sources, 399, inputs, quality=quality)
    assert memory == disk
    assert dict(memory)["CleanRef"]["faults"]["near_duplicates"]["rows"] > LONGEST_CHAIN


@pytest.mark.parametrize(
    ("declared", "inputs"),
    [
        (stages.clean_rows, CleanInputs(rows=(), weights=(), held_out=(), names=())),
        (stages.split_rows, SplitInputs(rows=CLEAN)),
        (stages.remove_leaks, LeaksInputs(split=SPLIT, clean=CLEAN, rows=(), databases=None)),
    ],
)
def test_where_rows_are_compared_is_no_part_of_a_key(declared: Any, inputs: Any) -> None:
    """Artifacts made in memory serve a run that would compare on disk, and the other way round."""
    parts = [
        key_parts(declared, inputs, settings_of(declared.settings, quality=quality))
        for quality in ({"rows_in_memory": 0}, {"rows_in_memory": 7})
    ]
    assert parts[0] == parts[1]


def test_both_indexes_look_at_the_newest_of_a_band(tmp_path: Path) -> None:
    """Of 70 equal signatures the newest 64 are candidates of the 71st, wherever the index lies."""
    rows = LONGEST_CHAIN + 7
    signatures = np.arange(rows), np.ones((rows, PERMUTATIONS), np.uint32)
    with ColumnsOnDisk(tmp_path / "disk") as disk:
        for columns in (ColumnsInMemory(), disk):
            index = open_near_index(0.8, columns, lambda done, total: None)
            for place, bands in index.walk(iter([signatures])):
                found = index.query(bands)
                index.add(place, bands)
            assert found == list(range(6, LONGEST_CHAIN + 6))


@pytest.mark.parametrize(("hashes_at_once", "steps"), [(1, 1), (40 * 3, 3), (10**9, 128)])
def test_bands_joined_in_groups_name_the_same_candidates(
    hashes_at_once: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 signatures of few values, of which each shares some bands with some others."""
    monkeypatch.setattr(near_indexes, "_HASHES_AT_ONCE", hashes_at_once)
    draw = np.random.default_rng(5)
    signatures = draw.integers(0, 4, (40, PERMUTATIONS)).astype(np.uint32)
    # Rows half of which are those of the row before: of equal values alone no band would be equal.
    for row in range(1, 40, 2):
        same = slice(0, 64) if row % 4 == 1 else slice(64, 128)
        signatures[row, same] = signatures[row - 1, same]
    pieces = [(np.arange(40)[part], signatures[part]) for part in (slice(0, 17), slice(17, 40))]
    found: list[dict[int, list[int]]] = []
    joined: list[tuple[int, int]] = []
    with ColumnsOnDisk(tmp_path / "disk") as disk:
        for columns in (ColumnsInMemory(), disk):
            index = open_near_index(0.6, columns, lambda *done: joined.append(done))
            found.append({})
            for place, bands in index.walk(iter(pieces)):
                if candidates := index.query(bands):
                    found[-1][place] = candidates
                index.add(place, bands)
    memory, on_disk = found
    assert on_disk == memory
    assert memory.keys() >= set(range(1, 40, 2))
    bands = joined[-1][1]
    ends = range(steps, bands + steps, steps)
    assert bands > 3 and joined == [(min(end, bands), bands) for end in ends]


@pytest.mark.parametrize("size", range(1, 8))
def test_a_text_s_chains_may_stand_in_several_batches(size: int) -> None:
    """Seven entries of three texts, cut after each number of them."""
    places, chains = [0, 0, 0, 4, 9, 9, 9], [5, 6, 7, 5, 7, 6, 8]
    batches = [
        {"place": pa.array(places[at : at + size]), "chain": pa.array(chains[at : at + size])}
        for at in range(0, 7, size)
    ]
    grouped = [(place, found.tolist()) for place, found in near_indexes._group(batches)]
    assert grouped == [(0, [5, 6, 7]), (4, [5]), (9, [7, 6, 8])]
