"""The commands on the registry and their options; what each does is imported when called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from retune.cli.options import STORE, StoreOption

NameArgument = Annotated[str, typer.Argument(help="The registered model.", metavar="NAME")]
RecipeOption = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads annotations at run time
    typer.Option(help="Recipe whose store and tracking are meant."),
]
ReasonOption = Annotated[
    str, typer.Option(help="Why, for whoever reads the history later.", metavar="TEXT")
]
AllowOption = Annotated[
    bool, typer.Option("--allow", help="Even where that model was withdrawn by a rollback.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON alone on stdout.")]


def history(
    name: NameArgument,
    recipe: RecipeOption = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Show what was decided about a registered model: when, by whom and why."""
    from retune.cli.registered.histories import show_history

    show_history(name, recipe, store, as_json=as_json)


def champion(
    name: NameArgument,
    recipe: RecipeOption = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Show which version is champion, since when and why, and what challenges it."""
    from retune.cli.registered.champions import show_champion

    show_champion(name, recipe, store, as_json=as_json)


def rollback(
    name: NameArgument,
    reason: ReasonOption,
    to: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="A version that was champion; without it the last good one."),
    ] = None,
    allow: AllowOption = False,
    recipe: RecipeOption = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Make an earlier champion champion again, once it is proved, and withdraw the current one."""
    from retune.cli.registered.champions import take_back

    take_back(name, to, reason, recipe, store, allow=allow, as_json=as_json)


def promote(
    name: NameArgument,
    version: Annotated[int, typer.Argument(help="Its version.", metavar="VERSION")],
    reason: ReasonOption,
    allow: AllowOption = False,
    recipe: RecipeOption = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Make a version champion as a person's act, whatever the gate said."""
    from retune.cli.registered.champions import promote_by_hand

    promote_by_hand(name, version, reason, recipe, store, allow=allow, as_json=as_json)


def reproduce(
    name: Annotated[str, typer.Argument(help="The registered model.", metavar="NAME")],
    version: Annotated[int, typer.Argument(help="Number of the version.", metavar="VERSION")],
    recipe: RecipeOption = None,
    store: StoreOption = STORE,
    into: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="New folder for the stages; without it a temporary one."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a version again from its manifest, and say whether it is equal or how far off."""
    from retune.cli.runs.reproducing import reproduce_version

    reproduce_version(name, version, recipe=recipe, store=store, into=into, as_json=as_json)


REGISTRY_COMMANDS = (history, champion, rollback, promote, reproduce)
"""In the order of `retune --help`."""
