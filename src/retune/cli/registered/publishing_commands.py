"""The commands that give a registered version to others; what each does is imported when called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from retune.publishing.choices import ExportForm, NumberType

RegisteredArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME[@ALIAS|/VERSION]", help="Registered model; its champion unless said."
    ),
]
RegistryRecipeOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--recipe", help="Recipe whose store and tracking have the model."),
]
RegistryStoreOption = Annotated[
    Path, typer.Option("--store", help="Store folder, without a recipe.")
]
ShardOption = Annotated[
    str, typer.Option(metavar="SIZE", help="Largest file of weights: 2GB, 500MB.")
]
ProofOption = Annotated[
    bool,
    typer.Option("--proof/--no-proof", help="Load what was written and compare its answers."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object last, on stdout.")]


def export(
    name: RegisteredArgument,
    form: Annotated[ExportForm, typer.Option("--as", help="What is written.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the export.")],
    recipe: RegistryRecipeOption = None,
    store: RegistryStoreOption = Path(".retune"),
    max_shard_size: ShardOption = "2GB",
    gguf_type: Annotated[
        NumberType, typer.Option(help="Number type in a GGUF file; auto rounds least at 16 bits.")
    ] = "auto",
    converter: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            envvar="LLAMA_CPP_CONVERTER",
            help="llama.cpp's convert_hf_to_gguf.py, for families that are not written here.",
        ),
    ] = None,
    proof: ProofOption = True,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a registered version as a folder for others: weights, tokenizer, card, licence."""
    from retune.cli.registered.publishing import Registry, export_model
    from retune.publishing.records import ExportRequest

    request = ExportRequest(
        form=form,
        target=to.absolute(),
        max_shard_size=max_shard_size,
        number_type=gguf_type,
        converter=converter.absolute() if converter else None,
        prove=proof,
        force=force,
    )
    export_model(name, Registry(recipe, store), request, as_json=as_json)


def push(
    name: RegisteredArgument,
    repo: Annotated[str, typer.Option(metavar="OWNER/NAME", help="Repository of the hub.")],
    form: Annotated[
        Literal["adapter", "merged"], typer.Option("--as", help="What is sent.")
    ] = "merged",
    yes: Annotated[
        bool, typer.Option("--yes", help="Send it; without it only what would be sent is said.")
    ] = False,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it.")] = False,
    message: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Of the commit; without it model and version."),
    ] = None,
    recipe: RegistryRecipeOption = None,
    store: RegistryStoreOption = Path(".retune"),
    max_shard_size: ShardOption = "2GB",
    proof: ProofOption = True,
    as_json: JsonOption = False,
) -> None:
    """Send a registered version to the Hugging Face hub: said first, sent with --yes."""
    from retune.cli.registered.publishing import Registry, push_model
    from retune.publishing.records import ExportRequest

    request = ExportRequest(form=form, target=Path(), max_shard_size=max_shard_size, prove=proof)
    push_model(
        name,
        Registry(recipe, store),
        request,
        repository=repo,
        public=public,
        message=message,
        yes=yes,
        as_json=as_json,
    )


PUBLISHING_COMMANDS = (export, push)
"""In the order of `retune --help`."""
