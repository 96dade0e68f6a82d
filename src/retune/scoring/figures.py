"""The table of figures: everything that is said of a figure beside how it is computed.

Each figure of the reports (`retune.score_records.ScoreReport`) that people see has one entry. The
gate, the watch on a training, tables, pages and pictures read it, so that a new figure is one more
entry here, and one more name in `gate.metric` or `training.watch`, whose choices stand in the
recipe.

The order of the entries is that of every table and of every list of comparisons, and where the rows
choose what decides the first one does. A figure over part of the rows has its name before a dot
(`sql_execution_match.easy`), and one of a plain classifier behind it (`majority.accuracy`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from retune.recipe.sections.rubrics import PREFIX
from retune.scoring.figure import Figure

if TYPE_CHECKING:
    from retune.scoring.uncertainty.paired import Direction


BLEU_COLUMNS = (
    *(f"bleu_matches_{length}" for length in range(1, 5)),
    *(f"bleu_ngrams_{length}" for length in range(1, 5)),
    "bleu_words",
    "bleu_reference_words",
)
"""What a row gives to BLEU, as `rows.jsonl` names it."""
_OF_QUERIES = ("max_new_tokens", "sql_dialect", "sql_timeout_seconds")

_ALL = (
    Figure(
        "sql_execution_match",
        "SQL execution match",
        "the query gives the reference's result on the row's own database",
        rows="text_to_sql",
        over="rows",
        shown="in_tables",
        may_decide=True,
        decides_unasked=True,
        curve="execution match",
        watch_reads=_OF_QUERIES,
        judges=True,
        parts="hardness of the query",
    ),
    Figure(
        "sql_exact_match",
        "SQL exact match",
        "the query is the reference's, after canonical form",
        rows="text_to_sql",
        over="rows",
        shown="in_tables",
        may_decide=True,
        curve="exact match",
        watch_reads=_OF_QUERIES,
        parts="hardness of the query",
    ),
    Figure(
        "macro_f1",
        "Macro F1",
        "mean over classes of the harmonic mean of precision and recall",
        rows="text_label",
        over="rows",
        statistic="macro_f1",
        shown="in_tables",
        may_decide=True,
        decides_unasked=True,
        curve="macro F1",
    ),
    Figure(
        "accuracy",
        "Accuracy",
        "rows that were put into the right class",
        rows="text_label",
        over="rows",
        shown="in_tables",
        may_decide=True,
        curve="accuracy",
        judges=True,
    ),
    Figure(
        "perplexity",
        "Perplexity",
        "of the reference answers, their tokens only",
        direction="lower_is_better",
        unit="number",
        over="rows",
        statistic="exp_of_ratio",
        columns=("nll_sum_nats", "tokens"),
        shown="in_tables",
        beside_decision=True,
        per_token=True,
        may_decide=True,
        decides_unasked=True,
    ),
    Figure(
        "bits_per_byte",
        "Bits per byte of the answers",
        "of the reference answers; tokens are not counted, so any models can be compared",
        direction="lower_is_better",
        unit="number",
        over="rows",
        statistic="bits_of_ratio",
        columns=("text_nll_nats", "answer_bytes"),
        shown="between_models",
        may_decide=True,
    ),
    Figure(
        "general_text_bits_per_byte",
        "Bits per byte of general text",
        "how surprised the model is by text that is not the task's",
        direction="lower_is_better",
        unit="number",
        over="texts",
        statistic="bits_of_ratio",
        columns=("nll_sum_nats", "bytes"),
        shown="in_tables",
        beside_decision=True,
    ),
    Figure(
        "probe_pass_rate",
        "Probe pass rate",
        "prompts with required and forbidden words that were answered as asked",
        over="cases",
        shown="in_tables",
        may_decide=True,
        parts="category",
    ),
    Figure(
        "flip_rate",
        "Flip rate",
        "perturbed questions whose outcome is another",
        direction="lower_is_better",
        over="changes",
        shown="in_tables",
        guards_only=True,
        parts="what was perturbed",
    ),
    Figure(
        "exact_match",
        "Exact match",
        "answers that are one of their references, after the normalisers of the recipe",
        over="rows",
        of_answers=True,
        shown="in_tables",
        may_decide=True,
        judges=True,
    ),
    Figure(
        "token_f1",
        "Token F1",
        "words that answer and reference share, of those of both; after the normalisers",
        over="rows",
        of_answers=True,
        graded=True,
        shown="in_tables",
        may_decide=True,
    ),
    Figure(
        "rouge_l",
        "ROUGE-L",
        "longest run of words, with gaps, that answer and reference share, of those of both",
        over="rows",
        of_answers=True,
        graded=True,
        shown="in_tables",
        may_decide=True,
    ),
    Figure(
        "chrf",
        "chrF",
        "runs of up to six characters that answer and reference share; mean over rows",
        over="rows",
        of_answers=True,
        graded=True,
        shown="in_tables",
        may_decide=True,
    ),
    Figure(
        "bleu",
        "BLEU",
        "runs of up to four words that the references have too, of all rows together",
        over="rows",
        of_answers=True,
        graded=True,
        statistic="bleu",
        columns=BLEU_COLUMNS,
        shown="in_tables",
        may_decide=True,
    ),
    Figure(
        "judge_win_rate",
        "Judge's win rate",
        "answers that the judge finds better than the opponent's, and half of those that are alike",
        over="rows",
        of_answers=True,
        statistic="win_rate",
        shown="in_tables",
        may_decide=True,
    ),
    Figure(
        "full_sequence_perplexity",
        "Perplexity of prompt and answer",
        direction="lower_is_better",
        unit="number",
        per_token=True,
    ),
    Figure(
        "general_text_perplexity",
        "Perplexity of general text",
        direction="lower_is_better",
        unit="number",
        per_token=True,
    ),
    Figure(
        "unscored_rate",
        "Unscored rate",
        "rows without the figure that decides",
        direction="lower_is_better",
        guards_only=True,
    ),
    Figure(
        "seconds_per_answer",
        "Seconds per answer",
        "a row's share of the time that its batches took",
        direction="lower_is_better",
        unit="number",
        shown="between_models",
        guards_only=True,
    ),
    Figure(
        "answer_tokens",
        "Tokens per answer",
        "without the thought before it",
        direction="lower_is_better",
        unit="number",
        shown="between_models",
    ),
    Figure(
        "thinking_tokens",
        "Thinking tokens per answer",
        "of the thought before it, which is never scored, with its tags",
        direction="lower_is_better",
        unit="number",
        shown="between_models",
    ),
    Figure(
        "release_bytes",
        "Size of the release in bytes",
        "of the files that hold weights",
        direction="lower_is_better",
        unit="number",
        guards_only=True,
    ),
    Figure("sql_executable_rate", "SQL that runs"),
    Figure("sql_empty_result_rate", "SQL with an empty result"),
    Figure("sql_nothing_floor", "Floor: a query that returns nothing"),
    Figure("sql_cut_tie_rate", "References whose LIMIT cuts a tie"),
    Figure("mcc", "Matthews correlation", unit="number"),
    Figure("ece", "Calibration error (ECE)", direction="lower_is_better"),
    Figure("brier", "Brier score", direction="lower_is_better", unit="number"),
    Figure(
        "brier_of_top",
        "Brier score of the first label",
        direction="lower_is_better",
        unit="number",
    ),
    Figure("unparsable_rate", "Unparsable rate", direction="lower_is_better"),
)
FIGURES = {each.name: each for each in _ALL}
"""Every figure that has an entry, by name."""
OWN: dict[str, Direction] = {
    "own_metric": "higher_is_better",
    "own_error": "lower_is_better",
}
"""What names of a team's own metrics begin with, before a dot, and which way is good."""

