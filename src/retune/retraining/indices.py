"""The indices of drift: what is counted of training rows and of requests, and in which bins.

Characters of a prompt, its tokens, which tokens it has, and the class that was predicted for it
against the classes of the training rows; the last one only where rows have labels and enough
requests name a class. `stability` says what is made of the counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from retune.retraining.drift_records import Bin, DriftIndex
from retune.retraining.stability import (
    chance_of_index,
    choose_tokens,
    count_places,
    count_tokens,
    find_edges,
    place_numbers,
    share_of,
    stability_index,
)
from retune.scoring.uncertainty.resampling import Floats

OTHERS = "all others"


class Asked(NamedTuple):
    """What is counted of a prompt."""

    characters: int
    ids: Sequence[int]
    label: str | None = None
    group: str | None = None
    """What it shares with others; None stands for itself."""


@dataclass(frozen=True)
class Counts:
    """Training rows and requests by bin.

    Attributes:
        name: Of the index, in figures.
        label: For people.
        bins: Labels of the bins.
        rows: Counts of each training row, shape ``(rows, bins)``.
        groups: What each training row shares with others.
        requests: Counts of each request, shape ``(requests, bins)``.
    """

    name: str
    label: str
    bins: Sequence[str]
    rows: Floats
    groups: Sequence[str | None]
    requests: Floats

    def as_index(self, level: float, seed: int) -> DriftIndex:
        """Return the index with what chance gives of it.

        Args:
            level: Chance that it is above that where nothing has changed.
            seed: What the null is drawn from.
        """
        sums = [table.sum(axis=0) for table in (self.rows, self.requests)]
        shares = [share_of(each).tolist() for each in sums]
        return DriftIndex(
            name=self.name,
            label=self.label,
            value=float(stability_index(*sums)),
            chance=chance_of_index(self.rows, self.groups, len(self.requests), level, seed),
            requests=len(self.requests),
            bins=tuple(
                Bin(label=label, rows=rows, requests=requests)
                for label, rows, requests in zip(self.bins, *shares, strict=True)
            ),
        )


def count_all(
    rows: Sequence[Asked],
    requests: Sequence[Asked],
    *,
    least_labelled: int,
    show_token: Callable[[int], str],
) -> list[Counts]:
    """Count everything that is compared.

    Args:
        rows: Training rows, at least one.
        requests: Served requests, at least one.
        least_labelled: Fewest requests with a class that their classes are compared from.
        show_token: Names a token for people.

    Returns:
        One entry per index.
    """
    found = [
        count_numbers(
            "prompt_characters",
            "prompt length in characters",
            rows,
            [each.characters for each in rows],
            [each.characters for each in requests],
        ),
        count_numbers(
            "prompt_tokens",
            "prompt length in tokens",
            rows,
            [len(each.ids) for each in rows],
            [len(each.ids) for each in requests],
        ),
        _count_tokens(rows, requests, show_token),
    ]
    classes = _count_classes(rows, requests)
    if classes is not None and len(classes.requests) >= least_labelled:
        found.append(classes)
    return found


def count_numbers(
    name: str,
    label: str,
    rows: Sequence[Asked],
    known: Sequence[float],
    served: Sequence[float],
) -> Counts:
    """Count a number of training rows and requests, in tenths of the training rows.

    Args:
        name: Of the index, in figures.
        label: For people.
        rows: Training rows, for their groups.
        known: The number of each of them.
        served: The number of each request.

    Returns:
        The counts.
    """
    edges = find_edges(known)
    tables = [
        count_places(place_numbers(values, edges), len(edges) + 1) for values in (known, served)
    ]
    groups = [each.group for each in rows]
    return Counts(name, label, _name_ranges(edges.tolist()), tables[0], groups, tables[1])


def _name_ranges(edges: Sequence[float]) -> list[str]:
    # An edge just below the next one makes that value a bin by itself.
    alone = [math.nextafter(low, math.inf) == high for low, high in pairwise(edges)]
    ends = [
        f"{'and ' if at else ''}below {high:g}" if single else f"{'' if at else 'up '}to {high:g}"
        for at, (high, single) in enumerate(zip(edges, [*alone, False], strict=True))
    ]
    between = [
        f"{edges[at + 1]:g}" if single else f"over {edges[at]:g} {ends[at + 1]}"
        for at, single in enumerate(alone)
    ]
    return [ends[0], *between, f"over {edges[-1]:g}"]


def _count_tokens(
    rows: Sequence[Asked], requests: Sequence[Asked], show_token: Callable[[int], str]
) -> Counts:
    known = [each.ids for each in rows]
    tokens = choose_tokens(known)
    return Counts(
        "tokens",
        "tokens of prompts",
        [*map(show_token, tokens), OTHERS],
        count_tokens(known, tokens),
        [each.group for each in rows],
        count_tokens([each.ids for each in requests], tokens),
    )


def _count_classes(rows: Sequence[Asked], requests: Sequence[Asked]) -> Counts | None:
    labelled = [each for each in rows if each.label is not None]
    asked = [each for each in requests if each.label is not None]
    if not labelled or not asked:
        return None
    names = sorted({str(each.label) for each in labelled})
    places = {name: at for at, name in enumerate(names)}
    tables = [_count_labels(side, places) for side in (labelled, asked)]
    groups = [each.group for each in labelled]
    return Counts("classes", "predicted classes", [*names, OTHERS], tables[0], groups, tables[1])


def _count_labels(prompts: Sequence[Asked], places: Mapping[str, int]) -> Floats:
    found = [places.get(str(each.label), len(places)) for each in prompts]
    return count_places(np.asarray(found, dtype=np.int64), len(places) + 1)
