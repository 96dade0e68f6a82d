"""Options that commands of several rooms share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

SetOption = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads annotations at run time
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="Override a setting: training.learning_rate=1.0e-4"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object last, on stdout.")]
StoreOption = Annotated[Path, typer.Option(help="Store folder, without a recipe.")]
STORE = Path(".retune")
