"""What was found in the rows, as tables in a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.data.findings import LeakReport, QualityReport
from retune.data.reporting import DataReport

_MOST_SHOWN = 6
_STATE_STYLES = {"within": "green", "over": "bold red", "no limit": "dim"}
_MOST_COLUMNS = 20


def print_findings(console: Console, report: DataReport) -> None:
    """Print sources, what was counted in the rows, leaks between sides, and the limits.

    Args:
        console: Where to print.
        report: The report on the rows.
    """
    console.print(_sources(report.quality))
    console.print(_counts(report.quality))
    if report.leaks is not None:
        console.print(_leaks(report.leaks))
    console.print(_limits(report))


def _sources(quality: QualityReport) -> Table:
    table = Table(title="Sources", title_justify="left")
    for name in ("source", "format", "side"):
        table.add_column(name, overflow="fold")
    for name in ("read", "bad", "kept"):
        table.add_column(name, justify="right")
    table.add_column("dropped, by reason")
    for source in quality.sources:
        table.add_row(
            Text(source.name),
            source.format,
            "held out" if source.held_out else "training",
            f"{source.read:,}",
            f"{source.bad:,}",
            f"{source.kept:,}",
            _listed(source.dropped),
        )
    return table


def _counts(quality: QualityReport) -> Table:
    table = Table(title="Rows", title_justify="left", show_header=False)
    copies = quality.duplicates
    table.add_row(
        "duplicates",
        f"{copies.folded:,} after folding (exact {copies.exact:,}), near {copies.near:,} more",
    )
    if quality.labels:
        table.add_row("labels", _listed(quality.labels))
        table.add_row(
            "two labels",
            f"{quality.conflicting_texts:,} texts, in {quality.conflicting_rows:,} rows",
        )
    table.add_row("languages", _listed(quality.languages))
    for name, lengths in quality.characters.items():
        spread = lengths.percentiles
        table.add_row(
            f"{name} length",
            f"median {spread['p50']:,} characters, 99 % up to {spread['p99']:,}, "
            f"longest {spread['max']:,}",
        )
    table.add_row("unprintable", _listed(quality.unprintable) or Text("none"))
    table.add_row("secrets", _listed(quality.secrets) or Text("none"))
    table.add_row("personal data", _listed(quality.personal_data) or Text("none"))
    for source in quality.sources:
        unused = [column for column in source.columns if column.used_as is None and column.filled]
        if unused:
            shown = _listed({column.name: column.filled for column in unused}, most=_MOST_COLUMNS)
            of = Text(f"of {source.name}, with rows that have it: ")
            table.add_row("not used", of.append_text(shown))
        for column in source.columns:
            if column.rewords_question or column.repeats_question:
                table.add_row(
                    Text(f"column {column.name}"),
                    f"unused; says the question again in other words in "
                    f"{column.rewords_question:,} rows, in the same words in "
                    f"{column.repeats_question:,}",
                )
    return table


def _leaks(leaks: LeakReport) -> Table:
    table = Table(title="Repeated across sides", title_justify="left")
    table.add_column("held out")
    table.add_column("repeated in")
    for name in ("rows", "of", "dropped"):
        table.add_column(name, justify="right")
    table.add_column("by kind")
    for each in leaks.findings:
        table.add_row(
            each.side,
            each.source_side,
            f"{each.rows:,}",
            f"{each.of:,}",
            f"{each.dropped:,}",
            _listed(each.by_kind),
        )
    return table


def _limits(report: DataReport) -> Table:
    table = Table(title="Limits", title_justify="left")
    table.add_column("fault")
    for name in ("rows", "of", "limit"):
        table.add_column(name, justify="right")
    table.add_column("")
    for line in report.limits:
        limit = "" if line.limit is None else f"{line.limit:.1%}"
        state = Text(line.state, style=_STATE_STYLES[line.state])
        table.add_row(line.name, f"{line.rows:,}", f"{line.of:,}", limit, state)
    return table


def _listed(counts: Mapping[str, int], most: int = _MOST_SHOWN) -> Text:
    # Labels come from the rows: one such as [/INST] is no markup.
    first = list(counts.items())[:most]
    shown = [f"{name} {count:,}" for name, count in first if count]
    more = len(counts) - most
    return Text(", ".join([*shown, f"{more} more"] if more > 0 else shown))
