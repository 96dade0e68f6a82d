"""What is said of one figure beside how it is computed; `retune.scoring.figures` is their table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from retune.recipe.sections import FormatName
    from retune.scoring.uncertainty.paired import Direction


@dataclass(frozen=True)
class Figure:
    """What is said of one figure.

    Attributes:
        name: In reports, recipes and files.
        label: For people.
        explanation: One line on what it is.
        direction: Which way is good.
        unit: A rate is a part of 1 and shown in percent; a number is shown as it is.
        rows: Format of the rows that have it; None: any.
        over: What two models are compared on, one by one: held-out rows, texts, cases whose groups
            are subjects and no sources that make answers alike, or changes of rows' questions.
            None: never row by row.
        statistic: What is made of the rows' values: their mean, the F1 of their classes, their mean
            as wins and half the ties of two models, or of the sums of columns a ratio, as its power
            of e or as bits, or BLEU.
        columns: The columns that are summed: the two of a ratio, upper and lower, or BLEU's.
        of_answers: Whether it is of answers in free text, neither queries nor classes, and scored
            where `scoring.text_metrics` names it.
        graded: Whether a row of a rate may be partly right.
        shown: Whether it stands in tables of all kinds, in those of several models alone, or only
            among the further figures.
        beside_decision: Whether trials show it beside the figure that decides.
        per_token: Whether it counts tokens, so that models with other tokens have no common scale.
        may_decide: Whether `gate.metric` may name it.
        decides_unasked: Whether it decides where `gate.metric` names none and rows have it.
        curve: Its name in the picture of a training; empty: `training.watch` cannot name it.
        watch_reads: What a training that is watched by it reads of the recipe's `scoring`: the
            others are no part of that training's key.
        guards_only: Whether it is compared only where `gate.guards` names it: what a tuned model
            nearly always loses, or costs.
        judges: Whether a row's value says that its answer is right or wrong.
        parts: What the parts of its rows are called.
    """

    name: str
    label: str
    explanation: str = ""
    direction: Direction = "higher_is_better"
    unit: Literal["rate", "number"] = "rate"
    rows: FormatName | None = None
    of_answers: bool = False
    graded: bool = False
    over: Literal["rows", "texts", "cases", "changes"] | None = None
    statistic: Literal["mean", "macro_f1", "win_rate", "exp_of_ratio", "bits_of_ratio", "bleu"] = (
        "mean"
    )
    columns: tuple[str, ...] = ()
    shown: Literal["in_tables", "between_models", "further"] = "further"
    beside_decision: bool = False
    per_token: bool = False
    may_decide: bool = False
    decides_unasked: bool = False
    curve: str = ""
    watch_reads: tuple[str, ...] = ()
    guards_only: bool = False
    judges: bool = False
    parts: str = "part"

    @property
    def of_pairs(self) -> bool:
        """Whether it is of two models' answers beside each other: one model alone has none."""
        return self.statistic == "win_rate"

    @property
    def lower_is_better(self) -> bool:
        """Whether a smaller value is the better one."""
        return self.direction == "lower_is_better"
