"""The stage `check_judge`: how far a judge agrees with people, and what it leans to.

- **kappa** (Cohen 1960): ``(p - e) / (1 - e)``, p the share of pairs with the verdict of people, e
  the share that two would have who gave their verdicts independently of the pair. Three verdicts;
  a pair that the judge gives none is a fourth, which people never give: a disagreement. A pair that
  the judge was not asked about, since the budget was spent or the endpoint refused it, is left out.
  0 where all verdicts of both are the same one. Agrees with scikit-learn's `cohen_kappa_score`.
- **its interval** is the wider, on each side, of the bootstrap over pairs and Wilson's of p, put
  into the same formula: a judge that agrees on all of five pairs is not known to agree on all.
- **first_preferred**: of all single judgements that decided, those for the answer shown first. Each
  pair is shown in both orders, so that one who looks at answers alone has a half.
- **length bias**: over pairs of unlike lengths that both decided, how much more often than people
  the judge chose the longer answer; paired, with McNemar's test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from retune.digests import digest_folder
from retune.score_records import JudgeAgreement, Metric, PairedDifference
from retune.scoring.judge.asking import (
    NO_VERDICT,
    Asking,
    PairVerdict,
    count_reasons,
    list_first_preferred,
)
from retune.scoring.judge.opening import open_asking, open_local_asking
from retune.scoring.judge.spending import Purse
from retune.scoring.judge.stages import (
    CheckJudgeInputs,
    CheckLocalJudgeInputs,
    JudgeSettings,
    LocalJudgeSettings,
)
from retune.scoring.judge.verdict_files import JudgedPair, load_verdicts
from retune.scoring.judge.wording import Pair, Verdict
from retune.scoring.outcomes import write_lines
from retune.scoring.uncertainty.estimates import estimate_rate, estimate_table
from retune.scoring.uncertainty.paired import paired_difference
from retune.scoring.uncertainty.resampling import Floats
from retune.spine.stage import Workdir

_ROWS: tuple[Verdict, ...] = ("a", "b", "tie")
_COLUMNS: tuple[Verdict | None, ...] = (*_ROWS, None)
"""What the judge can say: without a verdict it agrees with nobody."""
_CELLS = [(people, judge) for people in _ROWS for judge in _COLUMNS]


def check_judge(inputs: CheckJudgeInputs, settings: JudgeSettings, work: Workdir) -> JudgeAgreement:
    """Hold a judge at an endpoint against people.

    Args:
        inputs: Pairs that people have judged, and how the judge is asked.
        settings: The judge, its budget, bootstrap draws.
        work: `verdicts.jsonl` with each pair goes to its artifact folder.

    Returns:
        Agreement, and what the judge leans to.

    Raises:
        ConfigError: The endpoint knows no such key or model.
        ScoringError: It refuses every question.
        ServiceError: It does not answer.
    """
    asking, purse = open_asking(inputs.wording, settings, work)
    return _check(inputs, asking, purse, settings.resamples, work)


def check_local_judge(
    inputs: CheckLocalJudgeInputs, settings: LocalJudgeSettings, work: Workdir
) -> JudgeAgreement:
    """Hold a model of this machine against people; as `check_judge`."""
    asking, purse = open_local_asking(inputs.wording, inputs.judge, settings, work)
    return _check(inputs, asking, purse, settings.resamples, work)


def _check(
    inputs: CheckJudgeInputs, asking: Asking, purse: Purse, resamples: int, work: Workdir
) -> JudgeAgreement:
    pairs = load_verdicts(inputs.human_verdicts.path)
    verdicts = asking.judge_pairs([each.pair for each in pairs])
    rows = [_as_row(*each) for each in zip(pairs, verdicts, strict=True)]
    write_lines(work.artifact / "verdicts.jsonl", rows)
    return JudgeAgreement(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        spent=purse.tell(asking.asked, asking.reused),
        **measure_agreement(pairs, verdicts, resamples),
    )


def _as_row(judged: JudgedPair, found: PairVerdict) -> dict[str, Any]:
    return {
        "prompt": judged.pair.question,
        "answer_a": judged.pair.first,
        "answer_b": judged.pair.second,
        "people": judged.verdict,
        "judge": found.verdict,
        "changed": found.changed,
        "reason": found.reason,
        "said": [found.straight.text, found.turned.text],
    }


def measure_agreement(
    pairs: Sequence[JudgedPair], verdicts: Sequence[PairVerdict], resamples: int
) -> dict[str, Any]:
    """Compare verdicts of a judge and of people.

    Args:
        pairs: With the verdicts of people.
        verdicts: Of the judge, in the same order.
        resamples: Bootstrap draws.

    Returns:
        The fields of `JudgeAgreement` that are figures.
    """
    both = [
        (each.verdict, found.verdict)
        for each, found in zip(pairs, verdicts, strict=True)
        if found.verdict is not None or found.reason == NO_VERDICT
    ]
    first, shown = list_first_preferred(verdicts)
    return {
        "pairs": len(pairs),
        "unscored": count_reasons(each.reason for each in verdicts),
        "turned": sum(each.changed for each in verdicts),
        "kappa": _estimate_kappa(both, resamples),
        "agreement": estimate_rate([people == judge for people, judge in both]),
        "first_preferred": estimate_rate(first, groups=shown, resamples=resamples),
        **_compare_lengths(pairs, verdicts, resamples),
    }


def _estimate_kappa(both: Sequence[tuple[Verdict, Verdict | None]], resamples: int) -> Metric:
    table = [[float(each == cell) for cell in _CELLS] for each in both]
    found = estimate_table(table, _kappa_of_sums, resamples=resamples, limits=(-1.0, 1.0))
    if found.value is None or found.low is None or found.high is None:
        return found
    sums = np.array(table).sum(axis=0)
    agreed = estimate_rate([people == judge for people, judge in both])
    chance = float(_chance_of_sums(sums))
    ends = [
        (float(end) - chance) / (1 - chance) if chance < 1 else 0.0
        for end in (agreed.low or 0.0, agreed.high or 0.0)
    ]
    wider = {"low": max(-1.0, min(found.low, ends[0])), "high": min(1.0, max(found.high, ends[1]))}
    return found.model_copy(update=wider)


def _kappa_of_sums(sums: Floats) -> Floats:
    """Return kappa of counts of `_CELLS`, shape ``(..., cells)``."""
    chance, total = _chance_of_sums(sums), sums.sum(axis=-1)
    same = [at for at, (people, judge) in enumerate(_CELLS) if people == judge]
    agreed = sums[..., same].sum(axis=-1) / total
    left = 1 - chance
    kappa = np.divide(agreed - chance, left, out=np.zeros_like(left), where=left > 0)
    return np.asarray(kappa)


def _chance_of_sums(sums: Floats) -> Floats:
    cells = np.asarray(sums).reshape(*sums.shape[:-1], len(_ROWS), len(_COLUMNS))
    total = cells.sum(axis=(-1, -2))
    people, judge = cells.sum(axis=-1), cells.sum(axis=-2)[..., : len(_ROWS)]
    return np.asarray((people * judge).sum(axis=-1) / total**2)


def _compare_lengths(
    pairs: Sequence[JudgedPair], verdicts: Sequence[PairVerdict], resamples: int
) -> dict[str, Metric | PairedDifference]:
    judge = [
        _chose_longer(each.pair, found.verdict) for each, found in zip(pairs, verdicts, strict=True)
    ]
    people = [_chose_longer(each.pair, each.verdict) for each in pairs]
    return {
        "longer_preferred": estimate_rate(judge),
        "people_longer_preferred": estimate_rate(people),
        "length_bias": paired_difference(
            judge, people, direction="lower_is_better", resamples=resamples
        ),
    }


def _chose_longer(pair: Pair, verdict: Verdict | None) -> bool | None:
    first, second = len(pair.first.strip()), len(pair.second.strip())
    if first == second or verdict not in ("a", "b"):
        return None
    return (verdict == "a") == (first > second)