WATCHED = tuple(each for each in _ALL if each.curve)
"""What a training can be watched by, beside its loss."""


def is_own(name: str) -> bool:
    """Say whether a figure is a team's own, such as ``own_metric.house_style``."""
    kind, _, own = name.partition(".")
    return kind in OWN and bool(own)


def is_named_by_recipe(name: str) -> bool:
    """Say whether a recipe gave a figure its name: a team's own metric, or a rubric."""
    return is_own(name) or (name.startswith(PREFIX) and name != PREFIX)


def all_figures(names: Iterable[str]) -> list[Figure]:
    """Return every figure that has an entry, and those that a recipe named behind them.

    Args:
        names: Of figures that were scored.
    """
    return [*_ALL, *(figure_of(name) for name in dict.fromkeys(names) if is_named_by_recipe(name))]


def figure_of(name: str) -> Figure:
    """Return what is said of a figure; of one without an entry, that it is a rate.

    Args:
        name: In a report.
    """
    if is_own(name):
        kind, _, own = name.partition(".")
        return Figure(
            name,
            own.replace("_", " ").capitalize(),
            "the team's own metric (scoring.text_metrics), mean over rows",
            direction=OWN[kind],
            unit="number",
            over="rows",
            of_answers=True,
            shown="in_tables",
            may_decide=True,
        )
    if is_named_by_recipe(name):
        return Figure(
            name,
            f"Rubric {name.removeprefix(PREFIX).replace('_', ' ')}",
            "answers that keep to this rule (scoring.rubrics)",
            over="rows",
            of_answers=True,
            shown="in_tables",
            may_decide=True,
        )
    return FIGURES.get(name) or Figure(name, name.replace("_", " ").capitalize())


def headline_of(names: Collection[str]) -> list[str]:
    """Return which of some figures stand in a run's table, in its order.

    Args:
        names: Of figures that were scored.
    """
    shown = (each.name for each in all_figures(names) if each.shown == "in_tables")
    return [name for name in shown if name in names]


def figure_behind(name: str) -> Figure:
    """Return what is said of a figure, of one over part of the rows what is said of the whole.

    Args:
        name: Of a figure, or such as ``probe_pass_rate.refusals``.
    """
    whole = name in FIGURES or is_named_by_recipe(name)
    return figure_of(name if whole else name.partition(".")[0])


def column_of(figure: Figure) -> str:
    """Return the column of `rows.jsonl` that is empty where a row has no value of a figure.

    Args:
        figure: Compared row by row.
    """
    if figure.columns:
        return figure.columns[0]
    # What a class is, is told by its rows; whether it was found, by their accuracy.
    return "accuracy" if figure.statistic == "macro_f1" else figure.name


def figure_that_decides(exists: Callable[[Figure], bool]) -> str:
    """Name the figure that decides where `gate.metric` leaves it to the kind of rows.

    Args:
        exists: Whether the rows at hand have a figure.

    Returns:
        The name; perplexity, which all rows have, where they have no other.
    """
    return next(each.name for each in _ALL if each.decides_unasked and exists(each))
