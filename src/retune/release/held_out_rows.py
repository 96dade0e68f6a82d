"""Which held-out rows decisions rested on, so that a grown test set is known to share them.

A row is what it asks (and of which database), folded: the same question with a corrected answer, in
other white space, or read by another tokenizer is the same row. A set of rows is a sorted array of
such hashes, kept beside the ledger in `<digest>.npy`, by the digest that a line of it has: that of
the chats, which a new tokenizer changes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retune.data.quality.texts import fold, text_hash
from retune.errors import ArtifactError
from retune.records import SplitRef
from retune.scoring.probes import load_probes
from retune.whole_files import replacing

RowHashes = NDArray[np.uint64]


def read_test_rows(split: SplitRef) -> RowHashes:
    """Return what stands for the held-out rows of a split, sorted, each once.

    Args:
        split: Rows by side.
    """
    column = pq.read_table(split.folder / "test.parquet", columns=["folded"])["folded"]
    return np.unique(column.to_numpy().astype(np.uint64))


def read_test_cases(path: Path) -> RowHashes:
    """Return what stands for the cases of a file of probes, sorted, each once.

    Args:
        path: The file; where a figure over cases decides, these are what decisions wear out.
    """
    hashes = [text_hash(fold(case.input), None) for case in load_probes(path)]
    return np.unique(np.array(hashes, dtype=np.uint64))


def remember_rows(folder: Path, digest: str, rows: RowHashes) -> None:
    """Keep a set of rows, so that later ones can be compared with it.

    Args:
        folder: Where sets are kept; made when missing.
        digest: What the ledger calls the rows.
        rows: From `read_test_rows`.
    """
    path = folder / f"{digest}.npy"
    if path.exists():
        return
    with replacing(path) as partial, open(partial, "wb") as file:
        np.save(file, rows, allow_pickle=False)


def read_kept_rows(folder: Path, digest: str) -> RowHashes | None:
    """Return a set of rows that was kept; None where there is none of this digest.

    Args:
        folder: Where sets are kept; need not exist.
        digest: What the ledger calls the rows.

    Raises:
        ArtifactError: The file cannot be read.
    """
    path = folder / f"{digest}.npy"
    return _load(path) if digest and path.is_file() else None


def find_shared(folder: Path, rows: RowHashes) -> dict[str, float]:
    """Return which part of a set of rows is among those of each kept one.

    Args:
        folder: Where sets are kept; need not exist.
        rows: From `read_test_rows`.

    Returns:
        By the digest of the kept set, from 0 to 1.

    Raises:
        ArtifactError: A file of row digests cannot be read.
    """
    return {
        path.stem: float(np.isin(rows, _load(path), assume_unique=True).mean())
        for path in sorted(folder.glob("*.npy"))
    }


def _load(path: Path) -> RowHashes:
    try:
        kept: RowHashes = np.load(path, allow_pickle=False)
        # What can be read and is something else would share no row, and give spent error back.
        if kept.dtype != np.uint64 or kept.ndim != 1 or not kept.size:
            raise ValueError(f"found {kept.dtype} of shape {kept.shape}, expected hashes of rows")
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise ArtifactError(
            f"{path}: cannot be read as the held-out rows of an earlier decision ({error}). Delete "
            "it: its rows then count as shared with today's, until fresh ones take their place."
        ) from error
    return kept
