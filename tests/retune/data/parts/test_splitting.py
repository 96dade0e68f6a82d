"""Splitting: stable when rows come, and by group where groups must not leak."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retune.data.parts.splitting import SIDES, choose_side, split_rows
from retune.data.schemas import INDEX_SCHEMA
from retune.data.shares import share_out
from retune.data.stages import SplitInputs, SplitSettings
from retune.data.tables import read_rows, write_table
from retune.errors import DataError
from retune.records import CleanRef, Side, SplitRef
from tests.making import make_workdir, settings_of


def row(name: str, group: str | None = None, **more: Any) -> dict[str, Any]:
    """Return one row of an index; without a group it has the one of its text."""
    folded = int(hashlib.sha256(name.encode()).hexdigest()[:16], 16)
    own = {"row_id": name, "key": name, "exact": folded, "folded": folded}
    own["group"] = f"{folded:016x}" if group is None else group
    place = {"source": 0, "row": 0, "label": None, "db_id": None, "held_out": False}
    return {**own, **place, **more}


def split(rows: list[dict[str, Any]], **config: Any) -> tuple[SplitRef, dict[Side, set[str]]]:
    folder = Path(tempfile.mkdtemp(dir=TEMPORARY))
    write_table(folder / "index.parquet", rows, INDEX_SCHEMA)
    fixed = sum(one["held_out"] for one in rows)
    clean = CleanRef(digest="d", folder=folder, rows=len(rows), test_rows=fixed, faults={})
    section = settings_of(SplitSettings, split=config)
    found = split_rows(SplitInputs(rows=clean), section, make_workdir(folder / "w"))
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
# 300 rows of spam and 600 of ham, each a group by its text.
LABELLED = [row(f"t{n}", label="spam" if n % 3 == 0 else "ham") for n in range(900)]
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=12, deadline=None)
@given(
    added=st.lists(st.tuples(st.uuids(), st.integers(0, 400)), max_size=30, unique=True),
    grouped=st.booleans(),
    seed=SEEDS,
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
@given(
    labels=st.lists(st.sampled_from(["spam", "ham", "eggs", None]), min_size=1, max_size=40),
    grouped=st.booleans(),
    limit=st.integers(100, 700),
    seed=SEEDS,
)
def test_adding_labelled_rows_carries_no_old_row_to_another_side(
    labels: list[str | None], grouped: bool, limit: int, seed: int
) -> None:
    """A limit may let an old row in or out, but never moves it from one side to another."""
    config = {"grouped": grouped, "seed": seed, "max_train_rows": limit, "max_test_rows": 30}
    _, before = split(LABELLED, **config)
    new = [row(f"new-{n}", label=label) for n, label in enumerate(labels)]
    new += [row(f"seen-{n}", label=label) for label in ("eggs", None) for n in range(40)]
    _, after = split([*new, *LABELLED], **config)
    for side in SIDES:
        others = set().union(*(after[other] for other in SIDES if other != side))
        assert not before[side] & others


@settings(max_examples=12, deadline=None)
@given(order=st.randoms(use_true_random=False), seed=SEEDS, grouped=st.booleans())
def test_the_order_of_rows_changes_nothing(order: random.Random, seed: int, grouped: bool) -> None:
    """The sides of shuffled rows hold the same rows, limits or not."""
    config = {"seed": seed, "grouped": grouped, "max_train_rows": 200, "max_validation_rows": 20}
    shuffled = list(LABELLED)
    order.shuffle(shuffled)
    assert split(shuffled, **config)[1] == split(LABELLED, **config)[1]


@settings(max_examples=12, deadline=None)
@given(
    groups=st.integers(100, 300),
    seed=SEEDS,
    limit=st.none() | st.integers(1, 100),
    labels=st.integers(1, 3),
)
def test_no_group_is_on_two_sides(groups: int, seed: int, limit: int | None, labels: int) -> None:
    """Rows of one database stay together, whatever labels they have and however few are drawn."""
    rows = [
        row(f"r{n}", f"g{n % groups}", label=f"l{n % labels}" if labels > 1 else None)
        for n in range(600)
    ]
    config = {"validation_fraction": 0.3, "test_fraction": 0.3, "max_test_rows": limit}
    found, sides = split(rows, seed=seed, **config)
    by_side = {side: {f"g{int(name[1:]) % groups}" for name in sides[side]} for side in SIDES}
    assert not by_side["train"] & by_side["test"]
    assert not by_side["train"] & by_side["validation"]
    assert not by_side["validation"] & by_side["test"]
    assert found.groups_shared == 0


def test_a_text_with_two_labels_stays_together() -> None:
    """Rows with the same folded text are a group; that their labels differ divides no group."""
    twice = [{**one, "row_id": f"{one['row_id']}-again", "label": "ham"} for one in LABELLED]
    found, sides = split([*LABELLED, *twice])
    assert found.groups_shared == 0
    assert all(
        {f"{name.removesuffix('-again')}-again" for name in side} <= side for side in sides.values()
    )


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


def test_rows_keep_the_order_of_the_index() -> None:
    """So that equal rows give equal bytes."""
    found, _ = split(ROWS)
    names = [one["row_id"] for one in read_rows(found.folder / "train.parquet")]
    assert names == sorted(names, key=lambda name: int(name[1:]))


def test_an_empty_side_is_refused() -> None:
    """One group can only be on one side; the message gives the counts and the way out."""
    with pytest.raises(DataError, match=r"has no rows \(2 rows in all: .*split.grouped to false"):
        split([row("a", "g"), row("b", "g")])


def test_an_empty_side_names_the_largest_group() -> None:
    """Of four rows three are of one database, 75 %."""
    rows = [row("a", "big"), row("b", "big"), row("c", "big"), row("d", "small")]
    with pytest.raises(DataError, match=r"2 groups .*'big', holds 3 rows \(75\.0 %\)"):
        split(rows)


def test_a_group_larger_than_the_split_is_refused() -> None:
    """900 rows of one document of 1,500 fall into test; 60 % held out was not asked for."""
    seed = next(
        seed
        for seed in range(100)
        if choose_side("big", seed=seed, validation_fraction=0.1, test_fraction=0.1) == "test"
    )
    big = [row(f"b{number}", "big") for number in range(900)]
    with pytest.raises(DataError, match=r"'big', alone holds 900 of 1,500 rows \(60\.0 %\)"):
        split([*ROWS, *big], seed=seed)


def test_a_fixed_test_source_is_the_test_side() -> None:
    """Its rows all are on the test side, and no other row is."""
    fixed = [row(f"t{number}", f"h{number}", held_out=True) for number in range(5)]
    found, sides = split([*ROWS, *fixed], test_fraction=0.5)
    assert sides["test"] == {f"t{number}" for number in range(5)}
    assert found.train + found.validation == 600


def test_a_fixed_test_source_may_be_larger_than_training() -> None:
    """Learning from few rows is no mistake: only what is drawn by hash is held to its share."""
    fixed = [row(f"t{number}", "h", held_out=True) for number in range(900)]
    assert split([*ROWS, *fixed])[0].test == 900


def test_a_group_that_is_held_out_and_learned_is_refused() -> None:
    """The database g7 is in both files."""
    with pytest.raises(DataError, match=r"1 groups stand in data\.test and in data.train: g7"):
        split([*ROWS, row("t", "g7", held_out=True)])


def test_a_text_that_is_held_out_and_learned_is_left_to_the_search_for_leaks() -> None:
    """Two rows without a group of their own, equal but for their names."""
    copy = {**LABELLED[0], "row_id": "copy", "held_out": True}
    assert split([*LABELLED, copy])[0].groups_shared == 1


def test_a_label_that_is_never_learned_is_refused() -> None:
    """The message names the label and its rows."""
    fixed = [row(f"t{n}", label="eggs" if n < 2 else "ham", held_out=True) for n in range(5)]
    with pytest.raises(DataError, match=r"labels never seen in training: 'eggs' \(2 rows\)"):
        split([*LABELLED, *fixed])


def test_a_limited_side_is_a_part_of_the_whole_one() -> None:
    """The rows left out go nowhere else: training sees none of them."""
    _, whole = split(ROWS)
    limited, part = split(ROWS, max_test_rows=5)
    assert limited.test == 5
    assert part["test"] < whole["test"]
    assert part["train"] == whole["train"]


def test_a_smaller_limit_is_a_part_of_a_larger_one() -> None:
    """Rows are drawn one by one, so that a quick check scores rows of the full one."""
    assert split(ROWS, max_test_rows=3)[1]["test"] < split(ROWS, max_test_rows=9)[1]["test"]


@pytest.mark.parametrize("grouped", [True, False])
def test_limits_restore_the_shares_of_labels(grouped: bool) -> None:
    """Of all rows a third is spam: 100 of 300, and 7 of 20 (6.67 has the larger remainder)."""
    config = {"grouped": grouped, "max_train_rows": 300, "max_test_rows": 20}
    _, sides = split(LABELLED, **config)
    labels = {one["row_id"]: one["label"] for one in LABELLED}
    counted = {side: Counter(labels[name] for name in sides[side]) for side in SIDES}
    assert counted["train"] == {"spam": 100, "ham": 200}
    assert counted["test"] == {"spam": 7, "ham": 13}


@pytest.mark.parametrize(
    ("count", "wanted", "available", "given"),
    [
        # Quotas 5, 3, 2.
        (10, [50, 30, 20], [50, 30, 20], [5, 3, 2]),
        # Quotas 3.33 each: the one left goes to the first.
        (10, [1, 1, 1], [9, 9, 9], [4, 3, 3]),
        # Quotas 1.43, 2.86, 5.71: down to 1, 2, 5; the two left go to .86 and .71.
        (10, [1, 2, 4], [9, 9, 9], [1, 3, 6]),
        # Quotas 5 and 5, but the first has 2: the second takes the rest.
        (10, [1, 1], [2, 9], [2, 8]),
        # Not enough in all.
        (10, [1, 1], [2, 3], [2, 3]),
        (0, [1, 1], [2, 3], [0, 0]),
    ],
)
def test_a_number_is_shared_out_by_largest_remainder(
    count: int, wanted: list[int], available: list[int], given: list[int]
) -> None:
    """Whole numbers, as near to the proportions as can be."""
    assert share_out(count, wanted, available) == given
