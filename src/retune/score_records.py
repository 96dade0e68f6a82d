"""The records of scores: figures, comparisons, the gate's decision and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from retune.digests import digest_json
from retune.errors import ScoringError
from retune.recipe.sections.scoring import Form
from retune.records import ArtifactRecord, ContentRecord, Record

JudgedSide = Literal["challenger", "opponent"]
"""Whose answer: one model's that is to be let out, or the one's that it has to beat."""


class Metric(Record):
    """One figure with its interval; ``value=None`` means that it could not be scored."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Rows that the value is over."""

    groups: int | None = None
    """Independent groups that those rows fall into; 1 where all share the same one. None: no two
    rows share one."""


class ScoreReport(ArtifactRecord):
    """Figures of one model on one side, with a per-row file (`rows.jsonl`)."""

    metrics: dict[str, Metric]
    rows: int
    unscored: dict[str, int]
    """Rows that could not be scored, by reason."""


class PairedDifference(Record):
    """One model minus another on the same rows, and what follows from it."""

    difference: float | None
    """In the figure's own unit and sign: below zero is good where lower is better."""
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    verdict: Literal["better", "worse", "undecided"]
    """`undecided` unless the interval excludes zero and the p-value is under `alpha`."""
    groups: int | None = None
    """Independent groups that the rows fall into, as in `Metric`."""
    worse_on_rows: bool = False
    """Where groups are too few to decide: whether the rows at hand, each on its own, are worse."""
    alpha: float = 0.05
    """Chance that the interval misses the difference; what the p-value has to be under."""


class JudgeSpending(Record):
    """What questions to a judge took; no part of what it said."""

    asked: int = 0
    """Questions that were answered now."""
    reused: int = 0
    """Questions whose answers were kept from an earlier run, and cost nothing."""
    requests: int = 0
    """Requests that were sent, tries that failed among them."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    """By `judge.prices`; None without them."""


class JudgeAgreement(ArtifactRecord):
    """How a judge's verdicts compare with those of people (`verdicts.jsonl`: pair by pair)."""

    pairs: int
    unscored: dict[str, int]
    """Pairs without a verdict, by reason; each is a disagreement, but where it was not asked."""
    turned: int
    """Pairs whose verdict changed with the order of the answers: taken as ties."""
    kappa: Metric
    """Cohen's, of three verdicts."""
    agreement: Metric
    """Share of pairs with the verdict of people."""
    first_preferred: Metric
    """Share of the single judgements that decided for the answer that was shown first."""
    longer_preferred: Metric
    """Share of pairs that were decided for the longer answer."""
    people_longer_preferred: Metric
    """The same of people."""
    length_bias: PairedDifference
    """The judge's minus the people's, over pairs that both decided."""
    spent: JudgeSpending


class JudgedAnswers(ArtifactRecord):
    """What a judge said of two models' answers to the same rows, a folder for each of the two."""

    rows: int
    unscored: dict[str, int]
    """Rows without a verdict, by reason."""
    wins: int
    """Rows on which the challenger's answer is the better one."""
    losses: int
    ties: int
    """Rows on which none is: equal answers, and verdicts that change with their order, included."""
    equal: int
    """Rows with the same answer twice, which the judge was not asked about."""
    turned: int
    """Rows whose verdict changed with the order of the answers: taken as ties."""
    first_preferred: Metric
    """Share of the single judgements that decided for the answer that was shown first."""
    win_rates: dict[JudgedSide, Metric]
    """Wins and half the ties, as a share of the rows with a verdict."""
    itself: tuple[str, ...] = ()
    """Which of the models the judge is itself, or was trained from."""
    spent: JudgeSpending

    def report_of(self, side: JudgedSide) -> ScoreReport:
        """Return what is said of one of the two.

        Args:
            side: Which.
        """
        return ScoreReport(
            digest=digest_json({"judged": self.digest, "side": side}),
            folder=self.folder / side,
            metrics={"judge_win_rate": self.win_rates[side]},
            rows=self.rows,
            unscored=self.unscored,
        )


class JudgeStanding(Record):
    """What the gate has to know of a judge."""

    doubts: tuple[str, ...]
    """Why its figure may decide nothing; empty where it may."""
    notes: tuple[str, ...]
    """What was found of it, for people."""
    figures: dict[str, float] = Field(default_factory=dict)
    """The same as numbers, for MLflow."""


