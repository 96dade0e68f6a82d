"""Columns in memory and on disk: both answer as plain Python does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retune.data.columns.contract import BLOCK_ROWS, Columns
from retune.data.columns.in_memory import ColumnsInMemory
from retune.data.columns.mapped_files import map_zeros
from retune.data.columns.on_disk import ColumnsOnDisk, explained

# Value, part, label: few of each, so that they meet. The largest values fit no signed number.
ROWS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 3, 2**63, 2**64 - 1]), st.integers(-1, 2), st.integers(-1, 1)
    ),
    max_size=25,
)


@pytest.fixture(scope="module", params=["memory", "disk"])
def columns(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Columns]:
    """Columns of each kind; one connection serves all tests."""
    if request.param == "memory":
        yield ColumnsInMemory()
        return
    with ColumnsOnDisk(tmp_path_factory.mktemp("columns") / "disk") as made:
        yield made


@given(rows=ROWS)
@settings(max_examples=25, deadline=None)
def test_first_places_are_those_of_a_dictionary(
    columns: Columns, rows: list[tuple[int, int, int]]
) -> None:
    """A row repeats the first one of its part with its value; the first one repeats none."""
    first: dict[tuple[int, int], int] = {}
    expected = []
    for place, (value, part, _) in enumerate(rows):
        earlier = first.setdefault((value, part), place)
        expected.append(-1 if earlier == place else earlier)
    values, parts = _column(rows, 0, np.uint64), _column(rows, 1, np.int8)
    assert columns.first_places(values, parts).tolist() == expected


@given(rows=ROWS, hay=ROWS)
@settings(max_examples=25, deadline=None)
def test_first_equal_is_the_first_and_zero_equals_nothing(
    columns: Columns, rows: list[tuple[int, int, int]], hay: list[tuple[int, int, int]]
) -> None:
    """A needle is found where it stands first in the hay, and 0 never."""
    listed = [value for value, _, _ in hay]
    expected = [listed.index(v) if v and v in listed else -1 for v, _, _ in rows]
    found = columns.first_equal(_column(rows, 0, np.uint64), _column(hay, 0, np.uint64))
    assert found.tolist() == expected


@given(rows=ROWS)
@example(rows=[(1, 0, 0), (1, 0, 1), (1, 0, -1), (1, 1, 0)])
@settings(max_examples=25, deadline=None)
def test_conflicting_texts_have_two_labels_in_one_part(
    columns: Columns, rows: list[tuple[int, int, int]]
) -> None:
    """Rows without a label neither make a conflict nor are part of one."""
    labels: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
    for value, part, label in rows:
        labels[value, part] |= {label} - {-1}
    texts = {text for text, found in labels.items() if len(found) > 1}
    expected = [label >= 0 and (value, part) in texts for value, part, label in rows]
    count, at_fault = columns.conflicting(
        _column(rows, 0, np.uint64), _column(rows, 2, np.int32), _column(rows, 1, np.int8)
    )
    assert (count, at_fault.tolist()) == (len(texts), expected)


@given(rows=ROWS, quotas=st.lists(st.integers(0, 5), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None)
def test_the_lowest_of_each_class_are_chosen(
    columns: Columns, rows: list[tuple[int, int, int]], quotas: list[int]
) -> None:
    """Of equal ones the earlier row is chosen."""
    expected = set()
    for number, quota in enumerate(quotas):
        listed = sorted((v, place) for place, (v, of, _) in enumerate(rows) if of == number)
        expected |= {place for _, place in listed[:quota]}
    values, classes = _column(rows, 0, np.uint64), _column(rows, 1, np.int8)
    chosen = columns.choose_lowest(values, classes, quotas)
    assert set(np.flatnonzero(chosen).tolist()) == expected


@given(rows=ROWS)
@settings(max_examples=25, deadline=None)
def test_values_are_counted_over_the_rows_that_count(
    columns: Columns, rows: list[tuple[int, int, int]]
) -> None:
    """Rows of part -1 do not; of two equally frequent values the lower one is the largest group."""
    parts: defaultdict[int, set[int]] = defaultdict(set)
    for value, part, _ in rows:
        parts[value] |= {part} - {-1}
    counts = Counter(value for value, part, _ in rows if part >= 0)
    largest = min(counts.items(), key=lambda item: (-item[1], item[0]), default=(0, 0))
    shared = sorted(value for value, of in parts.items() if len(of) > 1)
    given_ = _column(rows, 0, np.uint64), _column(rows, 1, np.int8)
    assert columns.largest(*given_) == largest
    assert columns.count_distinct(*given_) == len(counts)
    assert columns.count_shared(*given_) == len(shared)
    assert columns.shared(*given_).tolist() == shared


def test_rows_of_several_blocks_are_one_column(columns: Columns) -> None:
    """The last row of two blocks and a half repeats the first one."""
    rows = 2 * BLOCK_ROWS + BLOCK_ROWS // 2
    values = columns.zeros(rows, np.uint64)
    for block in columns.blocks(rows):
        values[block] = np.arange(block.start, block.stop) + 1
    values[rows - 1] = 1
    found = columns.first_places(values, columns.zeros(rows, np.int8))
    assert (found[rows - 1], columns.count_where(rows, lambda at: found[at] >= 0)) == (0, 1)
    kept = columns.kept(values, found < 0)
    assert (len(kept), int(kept[-1])) == (rows - 1, rows - 1)


def test_what_was_released_is_still_there(columns: Columns) -> None:
    """Pages that the process let go of come back from where they lie."""
    made = columns.zeros(BLOCK_ROWS, np.int64)
    made[:] = np.arange(BLOCK_ROWS)
    columns.release()
    assert (made == np.arange(BLOCK_ROWS)).all()


def test_a_half_written_folder_of_before_is_not_read(tmp_path: Path) -> None:
    """A killed process leaves a database without its end; the next one begins anew."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "rows.duckdb").write_bytes(b"half of a database")
    with ColumnsOnDisk(tmp_path / "disk") as made:
        assert made.first_places(np.array([7, 7], np.uint64), np.zeros(2)).tolist() == [-1, 0]
    assert not (tmp_path / "disk").exists()


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from retune.data.columns.on_disk import ColumnsOnDisk

