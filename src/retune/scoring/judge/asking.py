"""Asking a judge about pairs: each in both orders, once more where it gives no verdict."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from retune.errors import ScoringError
from retune.scoring.judge.kept_answers import REFUSED, KeptAnswers, Said
from retune.scoring.judge.wording import Pair, Verdict, Wording, read_verdict
from retune.spine.stage import Reporter

NO_VERDICT = "no_verdict"
_TURNED: dict[Verdict | None, Verdict | None] = {"a": "b", "b": "a", "tie": "tie"}


class Judge(Protocol):
    """Who answers questions."""

    def answer(self, questions: Sequence[str], told: Callable[[int, Said], None]) -> None:
        """Answer questions, and tell each answer with the place of its question."""


class Judgement(NamedTuple):
    """What was said of a pair in one order.

    Attributes:
        verdict: By the letters that were shown; None without one.
        text: What the judge wrote.
        reason: Why there is no verdict.
    """

    verdict: Verdict | None
    text: str | None
    reason: str | None


class PairVerdict(NamedTuple):
    """What was said of a pair in both orders.

    Attributes:
        straight: With the first answer as A.
        turned: With the second answer as A.
    """

    straight: Judgement
    turned: Judgement

    @property
    def verdict(self) -> Verdict | None:
        """Which answer is better, a for the first: a tie where the order decided."""
        one, other = self.straight.verdict, _TURNED.get(self.turned.verdict)
        if one is None or other is None:
            return None
        return one if one == other else "tie"

    @property
    def changed(self) -> bool:
        """Whether the verdict changed with the order."""
        one, other = self.straight.verdict, _TURNED.get(self.turned.verdict)
        return None not in (one, other) and one != other

    @property
    def reason(self) -> str | None:
        """Why there is no verdict."""
        return self.straight.reason or self.turned.reason


class Asking:
    """A judge with its questions, and what it has answered before.

    Args:
        judge: Who answers.
        wording: How it is asked.
        kept: Answers of earlier runs.
        reporter: Where progress goes.
    """

    def __init__(
        self, judge: Judge, wording: Wording, kept: KeptAnswers, reporter: Reporter
    ) -> None:
        self._judge, self._wording, self._kept = judge, wording, kept
        self._reporter = reporter
        self._lock = threading.Lock()
        self.asked = 0
        self.reused = 0

    def judge_pairs(self, pairs: Sequence[Pair]) -> list[PairVerdict]:
        """Let the judge compare answers.

        Args:
            pairs: The answers.

        Returns:
            The verdicts, in their order.

        Raises:
            ScoringError: The judge refuses every question.
            ServiceError: It does not answer; what it has answered is kept.
        """
        # Both orders of a pair beside each other: a budget that ends leaves few halves.
        shown = [each for pair in pairs for each in (pair, pair.turned)]
        said = self._answer([self._wording.ask(each) for each in shown])
        if said and all(each.reason == REFUSED for each in said):
            raise ScoringError(
                f"judge: it refuses all {len(said)} questions; the first with: {said[0].detail} "
                "Check judge.model, judge.max_new_tokens and judge.prompt."
            )
        open_ones = [
            at
            for at, each in enumerate(said)
            if each.text is not None and read_verdict(each.text) is None
        ]
        again = self._answer([self._wording.ask_again(shown[at]) for at in open_ones])
        for at, each in zip(open_ones, again, strict=True):
            said[at] = each
        found = [_judgement_of(each) for each in said]
        return [PairVerdict(*each) for each in zip(found[::2], found[1::2], strict=True)]

    def _answer(self, questions: Sequence[str]) -> list[Said]:
        found = {one: self._kept.find(one) for one in dict.fromkeys(questions)}
        missing = [one for one, said in found.items() if said is None]
        self.reused += len(found) - len(missing)
        done = 0

        def keep(at: int, said: Said) -> None:
            nonlocal done
            if said.text is not None:
                self._kept.keep(missing[at], said)
            with self._lock:
                found[missing[at]] = said
                self.asked += said.text is not None
                done += 1
                self._reporter.progress("judgements", done, len(missing))

        if missing:
            self._judge.answer(missing, keep)
        return [said for one in questions if (said := found[one]) is not None]


def _judgement_of(said: Said) -> Judgement:
    verdict = None if said.text is None else read_verdict(said.text)
    return Judgement(verdict, said.text, said.reason or (None if verdict else NO_VERDICT))


def count_reasons(reasons: Iterable[str | None]) -> dict[str, int]:
    """Count why there is no verdict."""
    return dict(Counter(reason for reason in reasons if reason))


def list_first_preferred(verdicts: Sequence[PairVerdict]) -> tuple[list[bool], list[str]]:
    """Return each single judgement that decided, as whether it was for the answer shown first.

    Args:
        verdicts: Of pairs.

    Returns:
        The judgements, and the pair of each, since the two of a pair hang together.
    """
    found = [
        (judgement.verdict == "a", str(at))
        for at, each in enumerate(verdicts)
        for judgement in each
        if judgement.verdict in ("a", "b")
    ]
    return [first for first, _ in found], [pair for _, pair in found]
