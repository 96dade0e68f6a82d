"""The commands on a store and their options; what each does is imported when called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from retune.cli.options import STORE, JsonOption, SetOption, StoreOption


def verify(
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="Recipe whose store is read.", metavar="RECIPE"),
    ] = None,
    stage: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Read the artifacts of one stage; without it all."),
    ] = None,
    store: StoreOption = STORE,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read every stored byte through: a run takes large files that nobody wrote to as they are."""
    from retune.cli.stores.verifying import verify_store

    verify_store(recipe, store, overrides or [], stage=stage, as_json=as_json)


def gc(
    recipes: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(
            help="Recipes in use, whose stages stay; those in conf/recipes unless any is named.",
            metavar="RECIPE",
        ),
    ] = None,
    store: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Store folder; the one that the recipes name unless given."),
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove what is listed; without it nothing is changed.")
    ] = False,
    keep_days: Annotated[
        float, typer.Option(min=0, help="What was used within so many days stays.")
    ] = 14,
    drop_rejected: Annotated[
        bool,
        typer.Option(
            "--drop-rejected", help="Do not keep what only versions that were rejected refer to."
        ),
    ] = False,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what no recipe, version or history refers to, bytes by reason; --delete removes it."""
    from retune.cli.stores.cleaning import CleanOptions, clean_store

    options = CleanOptions(delete, keep_days, drop_rejected)
    clean_store(recipes or [], store, overrides or [], options, as_json=as_json)


def send(
    recipe: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="Recipe whose store and tracking are meant.", metavar="RECIPE"),
    ] = None,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Send what MLflow did not get while it was away, in order and once."""
    from retune.cli.stores.sending import send_kept

    send_kept(recipe, store, as_json=as_json)


STORE_COMMANDS = (verify, gc, send)
"""In the order of `retune --help`."""
