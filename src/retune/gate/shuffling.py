"""The stage `shuffle_rows`: the same held-out rows in another order."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow.parquet as pq

from retune.digests import digest_folder
from retune.gate.stages import ShuffleInputs
from retune.records import ChatRef
from retune.spine.stage import Workdir


def shuffle_rows(inputs: ShuffleInputs, work: Workdir) -> ChatRef:
    """Put held-out rows in another order.

    Args:
        inputs: The chats, and the seed of the order.
        work: ``test/`` with the rows and their databases goes to its artifact folder.

    Returns:
        The chats, of which only the held-out side is there.
    """
    side = inputs.chat.side("test")
    target = work.artifact / "test"
    target.mkdir()
    shutil.copy(side.folder / "databases.parquet", target)
    rows = pq.read_table(side.folder / "rows.parquet")
    order = np.random.default_rng(inputs.seed).permutation(rows.num_rows)
    pq.write_table(rows.take(order), target / "rows.parquet", compression="zstd")
    digest = digest_folder(target)
    update = {"digest": digest, "folder": work.artifact, "side_digests": {"test": digest}}
    return inputs.chat.model_copy(update=update)