class ModelScores(ContentRecord):
    """All reports of one model: what the gate compares."""

    reports: dict[str, ScoreReport]
    """By what was scored, such as ``sql``; only those that the rows and the recipe ask for."""
    form: Form = "plain"
    """That the model was scored in; a gate never compares figures of two forms."""
    judge: JudgeStanding | None = None
    """What is known of the judge that compared its answers; None where none did."""

    @classmethod
    def of(cls, reports: Mapping[str, ScoreReport | None], form: Form = "plain") -> ModelScores:
        """Put one model's reports together; their digests make its own.

        Args:
            reports: By what was scored.
            form: That the model was scored in.
        """
        found = {name: report for name, report in reports.items() if report}
        digests = {name: report.digest for name, report in found.items()}
        # Plain ones have the digest that they always had.
        identity = digests if form == "plain" else {**digests, "form": form}
        return cls(digest=digest_json(identity), reports=found, form=form)

    def judged(self, report: ScoreReport, judge: JudgeStanding) -> ModelScores:
        """Return the same scores with what a judge said of the answers.

        Args:
            report: Of the judge.
            judge: What is known of it.
        """
        own = {"scores": self.digest, "judged": report.digest, "judge": judge.model_dump()}
        reports = {**self.reports, "judge": report}
        update = {"digest": digest_json(own), "reports": reports, "judge": judge}
        return self.model_copy(update=update)

    def over_rows(self) -> ScoreReport:
        """Return a report over the held-out rows.

        All of them, or those that it is asked where a model tells no losses: a head, an engine
        elsewhere.

        Raises:
            ScoringError: There is none.
        """
        found = self.first_of("perplexity", "labels", "sql", "text", "answers")
        if found is None:
            raise ScoringError("none of the held-out rows was scored.")
        return found

    def first_of(self, *names: str) -> ScoreReport | None:
        """Return the first report of some that there is."""
        return next((self.reports[name] for name in names if name in self.reports), None)

    def metrics(self) -> dict[str, Metric]:
        """Return every metric by name."""
        found = [report.metrics for report in self.reports.values()]
        return {name: metric for metrics in found for name, metric in metrics.items()}

    def report_of(self, metric: str) -> ScoreReport | None:
        """Return the report that holds a metric."""
        holds = (report for report in self.reports.values() if metric in report.metrics)
        return next(holds, None)


class FigureDifference(PairedDifference):
    """The difference of a figure that has a name."""

    metric: str


class Comparison(FigureDifference):
    """The challenger minus an opponent."""

    against: Literal["base", "champion"]


class GuardFinding(Comparison):
    """What a guard says: whether a figure is shown not to be worse by more than its margin."""

    margin: float
    """Largest loss that is accepted, in the figure's own units."""
    holds: bool
    """False too where nothing could be compared."""


class SliceFinding(FigureDifference):
    """A part of the held-out rows on its own: the challenger minus an opponent."""

    by: str
    """What the rows were parted by, such as `hardness`."""
    part: str
    against: Literal["base", "champion"]
    rows: int
    refuses: bool
    """Whether the part is shown to be worse."""
    lost: int = 0
    """Rows of it on which the challenger is worse."""
    first: tuple[str, ...] = ()
    """Ids of the first few of those."""


class SmallSlice(Record):
    """A part of the held-out rows that has too few of them to refuse anything."""

    by: str
    part: str
    rows: int


class GateDecision(ContentRecord):
    """What the gate says of the challenger, and why."""

    promote: bool
    """True when the challenger becomes champion."""
    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    metric: str = ""
    """The figure that decided."""
    alpha: float = 0.05
    """Level that the deciding figure and the guards were compared at; 0: the rows are worn out."""
    guards: tuple[GuardFinding, ...] = ()
    slices: tuple[SliceFinding, ...] = ()
    """Parts of the rows that were large enough to be tested."""
    small_slices: tuple[SmallSlice, ...] = ()
    notes: tuple[str, ...] = ()
    """What has to be known of the decision and is no reason for it."""


class RegisteredRef(ContentRecord):
    """A version in the model registry, reloaded by alias and compared."""

    model_name: str
    version: int
    alias: Literal["champion", "challenger"]
    rows_checked: int
    answers_equal: int
    line: int = 0
    """Number of the ledger's line that says what became of it."""
    held_back: str = ""
    """Why it is no champion though the gate would promote it; empty where nothing holds it."""
