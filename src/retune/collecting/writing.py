"""Writing what was collected: whole files or none, and never over another one unasked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from retune.collecting.failures import NO_CONNECTION
from retune.collecting.losses import NamedPage, name_pages, refuse_empty
from retune.collecting.records import CollectSettings
from retune.collecting.rows import Rows
from retune.errors import ConfigError, DataError
from retune.records import Record
from retune.spine.durable_files import disk_error
from retune.whole_files import replacing

_MOST_NAMED = 20


class Collected(Record):
    """What a run of `collect` left behind."""

    out: Path
    """The rows."""
    outcomes: Path
    """What became of each page."""
    rows: int
    pages: int
    kept: int
    """Pages that gave rows."""
    reused: int
    """Pages that came from the cache."""
    reasons: tuple[tuple[str, str, int], ...]
    """Status, reason, pages."""
    dropped: dict[str, int]
    """Sections that gave no row, by reason, over all pages."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Letters that stand in no row, by reason, over all pages."""
    named: tuple[NamedPage, ...] = ()
    """Pages to look at: what loses much of its text first, then what gave nothing."""
    unnamed: int = 0
    """How many more there are; the outcomes name all."""


def refuse_clobber(out: Path, *, force: bool) -> None:
    """Refuse to write over an earlier file.

    Args:
        out: Where the rows will go.
        force: Whether the earlier file may go.

    Raises:
        ConfigError: A file is there, or a folder.
    """
    if out.is_dir():
        raise ConfigError(f"{out} is a folder. Give a file's name: --out {out / 'pages.jsonl'}.")
    if out.exists() and not force:
        raise ConfigError(f"{out} exists already. Give another --out, or --force to write over it.")


def outcomes_path(out: Path) -> Path:
    """Return where the outcomes of a run lie, beside its rows."""
    return out.with_name(f"{out.name}.outcomes.jsonl")


def write_rows(made: Rows, out: Path, settings: CollectSettings, *, force: bool) -> Collected:
    """Write rows and outcomes.

    Args:
        made: What to write.
        out: The rows' file; the outcomes lie beside it.
        settings: For the message, where there is no row.
        force: Whether an earlier file may go.

    Returns:
        What was written.

    Raises:
        DataError: There is no row, or too many of the pages that were read gave none; the outcomes
            are written all the same.
        ConfigError: A file has appeared in the meantime.
        ArtifactError: The disk does not take it.
    """
    refuse_clobber(out, force=force)
    beside = outcomes_path(out)
    _write_lines(beside, (outcome.model_dump(mode="json") for outcome in made.outcomes))
    if not made.rows:
        raise DataError(explain_nothing(made, settings, beside))
    refuse_empty(made.outcomes, settings, beside)
    _write_lines(out, made.rows)
    named = name_pages(made.outcomes, settings.most_lost)
    return Collected(
        out=out,
        outcomes=beside,
        rows=len(made.rows),
        pages=len(made.outcomes),
        kept=sum(each.status == "kept" for each in made.outcomes),
        reused=sum(each.reused for each in made.outcomes),
        reasons=tuple(made.reasons()),
        dropped=_summed(outcome.dropped for outcome in made.outcomes),
        left_out=_summed(outcome.left_out for outcome in made.outcomes),
        named=tuple(named[:_MOST_NAMED]),
        unnamed=max(0, len(named) - _MOST_NAMED),
    )


def explain_nothing(made: Rows, settings: CollectSettings, beside: Path) -> str:
    """Say why there is no row and what to do.

    Args:
        made: The outcomes.
        settings: What was asked for.
        beside: Where the outcomes lie.

    Returns:
        The message.
    """
    pages = len(made.outcomes)
    if all(each.reason == NO_CONNECTION for each in made.outcomes):
        return (
            f"None of the {pages} pages could be reached: no connection "
            f"({made.outcomes[0].detail}). Check the network, a proxy (HTTPS_PROXY) and the host "
            f"names, then run again. Each page's outcome: {beside}"
        )
    counts = ", ".join(f"{reason} {count}" for _, reason, count in made.reasons())
    advice = "Give pages with articles in place of these."
    if any(each.dropped for each in made.outcomes):
        advice = (
            f"Sections need {settings.min_characters} characters: lower --min-characters, or ask "
            "for --as documents."
        )
    elif all(each.status == "failed" for each in made.outcomes):
        advice = "Check the addresses, and that the hosts let robots read them."
    return (
        f"{pages} pages gave no {settings.rows}: {counts}. {advice} Each page's outcome: {beside}"
    )


def _summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def _write_lines(path: Path, values: Iterable[dict[str, Any]]) -> None:
    try:
        with (
            replacing(path) as part,
            open(part, "w", encoding="utf-8", newline="\n", errors="replace") as file,
        ):
            for value in values:
                file.write(json.dumps(value, ensure_ascii=False) + "\n")
    except OSError as error:
        raise disk_error(path, error) from error
