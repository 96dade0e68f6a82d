"""Splitting: stable when rows come, and by group where groups must not leak."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retune.data.rows import ROW_SCHEMA
from retune.data.splitting import SIDES, choose_side, split_rows
from retune.data.tables import read_rows, write_table
from retune.errors import DataError
from retune.records import DatasetRef, SplitRef
from retune.requests import SplitInputs, SplitSection
from tests.making import make_workdir, section_of


def row(name: str, group: str, fixed_test: bool = False) -> dict[str, Any]:
    text = {"row_id": name, "group": group, "question": "q", "answer": "a", "db_id": None}
    return {**text, "fixed_test": fixed_test, "line": 1}


def split(rows: list[dict[str, Any]], **config: Any) -> tuple[SplitRef, dict[str, set[str]]]:
    folder = Path(tempfile.mkdtemp(dir=TEMPORARY))
    write_table(folder / "rows.parquet", rows, ROW_SCHEMA)
    fixed = sum(one["fixed_test"] for one in rows)
    inputs = SplitInputs(
        rows=DatasetRef(digest="d", folder=folder, rows=len(rows), test_rows=fixed, databases=0)
    )
    found = split_rows(inputs, section_of(SplitSection, split=config), make_workdir(folder / "w"))
    sides = {
        side: {one["row_id"] for one in read_rows(found.folder / f"{side}.parquet")}
        for side in SIDES
    }
    return found, sides


TEMPORARY = tempfile.gettempdir()


@pytest.fixture(autouse=True, scope="module")
def _temporary(tmp_path_factory: pytest.TempPathFactory) -> None:
    # hypothesis does not go together with a folder per test.
    global TEMPORARY
    TEMPORARY = str(tmp_path_factory.mktemp("splits"))


# 300 groups of two rows: that a side of 10 % stays empty has a chance of 0.9^300, 1e-14.
ROWS = [row(f"r{number}", f"g{number // 2}") for number in range(600)]


@settings(max_examples=12, deadline=None)
@given(
    added=st.lists(st.tuples(st.uuids(), st.integers(0, 400)), max_size=30),
    grouped=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_adding_rows_moves_no_old_row(
    added: list[tuple[Any, int]], grouped: bool, seed: int
) -> None:
    """New rows, of new groups or of old ones, leave every old row on its side."""
    config = {"grouped": grouped, "seed": seed}
    _, before = split(ROWS, **config)
    new = [row(f"new-{name}", f"g{group}") for name, group in added]
    _, after = split(ROWS[:300] + new + ROWS[300:], **config)
    assert all(before[side] <= after[side] for side in SIDES)


@settings(max_examples=12, deadline=None)
@given(groups=st.integers(100, 300), seed=st.integers(0, 2**32 - 1))
def test_no_group_is_on_two_sides(groups: int, seed: int) -> None:
    """Rows of one database stay together."""
    rows = [row(f"r{number}", f"g{number % groups}") for number in range(600)]
    found, sides = split(rows, seed=seed, validation_fraction=0.3, test_fraction=0.3)
    by_side = {side: {f"g{int(name[1:]) % groups}" for name in sides[side]} for side in SIDES}
    assert not by_side["train"] & by_side["test"]
    assert not by_side["train"] & by_side["validation"]
    assert not by_side["validation"] & by_side["test"]
    assert found.groups_shared == 0


def test_shared_groups_are_counted() -> None:
    """Ungrouped, two rows of a group meet on one side with 0.8^2 + 0.1^2 + 0.1^2 = 66 %.

    Of 300 groups 34 % = 102 are expected on two sides, with a standard deviation of 8.
    """
    found, _ = split(ROWS, grouped=False)
    assert 102 - 4 * 8 < found.groups_shared < 102 + 4 * 8


def test_shares_are_about_right() -> None:
    """Of 20,000 names 10 % and 20 %, within four standard deviations (0.0021 and 0.0028)."""
    sides = [
        choose_side(f"row {number}", seed=3, validation_fraction=0.2, test_fraction=0.1)
        for number in range(20_000)
    ]
    assert sides.count("test") / 20_000 == pytest.approx(0.1, abs=4 * 0.0021)
    assert sides.count("validation") / 20_000 == pytest.approx(0.2, abs=4 * 0.0028)


def test_a_side_follows_from_the_hash() -> None:
    r"""The first 8 bytes of sha256("7\\0a"), as a part of 2^64, say where "a" goes."""
    place = int(hashlib.sha256(b"7\x00a").hexdigest()[:16], 16) / 2**64
    above = choose_side("a", seed=7, validation_fraction=0.5, test_fraction=place + 1e-9)
    below = choose_side("a", seed=7, validation_fraction=0.5, test_fraction=place - 1e-9)
    assert (above, below) == ("test", "validation")


def test_another_seed_divides_otherwise() -> None:
    """The seed is the only thing that a person can turn."""
    assert split(ROWS, seed=1)[1] != split(ROWS, seed=2)[1]


def test_an_empty_side_is_refused() -> None:
    """One group can only be on one side; the message gives the counts and the way out."""
    with pytest.raises(DataError, match=r"has no rows \(2 rows in all: .*split.grouped to false"):
        split([row("a", "g"), row("b", "g")])


def test_a_fixed_test_file_is_the_test_side() -> None:
    """Its rows all are on the test side, and no other row is."""
    fixed = [row(f"t{number}", f"h{number}", fixed_test=True) for number in range(5)]
    found, sides = split([*ROWS, *fixed], test_fraction=0.5)
    assert sides["test"] == {f"t{number}" for number in range(5)}
    assert found.train + found.validation == 600


def test_a_limited_test_side_is_a_part_of_the_whole_one() -> None:
    """The rows left out go nowhere else: training sees none of them."""
    _, whole = split(ROWS)
    limited, part = split(ROWS, max_test_rows=5)
    assert limited.test == 5
    assert part["test"] < whole["test"]
    assert part["train"] == whole["train"]


def test_a_smaller_limit_is_a_part_of_a_larger_one() -> None:
    """Rows are drawn one by one, so that a quick check scores rows of the full one."""
    assert split(ROWS, max_test_rows=3)[1]["test"] < split(ROWS, max_test_rows=9)[1]["test"]
