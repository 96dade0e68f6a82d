"""What the gate needs of a recipe and its held-out rows: refused here, before a training is paid.

A guard on a figure that the run does not score, a part of the rows that none of them has, a figure
over too few rows: each would end in a refusal after hours, whatever was trained.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from retune.errors import ConfigError, DataError
from retune.gate.parts import is_answered, part_rows, read_parted_rows
from retune.gate.power import DetectableGain, count_rows_needed
from retune.gate.slices import figure_of_parts
from retune.inputs import Inputs
from retune.recipe.recipe import Recipe
from retune.recipe.sections import GateConfig
from retune.recipe.sections.judge import JUDGED
from retune.records import SideRef
from retune.scoring.figures import FIGURES, figure_behind, figure_of, figure_that_decides
from retune.scoring.probes import load_probes
from retune.scoring.showing import label_of
from retune.scoring.uncertainty.exchanging import fewest_units
from retune.scoring.uncertainty.paired import agresti_min_interval
from retune.scoring.uncertainty.resampling import count_groups, count_units, weigh_units

_ALWAYS = ("unscored_rate", "release_bytes")


def list_scored_figures(recipe: Recipe, inputs: Inputs, *, writes: bool | None = None) -> list[str]:
    """Name the figures that a run scores of the model it releases, and that can be compared.

    Args:
        recipe: The recipe.
        inputs: Its files and rows.
        writes: Whether the model writes, or names classes by a head; None: as the recipe has it.

    Returns:
        Names, of probes also by category.
    """
    writes, probes = recipe.head is None if writes is None else writes, recipe.probes
    formats = {row.located.format for row in inputs.rows}
    found = [
        each.name
        for each in FIGURES.values()
        if each.over in ("rows", "texts")
        and not each.of_answers
        and (each.rows in formats or (each.rows is None and writes))
        and (writes or each.rows == "text_label")
    ]
    found += recipe.scoring.text_figures if writes else ()
    found += [JUDGED] if writes and recipe.judge is not None else []
    found += _ALWAYS
    if writes and inputs.probes:
        found += ["probe_pass_rate", *_categories(list_categories(inputs))]
    if probes is not None and probes.robustness is not None and inputs.asks_questions:
        found.append("flip_rate")
    if inputs.has_labels or (writes and _writes_answers(recipe, inputs)):
        found.append("seconds_per_answer")
    return found


def list_categories(inputs: Inputs) -> list[str]:
    """Return the category of each case of the probes; none where there are no probes.

    Args:
        inputs: The run's files.
    """
    return [case.category for case in load_probes(inputs.probes.path)] if inputs.probes else []


def _categories(names: Sequence[str]) -> list[str]:
    return [f"probe_pass_rate.{name}" for name in dict.fromkeys(names)]


def _writes_answers(recipe: Recipe, inputs: Inputs) -> bool:
    if inputs.asks_sql:
        return True
    return inputs.asks_questions and bool(recipe.scoring.samples or recipe.scoring.text_figures)


def choose_planned_metric(gate: GateConfig, scored: Collection[str]) -> str:
    """Name the figure that will decide.

    Args:
        gate: May name it.
        scored: From `list_scored_figures`.
    """
    return gate.metric or figure_that_decides(lambda each: each.name in scored)


def refuse_unscored(gate: GateConfig, scored: Collection[str]) -> None:
    """Refuse a deciding figure or a guard that the run does not score.

    Args:
        gate: Names them.
        scored: From `list_scored_figures`.

    Raises:
        ConfigError: One is not scored; the message names what is.
    """
    asked = {f"gate.guards.{name}": name for name in gate.guards}
    if gate.metric is not None:
        asked["gate.metric"] = gate.metric
    absent = [key for key, name in asked.items() if name not in scored]
    if absent:
        raise ConfigError(
            f"{', '.join(absent)}: the run of this recipe does not score that, so the gate could "
            f"never be passed. It scores {', '.join(scored)}. Name one of these, or add what it "
            "is scored on (probes.file, probes.robustness, rows of another format)."
        )


def read_scored_groups(metric: str, side: SideRef) -> list[str | None]:
    """Return the group of each held-out row that a figure is over.

    Args:
        metric: A figure.
        side: The rows.
    """
    rows = list(read_parted_rows(side))
    figure = figure_of(metric)
    kind = figure.rows
    if kind == "text_to_sql":
        rows = [row for row in rows if row["db_id"] is not None]
    if kind == "text_label":
        rows = [row for row in rows if row["label"] is not None]
    if figure.of_answers:
        rows = [row for row in rows if is_answered(row)]
    return [row["group"] for row in rows]


def refuse_unfit_rows(gate: GateConfig, metric: str, side: SideRef, dialect: str) -> list[str]:
    """Refuse held-out rows that the gate's bounds could not be met on.

    Args:
        gate: The bounds.
        metric: The figure that decides.
        side: The held-out rows.
        dialect: Of their queries.

    Returns:
        What has to be known and is no reason to stop: parts of which none is large enough.

    Raises:
        DataError: There are fewer rows than `gate.min_rows`.
        ConfigError: No row has a property that `gate.slices` parts them by.
    """
    over_rows = figure_of(metric).over == "rows"
    scored = len(read_scored_groups(metric, side)) if over_rows else None
    if scored is not None and scored < gate.min_rows:
        raise DataError(
            f"{label_of(metric)} is over {scored:,} held-out rows, under gate.min_rows "
            f"{gate.min_rows:,}, so no model could be promoted. Hold out more "
            "(data.test, or the shares of split)."
        )
    if not gate.slices:
        return []
    if not over_rows:
        raise ConfigError(
            f"gate.slices parts the held-out rows, but {label_of(metric)} decides, which is over "
            f"{figure_of(metric).over}. Remove gate.slices, or name another gate.metric."
        )
    parts = part_rows(side, gate.slices, dialect)
    absent = [name for name, found in parts.items() if not found]
    if absent:
        raise ConfigError(
            f"gate.slices: no held-out row has a {' or a '.join(absent)}, so nothing could be "
            "parted by it. Remove it from gate.slices, or hold out rows that have it."
        )
    return [
        f"gate.slices: no {name} has gate.min_slice_rows {gate.min_slice_rows} held-out rows (the "
        f"largest of {len(found):,} has {max(map(len, found.values())):,}), so that none of them "
        f"can refuse; {figure_of_parts(metric)} is compared over all rows alone"
        for name, found in parts.items()
        if max(map(len, found.values())) < gate.min_slice_rows
    ]


def refuse_small_guards(
    gate: GateConfig, metric: str, side: SideRef, cases: Sequence[str], level: float
) -> list[str]:
    """Refuse guards over so few rows, groups or cases that they could hold for no model.

    Args:
        gate: Its guards.
        metric: The figure that decides.
        side: The held-out rows.
        cases: Category of each case of the probes.
        level: Of the decision.

    Returns:
        What has to be known and is no reason to stop: margins that an equal model does not keep to.

    Raises:
        DataError: A guard is over fewer than a decision at this level takes.
    """
    guarded = {name: _list_guarded(name, metric, side, cases) for name in gate.guards}
    known = {name: groups for name, groups in guarded.items() if groups is not None}
    units = {name: count_units(len(g), count_groups(len(g), g)) for name, g in known.items()}
    needed = fewest_units(level)
    small = [f"{name} is over {count}" for name, count in units.items() if count < needed]
    if small:
        raise DataError(
            f"gate.guards: {', '.join(small)} rows, groups or cases that stand on their own, and "
            f"under {needed} show nothing at level {level:.2g}, whatever the margin, so no model "
            "could be promoted. Hold out rows of more groups, add cases to probes.file, or remove "
            "the guard."
        )
    return [
        f"gate.guards.{name} {gate.guards[name]:g}: a model that is equal on all of "
        f"{len(groups):,} rows or cases is shown to be within {width:.2g} at level {level:.2g}, so "
        "that only one that gains can pass. Name a larger margin, or hold out more, of more groups"
        for name, groups in known.items()
        if figure_behind(name).unit == "rate"
        and not figure_behind(name).graded
        and (width := _width_of_equal(groups, level)) > gate.guards[name]
    ]


def _list_guarded(
    name: str, metric: str, side: SideRef, cases: Sequence[str]
) -> list[str | None] | None:
    """Return the group of each row or case of a guard; None where it takes scored models."""
    looked_at = metric if name == "unscored_rate" else name
    over, category = figure_behind(looked_at).over, looked_at.partition(".")[2]
    if over == "cases":
        return [None for each in cases if not category or each == category]
    return read_scored_groups(looked_at, side) if over == "rows" else None


def _width_of_equal(groups: Sequence[str | None], level: float) -> float:
    """Return half the interval of a rate of two models that are equal on all rows."""
    rows = len(groups)
    unit = rows / weigh_units(rows, groups)
    return agresti_min_interval(0, 0, rows, level, unit=unit)[1]


def refuse_weak_test(gate: GateConfig, found: DetectableGain) -> None:
    """Refuse held-out rows that cannot show the gain that the recipe names.

    Args:
        gate: Its `detectable_gain`.
        found: What the rows can show.

    Raises:
        DataError: They show no gain so small; the message says about how many would.
    """
    wanted = gate.detectable_gain
    if wanted is None or not found.known or (found.gain is not None and found.gain <= wanted):
        return
    # Rows that a first try was let through with are not refused when it is tried again.
    if found.pessimistic:
        return
    needed = count_rows_needed(found, wanted)
    told = "no gain at all" if found.gain is None else f"at best a gain of {found.gain:.3g}"
    rows = "more rows, of more groups" if needed is None else f"about {needed:,} rows like these"
    raise DataError(
        f"the held-out rows show {told} of {label_of(found.metric)} in four of five tries, at "
        f"level {found.alpha:.2g} ({found.basis}); gate.detectable_gain asks for {wanted:g}. "
        f"Hold out {rows}, or name a larger gate.detectable_gain."
    )


def describe_power(found: DetectableGain) -> str:
    """Write what a test set can show, in one sentence."""
    where, label = f"at level {found.alpha:.2g} ({found.basis})", label_of(found.metric)
    if not found.known:
        return (
            f"what gain of {label} can be shown is unknown until the base is scored on these "
            f"{found.rows:,} rows"
        )
    if found.gain is None:
        return f"no gain of {label} can be shown {where}"
    rate = figure_of(found.metric).unit == "rate"
    gain = f"{100 * found.gain:.1f} points" if rate else f"{found.gain:.3g}"
    return f"a gain of {gain} of {label} is shown in four of five tries {where}"
