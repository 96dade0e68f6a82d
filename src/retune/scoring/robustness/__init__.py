"""Robustness: how often a small change of the question turns the outcome.

`flip_rate`: share of rows whose outcome (passed or not, a label, an answer) is another one after
the change, among the rows whose text really changed; in [0, 1], lower is better. By kind of change,
and over all kinds, where the rows come back. The interval is Wilson's or, where rows share a group
or come back, the wider of it and a bootstrap over groups or rows. Excluded, and counted: texts that
the change left as they were (no accents to remove), and rows without an outcome before or after.
Nothing left: None.

Of ten rows that passed, upper case changes nine (the tenth is a number); six still pass, one has no
outcome: two of eight flipped, `flip_rate` 0.25.

A flip is no judgement: a model may mend as well as break, so both are counted for yes/no outcomes.
"""

from retune.scoring.robustness.flips import FlipScores, KindFlips, Trial, score_flips
from retune.scoring.robustness.perturbations import (
    KINDS,
    Kind,
    PerturbationOptions,
    load_paraphrases,
    perturb,
    split_schema,
)

__all__ = [
    "KINDS",
    "FlipScores",
    "Kind",
    "KindFlips",
    "PerturbationOptions",
    "Trial",
    "load_paraphrases",
    "perturb",
    "score_flips",
    "split_schema",
]