with ColumnsOnDisk(Path(sys.argv[1])) as columns:
    # No file may grow beyond this: what a full disk is for the one who writes.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    for ask in (
        lambda: columns.zeros(2**20, np.int64),
        lambda: columns.first_places(values, np.zeros(len(values), np.int8)),
    ):
        values = np.random.default_rng(0).integers(0, 2**63, 400_000).astype(np.uint64)
        columns.absent = lambda rows: np.zeros(rows, np.int64)
        try:
            ask()
        except OSError as error:
            print(error.errno, error.filename)
"""


def test_a_full_disk_is_told_and_kills_nobody(tmp_path: Path) -> None:
    """A column that has no room, and DuckDB that has none, are the system's errors for stages."""
    folder = tmp_path / "disk"
    asked = [sys.executable, "-c", FULL, str(folder)]
    ended = subprocess.run(asked, capture_output=True, text=True, check=True)
    column, database = ended.stdout.splitlines()
    assert column == f"{errno.EFBIG} {folder / '0.column'}"
    assert database == f"{errno.EFBIG} {folder}"
    assert not folder.exists()


OUT_OF_MEMORY = "Out of Memory Error: failed to allocate data of size 4.0 MiB (16.5/20.0 MiB used)"


@pytest.mark.parametrize(
    ("error", "number", "told"),
    [
        (
            duckdb.IOException('Could not write file "x": No space left on device'),
            "ENOSPC",
            "No sp",
        ),
        (duckdb.IOException('Could not write file "x": File too large'), "EFBIG", "File too"),
        (
            duckdb.IOException('Could not write file "x": Input/output error'),
            "EIO",
            "DuckDB: Could",
        ),
        (
            duckdb.FatalException(
                "Failed: database has been invalidated because of a previous fatal error. Original "
                'error: "Could not write file "x": No space left on device"'
            ),
            *("ENOSPC", "No space left on device"),
        ),
        (
            duckdb.OutOfMemoryException(
                "Out of Memory Error: failed to offload data block of size 256.0 KiB. This limit "
                "was set by the 'max_temp_directory_size' setting."
            ),
            *("ENOSPC", "No space left on device"),
        ),
        (duckdb.OutOfMemoryException(OUT_OF_MEMORY), "ENOMEM", "own limit of 512 MiB"),
        (OSError(OUT_OF_MEMORY), "ENOMEM", "quality.rows_in_memory"),
    ],
)
def test_what_duckdb_lacks_is_told(
    error: Exception, number: str, told: str, tmp_path: Path
) -> None:
    """A full disk, a broken one and its own memory are told apart, also while batches are read."""
    with pytest.raises(OSError, match=told) as raised, explained(tmp_path):
        raise error
    assert raised.value.errno == getattr(errno, number)
    assert raised.value.filename == str(tmp_path)


@pytest.mark.parametrize("error", [duckdb.BinderException("no column"), OSError(errno.ENOENT, "x")])
def test_other_errors_stay_what_they_are(error: Exception, tmp_path: Path) -> None:
    """A wrong query is a bug; the system's own errors have their number."""
    with pytest.raises(type(error)) as raised, explained(tmp_path):
        raise error
    assert raised.value is error


def test_an_error_among_fed_columns_is_not_hidden(tmp_path: Path) -> None:
    """Of a database that can do nothing more; where it can, the next of the name is taken."""
    column = np.array([7, 7], np.uint64)
    with ColumnsOnDisk(tmp_path / "disk") as made:
        with pytest.raises(KeyError, match="first"), made.fed("rows", value=column):
            raise KeyError("first")
        assert made.first_places(column, np.zeros(2)).tolist() == [-1, 0]
        with pytest.raises(KeyError, match="second"), made.fed("rows", value=column):
            made.connection.close()
            raise KeyError("second")


def test_without_the_system_s_call_a_file_takes_its_room_by_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS: two and a half million zeros on the disk; a full one is told."""
    monkeypatch.delattr(os, "posix_fallocate")
    with map_zeros(tmp_path / "zeros", 2_500_000) as mapped:
        assert mapped[:] == bytes(2_500_000)
        assert (tmp_path / "zeros").stat().st_blocks * 512 >= 2_500_000
    with pytest.raises(OSError, match="/dev/full") as raised:
        map_zeros(Path("/dev/full"), 8)
    assert raised.value.errno == errno.ENOSPC


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file stands where the scratch folder should."""
    (tmp_path / "scratch").write_text("")
    with pytest.raises(NotADirectoryError, match="scratch"):
        ColumnsOnDisk(tmp_path / "scratch" / "columns")


def _column(rows: list[tuple[int, int, int]], at: int, kind: type) -> np.ndarray:
    return np.array([row[at] for row in rows], kind)
