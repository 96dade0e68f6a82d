"""`retune collect`: the flow in a terminal, and what became of the pages as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer
from rich.table import Table
from rich.text import Text

from retune.cli.interrupting import bound_interrupt
from retune.collecting.choices import ProviderName, RowKind
from retune.errors import Interrupted

if TYPE_CHECKING:
    from rich.console import Console

    from retune.collecting.records import CollectSettings
    from retune.collecting.writing import Collected

_INTERRUPT_SECONDS = 5.0
_INTERRUPTED = "Interrupted. Pages fetched so far are kept: run again to go on."


def collect(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="File of addresses, sitemap (file or address), HTML or Markdown files, a folder.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="JSON Lines file to write.")],
    rows: Annotated[
        RowKind, typer.Option("--as", help="What a row is; sentences pair each with the next.")
    ] = "pairs",
    provider: Annotated[ProviderName, typer.Option(help="Who fetches.")] = "http",
    zone: Annotated[Optional[str], typer.Option(help="Bright Data zone.")] = None,  # noqa: UP045
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at a time.")] = 16,
    per_host: Annotated[int, typer.Option(min=1, help="Of them to one host.")] = 2,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one request.")] = 30.0,
    attempts: Annotated[int, typer.Option(min=1, help="Requests for one page.")] = 4,
    min_characters: Annotated[int, typer.Option(min=1, help="Shortest section.")] = 80,
    max_characters: Annotated[int, typer.Option(min=200, help="Longest answer.")] = 4000,
    most_lost: Annotated[
        float, typer.Option(min=0, max=1, help="Share of its text a page may lose unnamed.")
    ] = 0.5,
    most_empty: Annotated[
        float, typer.Option(min=0, max=1, help="Share of pages read that may give no row.")
    ] = 0.5,
    cache: Annotated[Path, typer.Option(help="Folder of raw pages.")] = Path(".retune/pages"),
    refresh: Annotated[bool, typer.Option("--refresh", help="Fetch cached pages again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over an earlier file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object last.")] = False,
) -> None:
    """Turn pages into questions and answers, with an outcome for every page."""
    from retune.collecting.records import CollectSettings

    values = {
        "rows": rows,
        "provider": provider,
        "concurrency": concurrency,
        "per_host": per_host,
        "timeout_seconds": timeout,
        "attempts": attempts,
        "min_characters": min_characters,
        "max_characters": max_characters,
        "most_lost": most_lost,
        "most_empty": most_empty,
        "cache": cache,
        "refresh": refresh,
        **({"zone": zone} if zone else {}),
    }
    collect_pages(source, out, CollectSettings.model_validate(values), force=force, as_json=as_json)


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
    from retune.cli.consoles import open_console
    from retune.cli.prefect_api import prepare_prefect
    from retune.cli.watching import TerminalWatcher
    from retune.collecting.writing import Collected, refuse_clobber
    from retune.watching import WATCHER

    console = open_console(stderr=as_json)
    refuse_clobber(out, force=force)
    with console.status("starting Prefect"):
        prepare_prefect()
        from flows.collect import collect as collect_flow
    bound_interrupt(_INTERRUPT_SECONDS, _INTERRUPTED)
    try:
        with TerminalWatcher(console) as watcher:
            WATCHER.set(watcher)
            result = collect_flow(source=source, out=out, settings=settings, force=force)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(_INTERRUPTED) from interrupt
    show_collected(console, Collected.model_validate_json(json.dumps(result)))
    if as_json:
        print(json.dumps(result))


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
    from retune.collecting.page_text import NEVER_CONTENT

    ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    own = [f"{name} {count:,}" for name, count in ordered if name not in NEVER_CONTENT]
    other = [f"{name} {count:,}" for name, count in ordered if name in NEVER_CONTENT]
    return "; ".join(own), "; ".join(other)
