"""`retune champion`, `rollback` and `promote`: who is champion, and a person who changes it."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.services.announcing import announce_line
from retune.cli.services.places import RegistryPlace, open_registry
from retune.errors import ConfigError
from retune.registry.aliases.deciding import (
    check_promotable,
    find_target,
    name_person,
    promote_version,
    roll_back,
)
from retune.registry.aliases.standing import ModelStanding, describe_standing
from retune.registry.records import LedgerEntry
from retune.registry.versions.proving import prove_version
from retune.release.ledger_figures import describe_figures


def show_champion(name: str, recipe: Path | None, store: Path, *, as_json: bool) -> None:
    """Print which versions the aliases name, and why.

    Args:
        name: The registered model.
        recipe: The recipe that says where store and MLflow are; None takes `store`.
        store: Store folder, without a recipe.
        as_json: Print one JSON object, alone on standard output.

    Raises:
        ConfigError: There is no such model, or it has no champion.
        ArtifactError: The ledger does not hold.
        ServiceError: MLflow does not answer.
    """
    place = open_registry(name, recipe, store)
    standing = describe_standing(place.uri, name, place.ledgers)
    if standing.champion is None:
        raise ConfigError(
            f"{name} has no champion. See what was decided with `retune history {name}`, or make a "
            f"version champion with `retune promote {name} VERSION --reason TEXT`."
        )
    if as_json:
        print(standing.model_dump_json())
        return
    _show_standing(open_console(), standing)


def take_back(
    name: str,
    to: int | None,
    reason: str,
    recipe: Path | None,
    store: Path,
    *,
    allow: bool,
    as_json: bool,
) -> None:
    """Prove an earlier champion, make it champion again, and withdraw the current one.

    Args:
        name: The registered model.
        to: A version that was champion; None for the last one that was not withdrawn.
        reason: Why.
        recipe: The recipe that says where store and MLflow are; None takes `store`.
        store: Store folder, without a recipe.
        allow: Whether it may go to a model that was withdrawn.
        as_json: Print the ledger's line, alone on standard output.

    Raises:
        ConfigError: There is no such model or version, or nothing to go back to.
        ArtifactError: The version does not load or answers otherwise, the champion changed
            meanwhile, or the ledger does not hold; the champion stays.
        ServiceError: MLflow does not answer.
    """
    reason = _check_reason(reason)
    place = open_registry(name, recipe, store)
    champion, target = find_target(place.uri, name, to=to, folder=place.ledgers, allow=allow)
    console = open_console(stderr=as_json)
    _prove(console, place, name, target)
    line = roll_back(
        place.uri,
        name,
        taken_back=champion,
        to=target,
        folder=place.ledgers,
        actor=name_person(),
        reason=reason,
    )
    announce_line("rolled-back", line)
    _rewrite_page(console, place, line)
    _show_line(console, line, as_json=as_json)


def promote_by_hand(
    name: str,
    version: int,
    reason: str,
    recipe: Path | None,
    store: Path,
    *,
    allow: bool,
    as_json: bool,
) -> None:
    """Prove a version, and make it champion as a person's act.

    Args:
        name: The registered model.
        version: Its version.
        reason: Why.
        recipe: The recipe that says where store and MLflow are; None takes `store`.
        store: Store folder, without a recipe.
        allow: Whether a model that was withdrawn may come back.
        as_json: Print the ledger's line, alone on standard output.

    Raises:
        ConfigError: There is no such model or version, or it was withdrawn.
        ArtifactError: The version does not load or answers otherwise, or the ledger does not hold;
            the champion stays.
        ServiceError: MLflow does not answer.
    """
    reason = _check_reason(reason)
    place = open_registry(name, recipe, store)
    check_promotable(place.uri, name, version, folder=place.ledgers, allow=allow)
    console = open_console(stderr=as_json)
    _prove(console, place, name, version)
    line = promote_version(
        place.uri,
        name,
        version,
        folder=place.ledgers,
        actor=name_person(),
        reason=reason,
        allow=allow,
    )
    # Of a version that is champion already it is the line of then.
    if line.reason == reason:
        announce_line("promoted", line)
        _rewrite_page(console, place, line)
    _show_line(console, line, as_json=as_json)


def _rewrite_page(console: Console, place: RegistryPlace, line: LedgerEntry) -> None:
    """Bring the model's page up to date, in the store and in the run of the champion in MLflow."""
    from tasks.overview import report_change

    def tell(text: str) -> None:
        console.print(Text(f"note: {text}", style="yellow"), soft_wrap=True)

    if line.to_version is not None:
        report_change(place.uri, line.model_name, place.root, line.to_version, tell)


def _check_reason(reason: str) -> str:
    if not reason.strip():
        raise ConfigError("--reason is empty; expected why, for whoever reads the history later.")
    return reason.strip()


def _prove(console: Console, place: RegistryPlace, name: str, version: int) -> None:
    with console.status(f"loading version {version} and asking its stored prompts"):
        asked = prove_version(place.uri, name, version, cache_folder=place.versions)
    told = f"{name} version {version} loads, and answers its {asked} stored prompts as before."
    console.print(Text(told), soft_wrap=True)


def _show_line(console: Console, line: LedgerEntry, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(line.model_dump(mode="json")))
        return
    what = {"rolled_back": "Rolled back", "promoted": "Promoted"}.get(line.kind, line.kind)
    told = (
        f"{what}: champion is version {line.to_version}, before it was "
        f"{'none' if line.from_version is None else f'version {line.from_version}'} "
        f"(ledger line {line.number}, by {line.actor})."
    )
    console.print(Text(told, style="bold green"), soft_wrap=True)


def _say_move(line: LedgerEntry) -> str:
    before = "" if line.from_version is None else f"version {line.from_version}"
    if line.kind == "rolled_back":
        return f"rolled back from {before}"
    return f"promoted over {before}" if before else "promoted"


def _show_standing(console: Console, standing: ModelStanding) -> None:
    table = Table(title=Text(standing.model_name), show_header=False, show_lines=True)
    table.add_column("")
    table.add_column("", overflow="fold")
    for alias, holder in (
        ("champion", standing.champion),
        ("previous", standing.previous),
        ("challenger", standing.challenger),
    ):
        if holder is not None:
            approval = f", approval {holder.approval}" if holder.approval else ""
            table.add_row(alias, Text(f"version {holder.version}{approval}\n{holder.digest}"))
    line = standing.since
    if line is not None:
        told = f"{line.at}, {_say_move(line)}, by {line.actor} (ledger line {line.number})"
        table.add_row("since", Text(told))
        table.add_row("because", Text(line.reason))
        for figure, value in describe_figures(line):
            table.add_row(Text(figure), Text(value))
    console.print(table)
    if standing.note:
        console.print(Text(f"note: {standing.note}", style="yellow"), soft_wrap=True)
