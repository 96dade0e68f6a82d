"""Held-out rows that decisions rested on: known again, and compared with today's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from retune.data.schemas import INDEX_SCHEMA
from retune.errors import ArtifactError
from retune.records import SplitRef
from retune.release.held_out_rows import (
    RowHashes,
    find_shared,
    read_test_rows,
    remember_rows,
)


def rows(*hashes: int) -> RowHashes:
    return np.array(hashes, dtype=np.uint64)


def write_side(folder: Path, folded: list[int]) -> SplitRef:
    """A split whose test side has rows of these hashes, and nothing else that matters."""
    folder.mkdir()
    empty = {name: [None] * len(folded) for name in INDEX_SCHEMA.names}
    table = pa.table({**empty, "folded": folded}, schema=INDEX_SCHEMA)
    pq.write_table(table, folder / "test.parquet")
    return SplitRef(
        digest="s", folder=folder, train=1, validation=1, test=len(folded), groups_shared=0
    )


def test_rows_in_another_order_are_the_same_set(tmp_path: Path) -> None:
    """Hashes use all 64 bits; a question that stands there twice is one."""
    high = 2**64 - 1
    found = read_test_rows(write_side(tmp_path / "a", [high, 5, 5, 7]))
    other = read_test_rows(write_side(tmp_path / "b", [7, high, 5]))
    assert found.tolist() == [5, 7, high]
    assert other.tolist() == found.tolist()


def test_the_shared_part_is_of_todays_rows(tmp_path: Path) -> None:
    """Of four rows three were among the earlier ones; of the earlier set all rows were."""
    before, today = rows(1, 2, 3), rows(1, 2, 3, 4)
    assert find_shared(tmp_path / "none", today) == {}
    for name, each in (("a", before), ("b", rows(8, 9)), ("a", before)):
        remember_rows(tmp_path, name, each)
    assert find_shared(tmp_path, today) == {"a": 0.75, "b": 0.0}
    assert find_shared(tmp_path, before)["a"] == 1.0
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npy", ".npy"]


@pytest.mark.parametrize("found", [None, rows(), np.ones(3), np.ones((1, 3), np.uint64)])
def test_a_damaged_set_says_what_to_do(
    tmp_path: Path, found: NDArray[np.float64] | RowHashes | None
) -> None:
    """It is not passed over in silence, nor read as other rows: that would give error back."""
    (tmp_path / "0.npy").write_bytes(b"")
    if found is not None:
        np.save(tmp_path / "0.npy", found)
    with pytest.raises(ArtifactError, match=r"0\.npy: cannot be read .* Delete it"):
        find_shared(tmp_path, rows(1))
