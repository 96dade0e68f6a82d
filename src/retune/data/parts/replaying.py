"""Going on from a champion: what it has not seen is learned, and some of what it has, again."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retune.data.parts.row_history import LEARNED, read_row_history
from retune.data.quality.texts import write_hash
from retune.data.schemas import CHAT_SCHEMA
from retune.data.stages import ReplayInputs, ReplaySettings
from retune.data.tables import filter_rows, iterate_rows
from retune.digests import digest_folder
from retune.errors import DataError
from retune.records import LOG_FOLDER, ChatRef
from retune.spine.stage import Workdir

_ROWS = "rows.parquet"


def replay_rows(inputs: ReplayInputs, settings: ReplaySettings, work: Workdir) -> ChatRef:
    """Choose the training rows of a model that goes on from a champion.

    Args:
        inputs: The sides, and what the champion's rows were.
        settings: The part of the training rows that it has seen before, and the seed that those are
            drawn by.
        work: The sides go to its artifact folder, validation and test as they are.

    Returns:
        The sides: on the training side every row that the champion has not learned, and so many of
        those that it has.

    Raises:
        DataError: It has learned every row, and nothing but repetition would be left.
    """
    names = _seen_names(inputs)
    source = inputs.chat.folder / "train" / _ROWS
    row_ids = pq.read_table(source, columns=["row_id"])["row_id"].to_pylist()
    seen = np.array([name in names for name in row_ids], bool)
    keep = ~seen | _draw(row_ids, seen, settings)
    if not keep.any():
        raise DataError(
            f"retrain.start_from: the champion has learned all {len(row_ids):,} training rows, so "
            "that there is nothing new to go on with. Add rows, write retrain.replay: 1 to learn "
            "them once more, or retrain.start_from: base."
        )
    shutil.copytree(inputs.chat.folder, work.artifact, dirs_exist_ok=True, ignore=_left_out)
    tokens, answer_tokens = _copy_rows(source, work.artifact / "train" / _ROWS, keep)
    sides = inputs.chat.side_digests
    return inputs.chat.model_copy(
        update={
            "digest": digest_folder(work.artifact, without=(LOG_FOLDER,)),
            "folder": work.artifact,
            "train": int(keep.sum()),
            "side_digests": {**sides, "train": digest_folder(work.artifact / "train")},
            "train_tokens": tokens,
            "answer_tokens": answer_tokens,
        }
    )


def count_replayed(new: int, seen: int, replay: float) -> int:
    """Return how many rows are learned again beside new ones.

    Args:
        new: Rows that were not seen before.
        seen: Rows that were.
        replay: The part of all training rows that they are to be, 0 to 1.

    Returns:
        At most `seen`, and all of them where `replay` is 1.
    """
    return seen if replay == 1 else min(seen, round(new * replay / (1 - replay)))


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Leave out the store's manifest, and the rows that are written anew."""
    return {"manifest.json"} | ({_ROWS} if Path(folder).name == "train" else set())


def _seen_names(inputs: ReplayInputs) -> set[str]:
    history = read_row_history(inputs.seen.path)
    contents = set().union(*(history.contents[part] for part in LEARNED))
    rows = iterate_rows(inputs.split.folder / "train.parquet", ("row_id", "folded"))
    return {row["row_id"] for row in rows if write_hash(row["folded"]) in contents}


def _draw(
    row_ids: list[str], seen: npt.NDArray[np.bool_], settings: ReplaySettings
) -> npt.NDArray[np.bool_]:
    places = np.flatnonzero(seen)
    count = count_replayed(len(seen) - len(places), len(places), settings.replay)
    # By a hash of each row's own name, so that new rows change no draw but its length.
    order = sorted(places, key=lambda place: _draw_of(row_ids[place], settings.seed))
    drawn = np.zeros_like(seen)
    drawn[order[:count]] = True
    return drawn


def _draw_of(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\x00replay\x00{name}".encode()).digest()


def _copy_rows(source: Path, target: Path, keep: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Write the rows that are kept; return their tokens, and those that carry loss."""
    tokens = answers = 0
    with pq.ParquetWriter(target, CHAT_SCHEMA, compression="zstd") as writer:
        for kept in filter_rows(source, lambda rows: keep[rows]):
            writer.write_batch(kept)
            tokens += _total(kept, "prompt_ids") + _total(kept, "answer_ids")
            answers += sum(map(_count_targets, kept.select(_LOSS).to_pylist()))
    return tokens, answers


_LOSS = ["answer_ids", "loss_mask"]


def _count_targets(row: dict[str, Any]) -> int:
    mask = row["loss_mask"]
    return len(row["answer_ids"]) if mask is None else sum(mask)


def _total(rows: pa.RecordBatch, column: str) -> int:
    return int(pc.sum(pc.list_value_length(rows[column])).as_py() or 0)
