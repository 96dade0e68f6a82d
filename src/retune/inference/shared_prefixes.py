"""Losses of rows that begin alike: what they share is read once, and its keys and values are kept.

Questions about one database begin with its schema, and a prompt whose classes are weighed is the
same for each class. A batch is read in two passes: what each group of rows begins with, one row a
group, and what is left of every row. Figures are those of rows read whole, up to rounding. It is
done on a CPU, where tokens that are not multiplied are time; a GPU reads a whole batch in little
more than the time of a row, and would hold the keys and values of all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import DynamicCache, PreTrainedModel

from retune.inference.batching import pad_sequences
from retune.inference.decoding import can_decode

_LEAST_SHARED = 24
_PASS_TOKENS = 128
"""What a pass takes beside its tokens, told as tokens: measured on the shipped base."""
_WORTH = 0.9
"""Part of the cost of reading rows whole that two passes may take to be chosen."""

Ids = Sequence[int]


class Group(NamedTuple):
    """Consecutive rows that begin alike.

    Attributes:
        start: The first of them.
        rows: How many.
        shared: Tokens that they begin with alike; of a single row all but the last.
    """

    start: int
    rows: int
    shared: int


class _Left(NamedTuple):
    """What is left of rows behind what they share.

    Attributes:
        sequences: Whole rows.
        owners: Number of each row's group.
        shares: Tokens that each row shares.
        skipped: First tokens of the rest whose losses no row needs.
    """

    sequences: Sequence[Ids]
    owners: Sequence[int]
    shares: Sequence[int]
    skipped: int


def can_share(model: PreTrainedModel) -> bool:
    """Say whether rows of a model may be read in two passes.

    Args:
        model: In evaluation mode.

    Returns:
        False on a GPU, with layers on the disk, which each pass would read again, and for models
        whose layers do not keep every key and value.
    """
    if model.device.type != "cpu" or not can_decode(model):
        return False
    return not any(weight.is_meta for weight in model.parameters())


def make_batches(sequences: Sequence[Ids], batch_size: int) -> list[list[int]]:
    """Put rows into batches, those that begin alike into one where that pays over all rows.

    Args:
        sequences: Token ids per row.
        batch_size: Most rows of a batch.

    Returns:
        Places of rows by batch.
    """
    by_length = batch_by_length(sequences, batch_size)
    alike = batch_alike(sequences, batch_size)
    costs = [
        sum(_cost([sequences[place] for place in batch]) for batch in batches)
        for batches in (by_length, alike)
    ]
    return alike if costs[1] < _WORTH * costs[0] else by_length


def _cost(sequences: Sequence[Ids]) -> int:
    groups = find_groups(sequences)
    return _cost_in_two(groups, sequences) if pays(groups, sequences) else _cost_whole(sequences)


def batch_by_length(sequences: Sequence[Ids], batch_size: int) -> list[list[int]]:
    """Put rows of like lengths into one batch.

    Args:
        sequences: Token ids per row.
        batch_size: Most rows of a batch.

    Returns:
        Places of rows by batch, the longest first: if a batch does not fit into memory, it fails at
        once, not at the end.
    """
    order = sorted(range(len(sequences)), key=lambda place: -len(sequences[place]))
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]


def batch_alike(sequences: Sequence[Ids], batch_size: int) -> list[list[int]]:
    """Put rows that begin alike into one batch.

    Args:
        sequences: Token ids per row.
        batch_size: Most rows of a batch.

    Returns:
        Places of rows by batch: groups by what is left of their rows, then rows that are like no
        other by their length, the longest first, so that a batch has little padding.
    """
    order = sorted(range(len(sequences)), key=lambda place: list(sequences[place]))
    alike: list[tuple[int, list[int]]] = []
    alone: list[int] = []
    for group in find_groups([sequences[place] for place in order]):
        rows = order[group.start : group.start + group.rows]
        if group.rows == 1:
            alone += rows
            continue
        for at in range(0, group.rows, batch_size):
            part = rows[at : at + batch_size]
            alike.append((group.shared - max(len(sequences[place]) for place in part), part))
    batches: list[list[int]] = []
    for _, part in sorted(alike):
        if not batches or len(batches[-1]) + len(part) > batch_size:
            batches.append([])
        batches[-1] += part
    lone = batch_by_length([sequences[place] for place in alone], batch_size)
    return batches + [[alone[at] for at in batch] for batch in lone]


def find_groups(sequences: Sequence[Ids]) -> list[Group]:
    """Find neighbours that begin alike: with 24 tokens and a third of the first at least.

    Args:
        sequences: Token ids per row, none empty.

    Returns:
        All rows, in their order.
    """
    groups: list[Group] = []
    for at, sequence in enumerate(sequences):
        if groups:
            start, rows, before = groups[-1]
            shared = _count_alike(sequences[start], sequence, min(before, len(sequence) - 1))
            if shared >= _LEAST_SHARED and 3 * shared >= before:
                groups[-1] = Group(start, rows + 1, shared)
                continue
        groups.append(Group(at, 1, len(sequence) - 1))
    return groups


def _count_alike(first: Ids, second: Ids, most: int) -> int:
    pairs = enumerate(zip(first[:most], second[:most], strict=True))
    return next((at for at, (one, other) in pairs if one != other), most)


def pays(groups: Sequence[Group], sequences: Sequence[Ids]) -> bool:
    """Say whether a batch is read in two passes: whether that takes clearly less.

    Args:
        groups: From `find_groups`.
        sequences: Their rows.
    """
    return _cost_in_two(groups, sequences) < _WORTH * _cost_whole(sequences)


def _cost_whole(sequences: Sequence[Ids]) -> int:
    return len(sequences) * (max(map(len, sequences)) - 1) + _PASS_TOKENS


def _cost_in_two(groups: Sequence[Group], sequences: Sequence[Ids]) -> int:
    """Return the tokens that both passes multiply, what fills rows up among them."""
    left = max(
        len(ids) - 1 - group.shared
        for group in groups
        for ids in sequences[group.start : group.start + group.rows]
    )
    lead = len(groups) * max(group.shared for group in groups) + _PASS_TOKENS
    return lead + (len(sequences) * left + _PASS_TOKENS if left else 0)


def read_in_two(
    model: PreTrainedModel,
    sequences: Sequence[Ids],
    firsts: Sequence[int],
    groups: Sequence[Group],
    *,
    pad_id: int,
) -> list[list[float]]:
    """Return the losses of rows' last tokens, having read what they begin with once a group.

    Args:
        model: One that `can_share` takes, in evaluation mode.
        sequences: Token ids per row, at least two each.
        firsts: Place of the first token of each row that is scored, at least 1.
        groups: From `find_groups`.
        pad_id: Any id.

    Returns:
        Negative log-likelihoods in nats of each row's tokens from its first scored one on.
    """
    owners = [number for number, group in enumerate(groups) for _ in range(group.rows)]
    with torch.inference_mode():
        lead, cache, mask = _read_leads(model, sequences, firsts, groups, pad_id)
        shares = [groups[owner].shared for owner in owners]
        # Of a rest whose first tokens are not scored, those need no vocabulary.
        rows = zip(sequences, firsts, shares, strict=True)
        unscored = [max(0, first - share - 1) for ids, first, share in rows if len(ids) > share + 1]
        skipped = min(unscored, default=0)
        left = _Left(sequences, owners, shares, skipped)
        rest = _read_rest(model, left, (cache, mask), pad_id)
    losses = []
    for row, (ids, first) in enumerate(zip(sequences, firsts, strict=True)):
        shared = shares[row]
        # The last place of the lead tells the token behind it, which rows do not share.
        places = list(range(first, shared + 1))
        led = lead[owners[row], [place - shared - 1 for place in places], [ids[p] for p in places]]
        own = rest[row, max(0, first - shared - 1) - skipped : len(ids) - shared - 1 - skipped]
        losses.append([*led.double().tolist(), *own.double().tolist()])
    return losses


def _read_leads(
    model: PreTrainedModel,
    sequences: Sequence[Ids],
    firsts: Sequence[int],
    groups: Sequence[Group],
    pad_id: int,
) -> tuple[torch.Tensor, DynamicCache, torch.Tensor]:
    """Read what groups begin with; the losses of any token at each place, up to the last."""
    ids, mask = pad_sequences([sequences[g.start][: g.shared] for g in groups], pad_id, "left")
    wanted = [
        group.shared - min(firsts[group.start : group.start + group.rows]) + 1 for group in groups
    ]
    cache = DynamicCache(config=model.config)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=max(1, *wanted),
    ).logits
    return -logits.float().log_softmax(-1), cache, mask


def _read_rest(
    model: PreTrainedModel, rows: _Left, lead: tuple[DynamicCache, torch.Tensor], pad_id: int
) -> torch.Tensor:
    """Read what is left of each row; losses from its second token on, but for those skipped."""
    cache, mask = lead
    # The last token is only predicted, so it is not read.
    left = [list(ids[s:-1]) for ids, s in zip(rows.sequences, rows.shares, strict=True)]
    told = [[*ids[s + 1 :], pad_id] for ids, s in zip(rows.sequences, rows.shares, strict=True)]
    kept = max(map(len, left)) - rows.skipped
    if kept <= 0:
        return torch.zeros((len(left), 0))
    ids, own = pad_sequences(left, pad_id, "right")
    index = torch.tensor(rows.owners)
    cache.batch_select_indices(index)
    before = mask.sum(-1)[index].unsqueeze(-1)
    logits = model(
        input_ids=ids,
        attention_mask=torch.cat([mask[index], own], dim=-1),
        # What fills a row up stays within the model's positions.
        position_ids=before + (own.cumsum(-1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=kept,
    ).logits
    targets = pad_sequences(told, pad_id, "right")[0][:, rows.skipped : ids.shape[1]].unsqueeze(-1)
    losses: torch.Tensor = -logits.float().log_softmax(-1).gather(-1, targets).squeeze(-1)
    return losses
