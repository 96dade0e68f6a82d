"""`retune export` and `retune push`: a registered version for others."""

from __future__ import annotations

import logging
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.services.places import find_registry
from retune.errors import ConfigError
from retune.pages.numbers import count
from retune.publishing.exporting import export_version
from retune.publishing.pushing import Push, check_repository, plan_push, read_token, send
from retune.publishing.records import Export, ExportRequest
from retune.recipe.loading import load_recipe
from retune.registry.versions.descriptions import describe_version
from retune.registry.versions.manifests import MANIFESTS, read_manifest

_ADDRESS = re.compile(
    r"(?:models:/)?(?P<name>[^/@:]+)(?:@(?P<alias>[^/@:]+)|/(?P<version>[0-9]+))?"
)
_CHAMPION = "champion"


@dataclass(frozen=True)
class Registry:
    """Where a registered model is looked for: a recipe's store and tracking, or a store alone.

    Attributes:
        recipe: The recipe's file; None takes the store.
        store: The store's folder, without a recipe.
    """

    recipe: Path | None
    store: Path


def export_model(
    address: str, registry: Registry, request: ExportRequest, *, as_json: bool
) -> None:
    """Export a registered version and print what was written.

    Args:
        address: ``NAME``, ``NAME@alias`` or ``NAME/VERSION``.
        registry: Where the model is.
        request: Form, place, sizes.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        RetuneError: There is no such version, it has no such form, or the place is taken.
    """
    export = _export(address, registry, request)
    _show_export(open_console(stderr=as_json), export, request.target)
    if as_json:
        print(export.model_dump_json(indent=2))


def push_model(
    address: str,
    registry: Registry,
    request: ExportRequest,
    *,
    repository: str,
    public: bool,
    message: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Export a registered version to a folder of its own, say what would be sent, and send it.

    Args:
        address: As in `export_model`.
        registry: Where the model is.
        request: Form and sizes; its target is not used.
        repository: ``owner/name``.
        public: Whether everybody may see it.
        message: Of the commit; None for one that names model and version.
        yes: Whether it is sent; else it is only said what would be.
        as_json: Print one JSON object last, alone on standard output.

    Raises:
        RetuneError: As in `export_model`, or the hub refuses it or does not answer.
    """
    check_repository(repository)
    # A token that is missing is said before anything is copied.
    token = read_token(os.environ) if yes else ""
    with TemporaryDirectory(prefix="retune-push-") as folder:
        here = request.model_copy(update={"target": Path(folder) / "export"})
        export = _export(address, registry, here)
        push = plan_push(here.target, repository, private=not public, message=message)
        console = open_console(stderr=as_json)
        _show_proof(console, export)
        _show_push(console, push)
        if yes:
            push = send(here.target, push, token)
            console.print(Text(f"Sent: {push.commit}"), soft_wrap=True)
        else:
            console.print("Nothing was sent. Write --yes to send it.")
    if as_json:
        print(push.model_dump_json(indent=2))


def parse_address(text: str) -> tuple[str, int | str]:
    """Return name and version, or alias, of a registered model.

    Args:
        text: ``NAME``, ``NAME@alias`` or ``NAME/VERSION``, with ``models:/`` before it or without.

    Returns:
        The name; the version's number, or an alias: champion where neither is said.

    Raises:
        ConfigError: It is none of these.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"{text!r}: expected NAME, NAME@alias or NAME/VERSION of a registered model, such as "
            "text-to-sql@champion or text-to-sql/3."
        )
    version = found["version"]
    return found["name"], int(version) if version else found["alias"] or _CHAMPION


def _export(address: str, registry: Registry, request: ExportRequest) -> Export:
    name, wanted = parse_address(address)
    _quieten_libraries()
    store_root, uri = find_registry(registry.recipe, registry.store)
    version = describe_version(uri, name, wanted)
    root = load_recipe(registry.recipe).root if registry.recipe else Path.cwd()
    manifest = read_manifest(uri, name, version.located.version, store_root / MANIFESTS)
    return export_version(version, manifest, request, store_root=store_root, root=root)


def _quieten_libraries() -> None:
    """Keep bars and advice of libraries out of a terminal, unless --debug asks for all."""
    from retune.cli import settings

    if settings.debug:
        return
    # Read when the bars' library is imported, which is later.
    os.environ.setdefault("TQDM_DISABLE", "1")
    for name in ("bitsandbytes", "transformers", "gguf"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for category in (UserWarning, FutureWarning):
        warnings.filterwarnings("ignore", category=category)


def _show_export(console: Console, export: Export, target: Path) -> None:
    size = count(sum(file.bytes for file in export.files.values()))
    line = (
        f"{export.model_name} version {export.version} as {export.form}: {len(export.files)} "
        f"files, {size} bytes, in {target}"
    )
    console.print(Text(line), soft_wrap=True)
    _show_proof(console, export)


def _show_proof(console: Console, export: Export) -> None:
    proof = export.proof
    if proof is not None:
        line = (
            f"Loaded again: {proof.answers_equal} of {proof.prompts} prompts answered like "
            f"{proof.compared_with}"
        )
        style = "green" if proof.answers_equal == proof.prompts else "yellow"
        console.print(Text(line, style=style), soft_wrap=True)
    console.print(Text(f"Licence of the base: {export.license or 'not named'}"))
    for note in export.notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def _show_push(console: Console, push: Push) -> None:
    table = Table(title=Text(f"To {push.repository}"), title_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("bytes", justify="right")
    for name, size in push.files.items():
        table.add_row(Text(name), count(size))
    console.print(table)
    total = count(sum(push.files.values()))
    seen = "private" if push.private else "public"
    console.print(Text(f"{len(push.files)} files, {total} bytes; {seen}; commit: {push.message}"))
