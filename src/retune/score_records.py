"""The records of scores: figures, comparisons, the gate's decision and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from retune.digests import digest_json
from retune.errors import ScoringError
from retune.recipe.sections.scoring import Form
from retune.records import ArtifactRecord, ContentRecord, Record


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


class ModelScores(ContentRecord):
    """All reports of one model: what the gate compares."""

    reports: dict[str, ScoreReport]
    """By what was scored, such as ``sql``; only those that the rows and the recipe ask for."""
    form: Form = "plain"
    """That the model was scored in; a gate never compares figures of two forms."""

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

    def over_rows(self) -> ScoreReport:
        """Return a report over the held-out rows: all of them, or those with a label for a head.

        Raises:
            ScoringError: There is none.
        """
        found = self.first_of("perplexity", "labels")
        if found is None:
            raise ScoringError("neither perplexity nor labels of the held-out rows were scored.")
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
