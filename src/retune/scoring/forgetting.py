"""Forgetting: how much worse a model has become on general text that it was not trained on.

``nll_per_token = sum of NLL in nats / tokens`` and ``bits_per_byte`` of the same texts, weighted by
tokens and by bytes; lower is better. The change is after minus before on the same texts, with a
paired bootstrap interval over texts: above zero the model has forgotten. A text without a token to
score (one token, without a prefix token) is left out of both sides and counted.

NLL per token compares models of one tokenizer only; bits per byte compares any two. Losses are
those of `retune.scoring.perplexity.text_losses`, long texts in windows. `GENERAL_TEXT` ships: a few
paragraphs of our own, in Portuguese and English, about everyday things. So few texts show large
losses only: name a file of your own for small ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from retune.data.jsonl import read_jsonl
from retune.errors import DataError, ScoringError
from retune.records import Metric
from retune.scoring.perplexity import bits_of_ratio
from retune.scoring.shipped_texts import GENERAL_TEXT
from retune.scoring.token_losses import RowLoss
from retune.scoring.uncertainty import (
    PairedDifference,
    Statistic,
    estimate_ratio,
    paired_difference,
    ratio_of_sums,
)

Losses = Sequence[RowLoss | None]
Weigh = Callable[[RowLoss], int]
Table = list[tuple[float, float]]
"""NLL in nats and weight, per text."""


@dataclass(frozen=True)
class Change:
    """One figure before and after.

    Attributes:
        before: Of the model that training started from.
        after: Of the trained model.
        difference: After minus before; None inside when it cannot be said.
    """

    before: Metric
    after: Metric
    difference: PairedDifference


@dataclass(frozen=True)
class Forgetting:
    """What two models make of the same general texts.

    Attributes:
        bits_per_byte: Comparable between any two models.
        nll_per_token: In nats; None when the two cut the texts into tokens differently.
        unscored: Texts left out, since one of the two has no token of them to score.
    """

    bits_per_byte: Change
    nll_per_token: Change | None
    unscored: int


def read_general_text(path: Path = GENERAL_TEXT) -> list[str]:
    """Read a JSON Lines file of ``{"text": ...}``.

    Args:
        path: The file; the shipped one when left out.

    Returns:
        The texts, in order.

    Raises:
        DataError: A line has no text, or there is no line.
    """
    texts = []
    for line, value in read_jsonl(path):
        text = value.get("text")
        if not isinstance(text, str) or not text.strip():
            raise DataError(f'{path}:{line}: expected {{"text": "..."}} with some text.')
        texts.append(text)
    if not texts:
        raise DataError(f"{path}: no texts to measure forgetting on.")
    return texts


def compare_forgetting(
    before: Losses,
    after: Losses,
    *,
    groups: Sequence[str | None] | None = None,
    resamples: int = 10_000,
) -> Forgetting:
    """Compare two models on the same general texts.

    Args:
        before: Losses of the model that training started from, as `text_losses` returns them.
        after: Losses of the trained model on the same texts in the same order.
        groups: What each text shares with others (a document); None stands for itself.
        resamples: Bootstrap draws.

    Returns:
        Bits per byte, and NLL per token where the tokens are the same.

    Raises:
        ScoringError: The two have not the same texts, or no text could be scored by both.
    """
    if len(before) != len(after):
        raise ScoringError(
            f"Found losses of {len(before)} texts before and {len(after)} after; expected the same "
            "texts. Score both models on one file."
        )
    pairs = [
        (at, first, second)
        for at, (first, second) in enumerate(zip(before, after, strict=True))
        if first is not None and second is not None
    ]
    if not pairs or any(a.bytes is None or a.bytes != b.bytes for _, a, b in pairs):
        raise ScoringError(
            f"{len(pairs)} of {len(before)} texts were scored by both models, or their bytes "
            "differ; expected at least one, and the losses of the same texts with their bytes."
        )
    labels = [groups[at] for at, _, _ in pairs] if groups is not None else None
    first, second = [one for _, one, _ in pairs], [other for _, _, other in pairs]
    same_tokens = [one.tokens for one in first] == [one.tokens for one in second]

    def change(weigh: Weigh, statistic: Statistic) -> Change:
        tables = _tabulate(first, weigh), _tabulate(second, weigh)
        return _compare(*tables, statistic=statistic, groups=labels, resamples=resamples)

    return Forgetting(
        bits_per_byte=change(lambda one: one.bytes or 0, bits_of_ratio),
        nll_per_token=change(lambda one: one.tokens, ratio_of_sums) if same_tokens else None,
        unscored=len(before) - len(pairs),
    )


def _tabulate(losses: Sequence[RowLoss], weigh: Weigh) -> Table:
    return [(one.text_nll_nats, float(weigh(one))) for one in losses]


def _compare(
    before: Table,
    after: Table,
    *,
    statistic: Statistic,
    groups: Sequence[str | None] | None,
    resamples: int,
) -> Change:
    def estimate(table: Table) -> Metric:
        return estimate_ratio(
            [nll for nll, _ in table],
            [weight for _, weight in table],
            statistic=statistic,
            groups=groups,
            resamples=resamples,
        )

    difference = paired_difference(
        after,
        before,
        direction="lower_is_better",
        statistic=statistic,
        groups=groups,
        resamples=resamples,
    )
    return Change(estimate(before), estimate(after), difference)
