"""`retune verify`: every stored byte read through, and what damage there is."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.commands import set_options, shell_line
from retune.errors import ArtifactError, ConfigError
from retune.pages.numbers import show_bytes
from retune.recipe.loading import load_recipe
from retune.spine.opening import open_folder, open_recipe_store
from retune.spine.store import Store
from retune.spine.verifying import ReadArtifact, read_through


def verify_store(
    recipe: Path | None, folder: Path, overrides: list[str], *, stage: str | None, as_json: bool
) -> None:
    """Read a store through and print, per stage, what was found.

    Args:
        recipe: The recipe whose store it is; None for `folder`.
        folder: The store's folder, without a recipe.
        overrides: Settings that win over the recipe.
        stage: One stage; None for all.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        ConfigError: There is no such store, or nothing of that stage in it.
        ArtifactError: An artifact is damaged.
    """
    console = open_console(stderr=as_json)
    store = _open_store(recipe, folder, overrides)
    keys = store.artifacts(stage)
    if not keys:
        raise ConfigError(_say_nothing_there(store, stage))
    read = []
    with console.status("reading") as status:
        for number, (name, key) in enumerate(keys, 1):
            status.update(f"reading {name} ({number} of {len(keys)})")
            read.append(read_through(store, name, key))
    damaged = [each for each in read if each.damage is not None]
    healing = _say_healing(recipe, overrides)
    console.print(_as_table(read, healing))
    for each in damaged:
        _say_damage(console, store, each)
    if as_json:
        print(json.dumps(_as_json(store, read, healing)))
    if damaged:
        raise ArtifactError(
            f"{store.address}: {len(damaged)} of {len(read)} artifacts damaged. `{healing}` "
            "computes anew those that it needs; one that nothing needs may be deleted."
        )


def _open_store(recipe: Path | None, folder: Path, overrides: list[str]) -> Store:
    return (
        open_folder(folder) if recipe is None else open_recipe_store(load_recipe(recipe, overrides))
    )


def _say_healing(recipe: Path | None, overrides: list[str]) -> str:
    if recipe is None:
        return "retune run RECIPE"
    return " ".join(filter(None, (shell_line("retune", "run", recipe), set_options(overrides))))


def _say_nothing_there(store: Store, stage: str | None) -> str:
    if not store.root.is_dir():
        return f"{store.root}: there is no store. Name a recipe that was run, or --store FOLDER."
    there = sorted({name for name, _ in store.artifacts()})
    if stage is None or not there:
        return f"{store.address}: there is no artifact in it. Name a recipe that was run."
    return f"--stage {stage}: {store.address} has none; it has {', '.join(there)}."


def _as_table(read: list[ReadArtifact], healing: str) -> Table:
    table = Table()
    table.add_column("stage", overflow="fold")
    for column in ("artifacts", "read", "damaged"):
        table.add_column(column, justify="right")
    table.add_column("healed by", overflow="fold")
    for stage, found in _by_stage(read).items():
        damaged = sum(each.damage is not None for each in found)
        table.add_row(
            Text(stage),
            f"{len(found):,}",
            show_bytes(sum(each.bytes for each in found)),
            Text(f"{damaged:,}", style="bold red" if damaged else ""),
            Text(healing if damaged else ""),
        )
    return table


def _by_stage(read: list[ReadArtifact]) -> dict[str, list[ReadArtifact]]:
    stages: dict[str, list[ReadArtifact]] = defaultdict(list)
    for each in read:
        stages[each.stage].append(each)
    return stages


def _say_damage(console: Console, store: Store, read: ReadArtifact) -> None:
    lines = [Text(f"{store.folder(read.stage, read.key)}: {read.damage}", style="red")]
    if read.request is not None:
        by_hand = shell_line("python", "-m", "retune.stage", read.stage, read.request)
        lines.append(Text(f"  by hand: {by_hand}"))
    lines += [
        Text(
            f"  the same file: {path}, which healing leaves as it is: copy the new one over it "
            "(cp --remove-destination)"
        )
        for path in read.linked
    ]
    for line in lines:
        console.print(line, soft_wrap=True)


def _as_json(store: Store, read: list[ReadArtifact], healing: str) -> dict[str, Any]:
    stages = {
        stage: {
            "artifacts": len(found),
            "bytes": sum(each.bytes for each in found),
            "damaged": [
                {
                    "key": each.key,
                    "damage": each.damage,
                    "healed_by": healing,
                    "request": str(each.request) if each.request else None,
                    "linked": [str(path) for path in each.linked],
                }
                for each in found
                if each.damage is not None
            ],
        }
        for stage, found in _by_stage(read).items()
    }
    return {"store": store.address, "stages": stages}
