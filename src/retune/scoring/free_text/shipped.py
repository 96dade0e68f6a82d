"""The text metrics that ship: an answer against one or several references.

ROUGE-L is computed by `rouge_score`, chrF and BLEU by `sacrebleu`; exact match and token F1 are
those of SQuAD, with the normalisers that are named. All lie between 0 and 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from sacrebleu.metrics import BLEU, CHRF

from retune.recipe.sections.scoring import TextMetricName, TextNormaliser
from retune.scoring.figures import BLEU_COLUMNS
from retune.scoring.free_text.normalising import normalise, split_words

_WORD = re.compile(r"[^\W_]+")

Normalisers = Collection[TextNormaliser]


class _Words(Tokenizer):
    """The words of any script, lower-cased."""

    def tokenize(self, text: str) -> list[str]:
        return [word for run in _WORD.findall(text.lower()) for word in split_words(run)]


_ROUGE = RougeScorer(["rougeL"], tokenizer=_Words())
_CHRF = CHRF()
# Of the score of one row alone, which is not used; sacrebleu warns without it.
_BLEU = BLEU(effective_order=True)


class Text(NamedTuple):
    """One answer, and what it may be.

    Attributes:
        answer: What was written.
        references: What is right; at least one.
    """

    answer: str
    references: Sequence[str]


def exact_match(text: Text, ignored: Normalisers) -> float:
    """Return 1.0 where an answer is one of its references, but for what is ignored.

    Example:
        >>> exact_match(Text("A praia.", ["o mar", "a praia"]), ["case", "punctuation"])
        1.0
    """
    ours = normalise(text.answer, ignored)
    return float(any(ours == normalise(each, ignored) for each in text.references))


def token_f1(text: Text, ignored: Normalisers) -> float:
    """Return the harmonic mean of precision and recall of an answer's words.

    Of several references the best. Where neither side has a word it is 1, where one has none 0.

    Example:
        Two words of three are right, and none is missing: 2 * 2 / (3 + 2).

        >>> token_f1(Text("A praia azul", ["praia azul"]), ["case"])
        0.8
    """
    ours = Counter(split_words(normalise(text.answer, ignored)))
    return max(
        _f1(ours, Counter(split_words(normalise(each, ignored)))) for each in text.references
    )


def _f1(ours: Counter[str], theirs: Counter[str]) -> float:
    words = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / words if words else 1.0


def rouge_l(text: Text) -> float:
    """Return the F-measure of the longest common subsequence of words, of several the best.

    `rouge_score` looks at `a-z0-9` alone, which breaks `avião` in two; words are those of any
    script here, lower-cased, and of English text the same as there.

    Example:
        `o gato` is common, of 3 words and of 2: precision 2/3, recall 1.

        >>> rouge_l(Text("o belo gato", ["o gato"]))
        0.8
    """
    return float(_ROUGE.score_multi(list(text.references), text.answer)["rougeL"].fmeasure)


def chrf(text: Text) -> float:
    """Return sacrebleu's sentence chrF (characters in runs of up to 6, beta 2), divided by 100.

    Example:
        >>> chrf(Text("praia", ["praia"]))
        1.0
    """
    return float(_CHRF.sentence_score(text.answer, list(text.references)).score) / 100


def count_ngrams(text: Text) -> dict[str, int]:
    """Return what BLEU sums over rows, by its names in `rows.jsonl`.

    Returns:
        Matched and written n-grams of 1 to 4 words as sacrebleu tokenizes them (13a), and the words
        of the answer and of the reference that is nearest in length.

    Example:
        >>> found = count_ngrams(Text("o gato", ["o gato dorme"]))
        >>> found["bleu_matches_1"], found["bleu_ngrams_2"], found["bleu_reference_words"]
        (2, 1, 3)
    """
    found = _BLEU.sentence_score(text.answer, list(text.references))
    values = [*found.counts, *found.totals, found.sys_len, found.ref_len]
    return {name: int(value) for name, value in zip(BLEU_COLUMNS, values, strict=True)}


BY_ROW: dict[TextMetricName, Callable[[Text, Normalisers], float]] = {
    "exact_match": exact_match,
    "token_f1": token_f1,
    "rouge_l": lambda text, _: rouge_l(text),
    "chrf": lambda text, _: chrf(text),
}
"""The metrics that are one for each row; BLEU is one of all rows together."""
