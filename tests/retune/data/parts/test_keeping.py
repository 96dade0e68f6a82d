"""What was held out stays held out, whatever changes in settings and files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from retune.data.parts.keeping import keep_parts
from retune.data.parts.row_history import write_row_history
from retune.data.parts.splitting import SIDES, hash_name, split_rows
from retune.data.schemas import INDEX_SCHEMA
from retune.data.stages import SplitInputs, SplitSettings
from retune.data.tables import read_rows, write_table
from retune.errors import ArtifactError, DataError
from retune.records import CleanRef, SplitRef
from tests.making import make_workdir, settings_of

Row = dict[str, Any]


def row(text: str, group: str | None = None, *, held_out: bool = False) -> Row:
    """Return one row of an index; without a group it has the one of its text."""
    folded = hash_name(text)
    return {
        "source": 1 if held_out else 0,
        "row_id": f"{'test' if held_out else 'train'}-{text}",
        "group": group or f"{folded:016x}",
        "key": text,
        "label": None,
        "db_id": None,
        "held_out": held_out,
        "exact": folded,
        "folded": folded,
    }


class Versions:
    """Versions of a model, one after the other: each is split as the one before it asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.history: Path | None = None

    def make(
        self, rows: Sequence[Row], *, drop_leaked: bool = True, **config: Any
    ) -> tuple[SplitRef, dict[str, set[str]], str | None]:
        """Return the split, texts by side, and the digest of what was kept; it becomes champion."""
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        numbered = [{**each, "row": place} for place, each in enumerate(rows)]
        write_table(folder / "index.parquet", numbered, INDEX_SCHEMA)
        fixed = sum(each["held_out"] for each in rows)
        clean = CleanRef(digest="d", folder=folder, rows=len(rows), test_rows=fixed, faults={})
        settings = settings_of(SplitSettings, split=config)
        kept = self.history and keep_parts(
            clean, self.history, self.folder / "kept", settings.split, drop_leaked=drop_leaked
        )
        work = make_workdir(folder / "work")
        split = split_rows(SplitInputs(rows=clean, kept=kept or None), settings, work)
        if drop_leaked:
            self.drop_copies(split)
        history = folder / "history.parquet"
        write_row_history(history, clean, split, self.history)
        self.history = history
        sides = {
            side: {each["key"] for each in read_rows(split.folder / f"{side}.parquet")}
            for side in SIDES
        }
        return split, sides, kept.digest if kept else None

    def drop_copies(self, split: SplitRef) -> None:
        """Take copies of test rows off the other sides, as `remove_leaks` does."""
        asked = {each["folded"] for each in read_rows(split.folder / "test.parquet")}
        for side in ("train", "validation"):
            path = split.folder / f"{side}.parquet"
            kept = [each for each in read_rows(path) if each["folded"] not in asked]
            write_table(path, kept, INDEX_SCHEMA)


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path)


# By a group of its own text each: 300 rows, of which about 30 are held out.
ROWS = [row(f"r{number}") for number in range(300)]
GROUPED = [row(f"r{number}", f"g{number // 3}") for number in range(300)]
FIXED = [row(f"t{number}", held_out=True) for number in range(20)]


@pytest.mark.parametrize("rows", [ROWS, GROUPED])
def test_another_seed_moves_no_row_into_or_out_of_the_test(
    versions: Versions, rows: list[Row]
) -> None:
    """With other chance and shares, the test side is the one of the first version."""
    _, before, _ = versions.make(rows, seed=1, test_fraction=0.1)
    split, after, _ = versions.make(rows, seed=2, test_fraction=0.3)
    assert before["test"] == after["test"] and len(before["test"]) > 10
    # About 90 % of what was held out would be drawn elsewhere, and 30 % of the rest into the test.
    assert split.kept_out > len(before["test"]) / 2 and split.kept_in > 50
    assert split.groups_shared == 0


def test_new_rows_go_to_both_sides_in_the_recipe_s_proportion(versions: Versions) -> None:
    """The test side grows by its share of the new rows, and by nothing else."""
    _, before, _ = versions.make(ROWS, seed=1)
    new = [row(f"n{number}") for number in range(1000)]
    _, after, _ = versions.make([*ROWS, *new], seed=2, test_fraction=0.2)
    grown = after["test"] - before["test"]
    assert before["test"] <= after["test"] and grown <= {each["key"] for each in new}
    # 1,000 draws at 0.2: 200 +- 5 standard deviations of 12.6.
    assert 137 < len(grown) < 263


