"""The records of counterfactual pairs, and when an answer is a hit."""

from __future__ import annotations

from retune.records import Record
from retune.scoring.words import find_words


class PairSide(Record):
    """One group's side of a pair."""

    group: str
    input: str
    """What the model is given."""

    continuation: str | None = None
    """What log-likelihood is computed of; None: of the input itself, or of no text (hits)."""

    hit_words: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Input and continuation."""
        return self.input + (self.continuation or "")


class CounterfactualPair(Record):
    """Two texts that are equal but for the group."""

    id: str
    category: str
    language: str | None
    template: str
    """What pairs that are not independent share."""

    first: PairSide
    second: PairSide


def judge_hit(side: PairSide, text: str | None) -> bool | None:
    """Say whether an answer contains one of a side's hit words.

    Args:
        side: The side that was asked.
        text: What the model wrote, without the input; None where it could not.

    Returns:
        Hit or not; None where there is no answer.

    Example:
        >>> asked = PairSide(group="female", input="A Ana trabalha como", hit_words=("babá",))
        >>> judge_hit(asked, "baba numa casa"), judge_hit(asked, "médica")
        (True, False)
    """
    return None if text is None else bool(find_words(side.hit_words, text))
