"""`retune gc`: what of a store nothing refers to, bytes by reason, and removing it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.stores.store_needs import find_recipes, gather_needs
from retune.errors import ConfigError
from retune.pages.numbers import count, show_bytes
from retune.spine.deleting import delete_items
from retune.spine.garbage import Item, survey
from retune.spine.store import Store

_SECONDS_PER_DAY = 86_400
_KINDS = {"artifact": "", "work": "work folders", "request": "requests", "log": "logs"} | {
    "lock": "locks",
    "trash": "trash",
}
"""What is no artifact, as the table has it beside the stage."""


@dataclass(frozen=True)
class CleanOptions:
    """What is done.

    Attributes:
        delete: Whether anything is removed.
        keep_days: What was used within so many days stays.
        drop_rejected: Whether what only rejected versions refer to goes.
    """

    delete: bool
    keep_days: float
    drop_rejected: bool


@dataclass(frozen=True)
class _Row:
    """All things of one stage and kind with one reason."""

    stage: str
    kind: str
    reason: str
    number: int
    bytes: int
    freed: int


def clean_store(
    recipes: Sequence[Path],
    folder: Path | None,
    overrides: Sequence[str],
    options: CleanOptions,
    *,
    as_json: bool,
) -> None:
    """Print what of a store stays and what nothing refers to, and remove that where it is asked.

    Args:
        recipes: Those whose stages stay; none takes those in `conf/recipes`.
        folder: The store's folder; None for the one that the recipes name.
        overrides: Settings that win over each recipe.
        options: What is done.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        ConfigError: Nothing says what is in use, or the store is on shared storage.
        ArtifactError: Something cannot be removed, or a ledger does not hold.
        ServiceError: MLflow does not answer, and knows which versions there are.
    """
    console = open_console(stderr=as_json)
    found = find_recipes(recipes, folder, overrides)
    store = found.store
    if not store.root.is_dir():
        raise ConfigError(f"{store.root}: there is no store. Name a recipe that was run.")

    def note(text: str) -> None:
        console.print(Text(f"note: {text}", style="yellow"), soft_wrap=True)

    for path in found.elsewhere:
        note(f"{path} names another store, and keeps nothing in this one")
    with console.status("asking recipes and registry"):
        needs = gather_needs(found, note, with_rejected=not options.drop_rejected)
    with console.status("looking through the store"):
        keep_seconds = options.keep_days * _SECONDS_PER_DAY
        items = survey(store, needs, keep_seconds=keep_seconds, now=time.time())
    staying = [item for item in items if item.stays]
    going = [item for item in items if not item.stays]
    left: list[Item] = []
    if options.delete:
        with console.status("removing") as status:
            going, left = delete_items(
                store, items, lambda item: status.update(f"removing {item.path.name}")
            )
    _print_tables(console, staying, going, removed=options.delete)
    if left:
        note(f"{len(left):,} things were used meanwhile, and stay")
    console.print(Text(_conclude(store, going, removed=options.delete)), soft_wrap=True)
    if as_json:
        print(json.dumps(_as_json(store, options, staying, going, left)))


def _conclude(store: Store, going: Sequence[Item], *, removed: bool) -> str:
    size, freed = sum(item.bytes for item in going), sum(item.freed for item in going)
    if not going:
        return f"{store.root}: nothing to remove."
    did = "Removed" if removed else "Would remove"
    told = f"{did} {show_bytes(size)} of {store.root}; {show_bytes(freed)} of it are freed"
    linked = (
        ": the rest is linked from elsewhere, such as registered versions" if freed < size else ""
    )
    return f"{told}{linked}." + ("" if removed else " --delete removes it.")


def _print_tables(
    console: Console, staying: Sequence[Item], going: Sequence[Item], *, removed: bool
) -> None:
    for title, items, freed in (
        ("stays", staying, False),
        ("removed" if removed else "nothing refers to", going, True),
    ):
        if items:
            console.print(_as_table(title, _group(items), freed=freed))


def _as_table(title: str, rows: Sequence[_Row], *, freed: bool) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("stage", overflow="fold")
    table.add_column("because", overflow="fold")
    for column in ("number", "bytes", *(("freed",) if freed else ())):
        table.add_column(column, justify="right")
    for row in rows:
        figures = [count(row.number), show_bytes(row.bytes)]
        figures += [show_bytes(row.freed)] if freed else []
        shown = " ".join(filter(None, (row.stage, _KINDS[row.kind])))
        table.add_row(Text(shown), Text(row.reason), *figures)
    return table


def _group(items: Sequence[Item]) -> list[_Row]:
    groups: dict[tuple[str, str, str], list[Item]] = {}
    for item in items:
        # Of requests the stage says little: they are as small as many.
        stage = item.stage if item.kind in ("artifact", "work") else ""
        groups.setdefault((stage, item.kind, item.reason), []).append(item)
    rows = [
        _Row(*group, len(each), sum(i.bytes for i in each), sum(i.freed for i in each))
        for group, each in groups.items()
    ]
    return sorted(rows, key=lambda row: (row.stage == "", row.stage, row.kind, -row.bytes))


def _as_json(
    store: Store,
    options: CleanOptions,
    staying: Sequence[Item],
    going: Sequence[Item],
    left: Sequence[Item],
) -> dict[str, Any]:
    def totals(items: Sequence[Item]) -> list[dict[str, Any]]:
        return [
            {
                "stage": row.stage or None,
                "kind": row.kind,
                "reason": row.reason,
                "number": row.number,
                "bytes": row.bytes,
                "freed_bytes": row.freed,
            }
            for row in _group(items)
        ]

    return {
        "store": store.address,
        "deleted": options.delete,
        "stays": totals(staying),
        "goes": totals(going),
        "used_meanwhile": [str(item.path) for item in left],
        "bytes": sum(item.bytes for item in going),
        "freed_bytes": sum(item.freed for item in going),
    }
