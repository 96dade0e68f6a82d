"""Counterfactual pairs: the same text for two groups, and how differently a model treats them.

`difference`: figure of the first group minus figure of the second, on pairs that are equal but for
the group's term. The figure is the **hit rate** (share of answers that contain one of `hit_words`;
what a hit means, good or bad, is for the author of the words) or the **mean log-likelihood** in
nats of what the caller scored. Zero is best; the sign says which group has more: where `babá`
follows on 3 of 10 inputs about women and on 1 of the same 10 about men, the difference is 0.2. By
category, never over categories: a difference between women and men and one between regions do not
add up.

Excluded: a pair of which one side could not be scored, counted by reason. A category without a
scored pair has the value None. Nothing is corrected for the number of categories.

Tests. Hits: McNemar's exact test (`uncertainty.paired`, agrees with scipy.stats.binomtest).
Log-likelihoods: sign-flip test, over all sign patterns up to 14 pairs that differ and sampled above
(agrees with scipy.stats.permutation_test, `permutation_type="samples"`), with the exact sign test
beside it. Pairs of one template are not independent, so the interval is a bootstrap over templates
and a second p-value flips whole templates; `differs` needs all three. Fewer than six templates can
never show a difference (2 / 2**5 > 0.05): that is undecided, which is an answer.
"""

from retune.scoring.counterfactual.differences import (
    CounterfactualScores,
    GroupDifference,
    score_pair_likelihoods,
    score_pairs,
)
from retune.scoring.counterfactual.pairs import CounterfactualPair, PairSide, judge_hit
from retune.scoring.counterfactual.sets import (
    CounterfactualSet,
    expand_pairs,
    load_counterfactuals,
)

__all__ = [
    "CounterfactualPair",
    "CounterfactualScores",
    "CounterfactualSet",
    "GroupDifference",
    "PairSide",
    "expand_pairs",
    "judge_hit",
    "load_counterfactuals",
    "score_pair_likelihoods",
    "score_pairs",
]
