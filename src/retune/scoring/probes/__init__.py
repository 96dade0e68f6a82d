"""Probes: small cases that say what an answer must and must not contain.

`probe_pass_rate`: share of cases whose answer contains all of `required_words` and none of
`forbidden_words`, by category, by language and over all; in [0, 1], higher is better, Wilson
interval. Words are matched as `retune.scoring.words` says, in the newly generated text only. A case
without an answer (None: it could not be generated) is unscored and in no rate. `expected` is for a
person who reads the report: it is not compared, because what is written otherwise may be right.

The format of the files stands in docs/probes.md.
"""

from retune.scoring.probes.cases import ProbeCase, load_probes
from retune.scoring.probes.judging import ProbeOutcome, ProbeScores, judge_probe, judge_probes

__all__ = [
    "ProbeCase",
    "ProbeOutcome",
    "ProbeScores",
    "judge_probe",
    "judge_probes",
    "load_probes",
]
