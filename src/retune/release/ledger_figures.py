"""The figures of a ledger's line, as text for people."""

from __future__ import annotations

from collections.abc import Iterator

from retune.pages.numbers import ABSENT
from retune.registry.records import TRAINING_HOURS, LedgerEntry
from retune.scoring import showing

_GAIN = "against_"


def metric_of(entry: LedgerEntry) -> str | None:
    """Return the name of the figure that a line was decided by: the one that has an interval."""
    ends = (name for name in entry.figures if f"{name}.low" in entry.figures)
    return next(ends, None)


def show_figure(entry: LedgerEntry, metric: str) -> str:
    """Write the figure that decided, with its interval.

    Args:
        entry: A line that has it.
        metric: Its name.

    Returns:
        Such as ``55.8 % [50.5 %, 61.0 %]``.
    """
    figures = entry.figures
    interval = showing.show_interval(
        metric, figures[f"{metric}.low"], figures.get(f"{metric}.high")
    )
    return f"{showing.show_value(metric, figures[metric])} {interval}".strip()


def show_hours(hours: float | None) -> str:
    """Write a training's time: ``2.50 h``, ``12 min``, ``40 s``."""
    if hours is None:
        return ABSENT
    if hours >= 1:
        return f"{hours:,.2f} h"
    return f"{60 * hours:.0f} min" if hours >= 1 / 30 else f"{3600 * hours:.0f} s"


def describe_figures(entry: LedgerEntry) -> Iterator[tuple[str, str]]:
    """Name and write all figures of a line.

    Args:
        entry: The line.

    Yields:
        Name and text, such as ``("SQL execution match", "55.8 % [50.5 %, 61.0 %]")``. What is no
        figure of a decision keeps its name and number.
    """
    metric = metric_of(entry)
    if metric is not None:
        yield showing.label_of(metric), show_figure(entry, metric)
    for name, value in entry.figures.items():
        last = name.rpartition(".")[2]
        if metric is not None and name in (metric, f"{metric}.low", f"{metric}.high"):
            continue
        if metric is not None and name.startswith(f"{metric}.{_GAIN}"):
            yield f"gain over the {last.removeprefix(_GAIN)}", showing.show_change(metric, value)
        elif name == TRAINING_HOURS:
            yield "training took", show_hours(value)
        else:
            yield name, f"{value:.4g}"
