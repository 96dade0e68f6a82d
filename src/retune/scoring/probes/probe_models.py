"""Probing a model: it answers fixed questions, and its new text alone is judged.

`probe_model` judges the words of answers, as `retune.scoring.probes` defines it: `probe_pass_rate`
over all cases, by category (`probe_pass_rate.NAME`) and, where the cases are in several languages,
by language (`probe_pass_rate.language.CODE`).

`probe_counterfactuals` compares two groups, as `retune.scoring.counterfactual` defines it:
`counterfactual.NAME.difference`, first minus second group, for every set. A set with `hit_words` is
answered, a set with `continuations` is read: log-likelihood of the continuation, letter by letter
as the file has it and without an end token, where an answer would begin. It is a sum in nats; where
the continuations of the two groups differ (an ending inflects), a mean per token, since a sum would
measure their lengths. A set with both has two figures: `counterfactual.NAME.hit_rate.difference`
and `counterfactual.NAME.log_likelihood.difference`.

A question that does not fit into the model's context is unscored, counted by reason, and the others
go on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retune.digests import digest_folder
from retune.errors import ConfigError
from retune.inference.generation import PROMPT_TOO_LONG
from retune.inference.token_losses import context_limit
from retune.score_records import Metric, ScoreReport
from retune.scoring.counterfactual import (
    CounterfactualPair,
    CounterfactualScores,
    CounterfactualSet,
    PairSide,
    expand_pairs,
    judge_hit,
    load_counterfactuals,
    score_pair_likelihoods,
    score_pairs,
)
from retune.scoring.outcomes import write_outcomes
from retune.scoring.probes import ProbeScores, judge_probes, load_probes
from retune.scoring.probes.asking import Asking, Ids
from retune.scoring.stages import CounterfactualSettings, ProbeInputs, ProbeSettings
from retune.spine.stage import Workdir

DIFFERENCES_FILE = "differences.json"
CONTINUATION_EMPTY = "continuation_empty"


def probe_model(inputs: ProbeInputs, settings: ProbeSettings, work: Workdir) -> ScoreReport:
    """Let the model answer every case and judge its words.

    Args:
        inputs: Model, cases, and the chat template when it is not the model's own.
        settings: System message, length limit.
        work: `rows.jsonl` with each answer and verdict goes to its artifact folder.

    Returns:
        The metric `probe_pass_rate`, over all categories, for each, and for each of several
        languages.

    Raises:
        ConfigError: The file of cases is broken.
    """
    cases = load_probes(inputs.cases.path)
    asking = Asking(inputs, settings, work)
    answers = asking.write([case.input for case in cases], "cases")
    scores = judge_probes(cases, [answer.text for answer in answers])
    write_outcomes(
        work.artifact,
        (
            {
                "row_id": outcome.case_id,
                "group": outcome.category,
                "language": case.language,
                "answer": answer.text,
                "probe_pass_rate": outcome.passed,
                "forbidden_found": list(outcome.found_forbidden),
                "required_missing": list(outcome.missing_required),
                "reason": answer.unscored_reason,
            }
            for case, answer, outcome in zip(cases, answers, scores.outcomes, strict=True)
        ),
    )
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics=_pass_rates(scores),
        rows=len(cases),
        unscored=_count(answer.unscored_reason for answer in answers),
    )


def probe_counterfactuals(
    inputs: ProbeInputs, settings: CounterfactualSettings, work: Workdir
) -> ScoreReport:
    """Ask the model the same of two groups, and compare what it makes of them.

    Args:
        inputs: Model, sets of pairs, and the chat template when it is not the model's own.
        settings: System message, length limit, bootstrap draws.
        work: `rows.jsonl` with each side of each pair, and `differences.json` with rates, tests and
            verdict of each set, go to its artifact folder.

    Returns:
        The metric `counterfactual.NAME.difference` of each set; rows are sides of pairs.

    Raises:
        ConfigError: The file of sets is broken, or holds none.
        ScoringError: The model's loss is not finite.
    """
    sets = load_counterfactuals(inputs.cases.path)
    if not sets:
        raise ConfigError(
            f"{inputs.cases.path}: found no counterfactuals; expected a section `counterfactuals` "
            "with at least one set. Name such a file in probes.counterfactuals, or set it to null."
        )
    asking = Asking(inputs, settings, work)
    # A set with both is taken apart: a hit is judged once per input, not once per continuation.
    asked = [one.model_copy(update={"continuations": ()}) for one in sets if one.hit_words]
    read = [one.model_copy(update={"hit_words": ()}) for one in sets if one.continuations]
    resamples = settings.resamples
    hits = _answer_sides(expand_pairs(*asked), asking)
    likelihoods = _read_sides(expand_pairs(*read), asking)
    found = [
        *_differences(asked, score_pairs(*_by_pair(hits), resamples=resamples)),
        *_differences(read, score_pair_likelihoods(*_by_pair(likelihoods), resamples=resamples)),
    ]
    order = [one.category for one in sets]
    found.sort(key=lambda row: order.index(row["category"]))
    twice = {name for name, count in Counter(row["category"] for row in found).items() if count > 1}
    outcomes = [*hits, *likelihoods]
    write_outcomes(work.artifact, (outcome.as_row() for outcome in outcomes))
    _write_json(work.artifact / DIFFERENCES_FILE, found)
    return ScoreReport(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        metrics={_metric_name(row, twice): Metric(**row["difference"]) for row in found},
        rows=len(outcomes),
        unscored=_count(outcome.reason for outcome in outcomes),
    )


@dataclass(frozen=True)
class _SideOutcome:
    """One side of a pair, and what the model made of it."""

    pair: CounterfactualPair
    side: PairSide
    value: float | None
    """1 for a hit and 0 for none, or a log-likelihood; None where unscored."""
    reason: str | None
    details: dict[str, Any]

    def as_row(self) -> dict[str, Any]:
        """Return the line of `rows.jsonl`; the sides of one template are a group."""
        return {
            "row_id": f"{self.pair.id}/{self.side.group}",
            "group": f"{self.pair.category}/{self.pair.template}",
            "pair": self.pair.id,
            "category": self.pair.category,
            "side": self.side.group,
            "input": self.side.input,
            "reason": self.reason,
            **self.details,
        }


def _answer_sides(pairs: Sequence[CounterfactualPair], asking: Asking) -> list[_SideOutcome]:
    sides = [(pair, side) for pair in pairs for side in (pair.first, pair.second)]
    answers = asking.write([side.input for _, side in sides], "answers") if sides else []
    outcomes = []
    for (pair, side), answer in zip(sides, answers, strict=True):
        hit = judge_hit(side, answer.text)
        details = {"answer": answer.text, "hit": hit}
        outcomes.append(_SideOutcome(pair, side, hit, answer.unscored_reason, details))
    return outcomes


def _read_sides(pairs: Sequence[CounterfactualPair], asking: Asking) -> list[_SideOutcome]:
    sides = [(pair, side) for pair in pairs for side in (pair.first, pair.second)]
    both = asking.encode_continuations(
        [side.input for _, side in sides], [side.continuation or "" for _, side in sides]
    )
    limit = context_limit(asking.loaded.model)
    reasons = [_why_unreadable(prompt, continuation, limit) for prompt, continuation in both]
    kept = [place for place, reason in enumerate(reasons) if reason is None]
    read = asking.read([both[place] for place in kept], "continuations")
    nats = dict(zip(kept, read, strict=True))
    inflected = _find_inflected(pairs)
    outcomes = []
    for place, (pair, side) in enumerate(sides):
        tokens = len(both[place][1])
        value = nats.get(place)
        details = {
            "continuation": side.continuation,
            "log_likelihood_nats": value,
            "tokens": tokens,
        }
        if value is not None and pair.category in inflected:
            value /= tokens
        outcomes.append(_SideOutcome(pair, side, value, reasons[place], details))
    return outcomes


def _why_unreadable(prompt: Ids, continuation: Ids, limit: int | None) -> str | None:
    if not continuation:
        return CONTINUATION_EMPTY
    too_long = limit is not None and len(prompt) + len(continuation) > limit
    return PROMPT_TOO_LONG if too_long else None


def _find_inflected(pairs: Iterable[CounterfactualPair]) -> set[str]:
    """Return the sets in which a pair's continuations are not the same text."""
    return {pair.category for pair in pairs if pair.first.continuation != pair.second.continuation}


