"""Which rows a champion knows: by what they ask, on any side, or as its manifest has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.data.quality.texts import write_hash
from retune.data.schemas import HISTORY_SCHEMA
from retune.data.tables import read_rows, write_table
from retune.digests import digest_folder
from retune.records import ChatRef, CleanRef, SplitRef
from retune.retraining.known_rows import draw_rows, find_asked, find_trained
from retune.retraining.newer_rows import leave_out_known
from retune.retraining.stages import KnownInputs
from tests.making import make_workdir, source_of


def index_ids(clean: CleanRef) -> list[tuple[str, str]]:
    rows = read_rows(clean.folder / "index.parquet")
    return [(row["row_id"], write_hash(row["folded"])) for row in rows]


def left(work: Path, **given: object) -> tuple[SplitRef, list[str]]:
    split = leave_out_known(KnownInputs(**given), make_workdir(work))
    return split, [row["row_id"] for row in read_rows(split.folder / "test.parquet")]


def test_rows_of_every_side_are_known(tmp_path: Path, clean: CleanRef, split: SplitRef) -> None:
    """The rows of the recipe itself are none that is newer."""
    found, ids = left(tmp_path / "work", newer=clean, split=split)
    assert (found.train, found.validation, found.test, ids) == (0, 0, 0, [])
    assert found.digest == digest_folder(found.folder)


@pytest.mark.parametrize("side", ["train", "validation", "test", "learned", "held_out", "left_out"])
def test_a_manifest_says_what_the_champion_knows(
    tmp_path: Path, clean: CleanRef, split: SplitRef, side: str
) -> None:
    """Its rows count, whatever the recipe has now; those that were on no side are new."""
    known = index_ids(clean)[:4]
    path = tmp_path / "1.rows.parquet"
    rows = [{"side": side, "row_id": name, "content": c, "group": "g"} for name, c in known]
    write_table(path, rows, HISTORY_SCHEMA)
    history = source_of(path)
    found, ids = left(tmp_path / "work", newer=clean, split=split, history=history)
    expected = [name for name, _ in index_ids(clean)][0 if side == "left_out" else 4 :]
    assert ids == expected and found.test == len(expected)


def test_a_manifest_says_which_rows_the_champion_was_trained_on(
    tmp_path: Path, chats: ChatRef, split: SplitRef
) -> None:
    """Rows that came later are none of them; without any left, or a manifest, all rows count."""
    index = read_rows(split.folder / "train.parquet")
    sides = ["train", "learned", "validation", "test"]
    rows = [
        {"side": side, "row_id": "x", "content": write_hash(row["folded"]), "group": "g"}
        for side, row in zip(sides, index, strict=False)
    ]
    path = tmp_path / "1.rows.parquet"
    write_table(path, rows, HISTORY_SCHEMA)
    trained = find_trained(split, path)
    assert trained == {row["row_id"] for row in index[:2]}
    assert len(draw_rows(chats.side("train"), "prompt", 100, 7, trained)) == 2
    write_table(path, rows[2:], HISTORY_SCHEMA)
    assert find_trained(split, path) is None and find_trained(split, None) is None
    assert len(draw_rows(chats.side("train"), "prompt", 100, 7, None)) == len(index)


def test_a_manifest_says_which_rows_the_champion_was_promoted_on(
    tmp_path: Path, split: SplitRef
) -> None:
    """Test rows that came later, or that only an earlier version was asked, are none of them."""
    index = read_rows(split.folder / "test.parquet")
    path = tmp_path / "1.rows.parquet"
    rows = [
        {"side": side, "row_id": "x", "content": write_hash(row["folded"]), "group": "g"}
        for side, row in zip(("test", "held_out"), index, strict=False)
    ]
    write_table(path, rows, HISTORY_SCHEMA)
    assert find_asked(split, path) == {index[0]["row_id"]}
    assert find_asked(split, None) is None
