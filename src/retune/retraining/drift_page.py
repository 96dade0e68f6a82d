"""The page on drift: what training rows and requests have in each bin, as Markdown.

Bars are signs of text, so that the page reads alike in a terminal, in an editor and in Prefect's
UI, which shows no files.
"""

from __future__ import annotations

import math
from pathlib import Path

from retune.pages.templates import as_code_line, as_markdown_cell
from retune.retraining.drift_records import Bin, DriftIndex, DriftReport, PromptLosses
from retune.retraining.findings import TriggerFinding

PAGE_FILE = "drift.md"
_SHOWN = 12
"""Bins of an index that has many: those that add most to it."""
_WIDTH = 20
_EIGHTHS = " ▏▎▍▌▋▊▉"


def write_drift_page(
    folder: Path, finding: TriggerFinding, report: DriftReport, losses: PromptLosses | None
) -> Path:
    """Write the page.

    Args:
        folder: Where to; made when missing.
        finding: What it comes to.
        report: Lengths, tokens and classes compared.
        losses: The champion's losses compared; None where they were not measured.

    Returns:
        The Markdown file.
    """
    indices = [*report.indices, *([losses.index] if losses else [])]
    lines = [
        "# Drift",
        "",
        f"**{'Drifted' if finding.fires else 'Not drifted'}**: {as_markdown_cell(finding.reason)}.",
        "",
        f"{report.requests:,} requests against {report.rows:,} training rows. PSI is the "
        "population stability index; so many requests drawn from the training rows stay under "
        f"*chance* in {100 * (1 - report.level):.4g} % of draws.",
        "",
        "| compared | PSI | chance | requests |",
        "|---|---:|---:|---:|",
        *(_row(each) for each in indices),
    ]
    if losses is not None:
        lines += ["", _tell_losses(losses)]
    for each in indices:
        lines += ["", *_show_bins(each)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PAGE_FILE
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _row(index: DriftIndex) -> str:
    return f"| {index.label} | {index.value:.3f} | {index.chance:.3f} | {index.requests:,} |"


def _tell_losses(losses: PromptLosses) -> str:
    return (
        f"Loss of the champion: {losses.requests_loss:.3f} nats per token on the prompts of "
        f"{losses.requests:,} requests, {losses.rows_loss:.3f} on {losses.rows:,} that it knows; "
        f"chance gives up to {losses.chance:.3f} more."
    )


def _show_bins(index: DriftIndex) -> list[str]:
    shown, left_out = list(index.bins), ""
    if len(shown) > _SHOWN:
        shown = sorted(index.bins, key=part_of_index, reverse=True)[:_SHOWN]
        left_out = f" The {_SHOWN} of {len(index.bins)} bins that add most."
    widest = max(max(each.rows, each.requests) for each in shown)
    return [
        f"## {index.label[0].upper()}{index.label[1:]}",
        "",
        f"PSI {index.value:.3f}, chance {index.chance:.3f}.{left_out}",
        "",
        "| bin | training rows | | requests | | adds |",
        "|---|---:|:---|---:|:---|---:|",
        *(
            f"| {_escape(each.label)} | {100 * each.rows:.1f} % | {_bar(each.rows / widest)} | "
            f"{100 * each.requests:.1f} % | {_bar(each.requests / widest)} | "
            f"{part_of_index(each):.3f} |"
            for each in shown
        ),
    ]


def part_of_index(each: Bin) -> float:
    """Return what a bin adds to its index.

    Args:
        each: Shares of training rows and requests, both above 0.
    """
    return (each.requests - each.rows) * math.log(each.requests / each.rows)


def _bar(share: float) -> str:
    """Draw a share of the widest bar."""
    eighths = round(share * _WIDTH * 8)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).strip()


def _escape(label: str) -> str:
    """Return a label as a cell of a table: a token may be a blank, a bar or a line's end."""
    plain = label.isprintable() and label == label.strip() and "`" not in label
    return as_markdown_cell(label) if plain else as_code_line(repr(label)).replace("|", "\\|")