def _by_pair(
    outcomes: Sequence[_SideOutcome],
) -> tuple[list[CounterfactualPair], list[Any], list[Any]]:
    first, second = outcomes[::2], outcomes[1::2]
    return [one.pair for one in first], [one.value for one in first], [one.value for one in second]


def _differences(
    sets: Sequence[CounterfactualSet], scores: CounterfactualScores
) -> list[dict[str, Any]]:
    inflected = _find_inflected(expand_pairs(*sets))
    table = []
    for one in sets:
        difference = scores.by_category[one.category].model_dump(mode="json")
        nats = "nats_per_token" if one.category in inflected else "nats"
        unit = "share" if difference["figure"] == "hit_rate" else nats
        row = {"category": one.category, "language": one.language, "unit": unit}
        table.append(row | difference)
    return table


def _metric_name(row: dict[str, Any], twice: set[str]) -> str:
    category, figure = row["category"], row["figure"]
    middle = f"{category}.{figure}" if category in twice else category
    return f"counterfactual.{middle}.difference"


def _pass_rates(scores: ProbeScores) -> dict[str, Metric]:
    by_language = scores.by_language if len(scores.by_language) > 1 else {}
    return {
        **scores.estimates,
        **{f"probe_pass_rate.{name}": rate for name, rate in scores.by_category.items()},
        **{f"probe_pass_rate.language.{code}": rate for code, rate in by_language.items()},
    }


def _count(reasons: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(reason for reason in reasons if reason is not None).items()))


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=2)
    path.write_text(text + "\n", encoding="utf-8")
