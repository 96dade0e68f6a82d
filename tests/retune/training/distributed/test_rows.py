"""Which rows a rank takes of each batch."""

from __future__ import annotations

from torch.utils.data import SequentialSampler

from retune.training.distributed.ranks import Ranks
from retune.training.distributed.rows import FILLER, FilledRows, LengthOrder, RankBatches


def test_ranks_share_each_batch_and_one_without_rows_gets_a_filler() -> None:
    """Nine rows, four a batch, two ranks: every other row of each, and of the last one a row."""
    order = SequentialSampler(range(9))
    first, second = (list(RankBatches(order, 4, Ranks(rank, 2))) for rank in (0, 1))
    assert first == [[0, 2], [4, 6], [8]]
    assert second == [[1, 3], [5, 7], [FILLER]]
    assert len(RankBatches(order, 4, Ranks(1, 2))) == 3


def test_a_filler_carries_no_loss() -> None:
    """Every label is ignored, a row's list of them as well as a class."""
    rows = FilledRows([{"input_ids": [5, 6], "labels": [-100, 6]}])
    assert rows[FILLER] == {"input_ids": [5, 6], "labels": [-100, -100]}
    assert FilledRows([{"labels": 3}])[FILLER]["labels"] == -100
    assert rows[0] == {"input_ids": [5, 6], "labels": [-100, 6]}


def test_the_order_by_length_is_drawn_again_for_an_epoch() -> None:
    """An epoch's order comes of seed and epoch alone, whatever was drawn before."""
    order = LengthOrder(2, [3, 1, 2, 5, 4, 6, 8, 7], seed=1)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    again = LengthOrder(2, [3, 1, 2, 5, 4, 6, 8, 7], seed=1)
    again.set_epoch(1)
    assert list(again) == second != first
    assert sorted(first) == list(range(8))
