"""`retune history`: the ledger of a registered model in a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.services.places import open_registry
from retune.registry.ledger.ledger import Ledger
from retune.registry.records import LedgerEntry

_STYLES = {
    "promoted": "green",
    "approved": "green",
    "rejected": "red",
    "failed": "red",
    "rolled_back": "yellow",
    "withdrawn": "yellow",
    "refused": "red",
    "let_go": "yellow",
}


def show_history(name: str, recipe: Path | None, store: Path, *, as_json: bool) -> None:
    """Print every line of a model's ledger, the chain followed.

    Args:
        name: The registered model.
        recipe: The recipe that says where store and MLflow are; None takes `store`.
        store: Store folder, without a recipe.
        as_json: Print one JSON array, alone on standard output.

    Raises:
        ConfigError: There is no such model, or the place is wrong.
        ArtifactError: A line was changed or taken out.
        ServiceError: MLflow does not answer.
    """
    place = open_registry(name, recipe, store)
    entries = Ledger(place.uri, name, place.ledgers).entries()
    if as_json:
        print(json.dumps([entry.model_dump(mode="json") for entry in entries]))
        return
    console = open_console()
    if not entries:
        console.print(Text(f"{name} has no ledger yet: nothing was decided since there are any."))
        return
    console.print(history_table(name, entries))


def history_table(name: str, entries: Sequence[LedgerEntry]) -> Table:
    """Return the table of a ledger's lines, the oldest first."""
    table = Table(title=Text(f"Ledger of {name}"), show_lines=True)
    for column in ("", "when (UTC)", "what", "version", "champion", "by", "why"):
        table.add_column(column, overflow="fold")
    for entry in entries:
        table.add_row(
            str(entry.number),
            entry.at.partition("+")[0].replace("T", " "),
            Text(entry.kind.replace("_", " "), style=_STYLES.get(entry.kind, "")),
            _number(entry.version),
            _champion(entry),
            Text(entry.actor),
            Text(entry.reason),
        )
    return table


def _champion(entry: LedgerEntry) -> str:
    if entry.from_version == entry.to_version:
        return _number(entry.to_version)
    return f"{_number(entry.from_version) or 'none'} -> {_number(entry.to_version) or 'none'}"


def _number(version: int | None) -> str:
    return "" if version is None else str(version)
