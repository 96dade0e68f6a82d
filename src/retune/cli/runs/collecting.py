"""`retune collect`: the flow in a terminal, and what became of the pages as a table."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.runs.flow_runs import run_flow
from retune.collecting.page_text import NEVER_CONTENT
from retune.collecting.records import CollectSettings
from retune.collecting.writing import Collected, refuse_clobber

_INTERRUPT_SECONDS = 5.0
_INTERRUPTED = "Interrupted. Pages fetched so far are kept: run again to go on."


def collect_pages(
    source: str, out: Path, settings: CollectSettings, *, force: bool, as_json: bool
) -> None:
    """Run the flow `collect` and print what came of it.

    Args:
        source: Where the pages are.
        out: File to write.
        settings: How pages are fetched and what becomes of them.
        force: Write over an earlier file.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        RetuneError: Whatever stopped the run.
    """
    refuse_clobber(out, force=force)
    run_flow(
        "flows.collect:collect",
        {"source": source, "out": out, "settings": settings, "force": force},
        show_collected,
        as_json=as_json,
        interrupt_seconds=_INTERRUPT_SECONDS,
        interrupted=_INTERRUPTED,
    )


def show_collected(console: Console, collected: Collected) -> None:
    """Print the pages by reason, what was left out, the pages to look at, and the files."""
    table = Table(title=f"{collected.rows} rows from {collected.kept} of {collected.pages} pages")
    for name in ("status", "reason"):
        table.add_column(name)
    table.add_column("pages", justify="right")
    styles = {"kept": "green", "empty": "yellow", "failed": "red"}
    for status, reason, pages in collected.reasons:
        table.add_row(Text(status, style=styles[status]), Text(reason), str(pages))
    console.print(table)
    for reason, count in sorted(collected.dropped.items()):
        console.print(Text(f"  sections left out: {reason} ({count})"))
    own, other = _split_letters(collected.left_out)
    for name, counts in (("letters in no row", own), ("not counted as text", other)):
        if counts:
            console.print(Text(f"  {name}: {counts}"), soft_wrap=True)
    show_named(console, collected)
    if collected.reused:
        console.print(
            f"  {collected.reused} pages came from the cache; --refresh fetches them again.",
            highlight=False,
        )
    for name, path in (("Rows:", collected.out), ("Outcomes:", collected.outcomes)):
        console.print(Text(f"{name:<9} {path}"), soft_wrap=True)


def show_named(console: Console, collected: Collected) -> None:
    """Print the pages that lose much of their text or give nothing, and what to do."""
    if not collected.named:
        return
    console.print("Pages to look at:", style="yellow", highlight=False)
    for page in collected.named:
        what = page.reason
        if page.status == "kept":
            what = f"loses {page.lost:.0%} of its text, most of it: {page.reason}"
        told = "; ".join(part for part in (page.detail, page.advice) if part)
        console.print(Text(f"  {page.source}"), soft_wrap=True)
        line = f"    {what}" + (f" ({told})" if told else "")
        console.print(Text(line), soft_wrap=True)
    if collected.unnamed:
        console.print(
            f"  and {collected.unnamed} more; the outcomes name all of them.", highlight=False
        )


def _split_letters(left_out: dict[str, int]) -> tuple[str, str]:
    """Letters by reason, the most first: of the pages' own text, and of what never was any."""
    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    own = [f"{name} {count:,}" for name, count in ordered if name not in NEVER_CONTENT]
    other = [f"{name} {count:,}" for name, count in ordered if name in NEVER_CONTENT]
    return "; ".join(own), "; ".join(other)