def test_a_repeated_run_keeps_nothing_by_hand(versions: Versions) -> None:
    """Where settings and rows are the same, no row would move, and the split has no such input."""
    versions.make(ROWS, seed=1)
    split, _, kept = versions.make(ROWS, seed=1)
    assert kept is None and split.kept_out == split.kept_in == 0
    assert versions.make([*ROWS, row("new")], seed=1)[2] is None


def test_a_repeated_run_keeps_what_it_kept_the_first_time(versions: Versions) -> None:
    """A run that had to keep rows has the same input again once its own model is champion."""
    versions.make(GROUPED, seed=1)
    new = [row(f"n{number}", f"g{number}") for number in range(200)]
    _, first, kept = versions.make([*GROUPED, *new], seed=2)
    _, second, again = versions.make([*GROUPED, *new], seed=2)
    assert kept is not None and (again, second) == (kept, first)


def test_copies_that_the_recipe_has_on_both_sides_ask_for_nothing(versions: Versions) -> None:
    """A copy that will be dropped as a leak, or that is allowed, changes no repeated run."""
    # By key, so that equal texts fall on different sides: the second of each pair has its own.
    rows = [*ROWS, *({**row(f"r{n}"), "key": f"copy{n}", "row_id": f"c{n}"} for n in range(300))]
    for drop_leaked in (True, False):
        versions.history = None
        versions.make(rows, seed=1, grouped=False, drop_leaked=drop_leaked)
        assert versions.make(rows, seed=1, grouped=False, drop_leaked=drop_leaked)[2] is None


def test_a_replaced_test_file_lets_no_earlier_test_row_be_learned(versions: Versions) -> None:
    """Rows of the old file that now stand in training are on no side, nor are their groups."""
    old = [row(f"t{number}", f"held{number // 2}", held_out=True) for number in range(20)]
    versions.make([*ROWS, *old], seed=1)
    moved = [row(f"t{number}", f"renamed{number}") for number in range(20)]
    beside = [row("beside", "held3")]
    other = [row(f"other{number}", held_out=True) for number in range(20)]
    split, sides, _ = versions.make([*ROWS, *moved, *beside, *other], seed=1)
    assert split.kept_out == 21
    assert sides["test"] == {each["key"] for each in other}
    assert not (sides["train"] | sides["validation"]) & {*(f"t{n}" for n in range(20)), "beside"}


def test_rows_that_were_gone_for_a_while_are_remembered(versions: Versions) -> None:
    """Held out in the first version, absent in the second, in the training file of the third."""
    versions.make([*ROWS, *FIXED], seed=1)
    other = [row(f"other{number}", held_out=True) for number in range(20)]
    versions.make([*ROWS, *other], seed=1)
    back = [row(f"t{number}") for number in range(20)]
    split, sides, _ = versions.make([*ROWS, *back], seed=1)
    # No file names the test rows any more: both files' rows are drawn into it.
    assert split.kept_out >= 15 and {each["key"] for each in back} <= sides["test"]


def test_a_test_row_copied_into_the_training_file_is_not_learned(versions: Versions) -> None:
    """Even where copies of test rows are not dropped."""
    versions.make([*ROWS, *FIXED], seed=1, drop_leaked=False)
    split, sides, _ = versions.make([*ROWS, row("t3"), *FIXED], seed=1, drop_leaked=False)
    assert split.kept_out == 1 and "t3" not in sides["train"] | sides["validation"]


def test_a_held_out_group_in_both_files_is_refused_as_before(versions: Versions) -> None:
    """That a group stands in both files is a wrong recipe, which keeping must not hide."""
    fixed = [row(f"t{number}", "db", held_out=True) for number in range(20)]
    versions.make([*ROWS, *fixed], seed=1)
    with pytest.raises(DataError, match=r"1 groups stand in data\.test and in data\.train: db"):
        versions.make([*ROWS, row("new", "db"), *fixed], seed=1)


@pytest.mark.parametrize("fault", ["foreign", "turned"])
def test_a_side_that_does_not_follow_the_kept_rows_is_refused(
    versions: Versions, tmp_path: Path, fault: str
) -> None:
    """A row that was not kept, or another order: the rows behind it would count as unused."""
    split, _, _ = versions.make(ROWS, seed=1)
    clean = CleanRef(digest="d", folder=tmp_path / "1", rows=len(ROWS), test_rows=0, faults={})
    path = split.folder / "test.parquet"
    rows = list(read_rows(path))
    if fault == "foreign":
        rows[0] |= {"row": 1000}
    write_table(path, rows if fault == "foreign" else rows[::-1], INDEX_SCHEMA)
    with pytest.raises(
        ArtifactError, match=r"rows of test are not in .*1/index\.parquet, or stand"
    ):
        write_row_history(tmp_path / "history.parquet", clean, split, None)
