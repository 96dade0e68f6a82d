"""`retune serve`: a model over HTTP, until Ctrl-C."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from retune.cli.services.announcing import announce_line, prefect_is_set
from retune.cli.services.places import RegistryPlace, find_registry
from retune.cli.services.servers import refuse_taken_port
from retune.commands import shell_line
from retune.errors import ConfigError
from retune.inference.engine_address import read_engine_address, read_engine_key
from retune.recipe.loading import load_recipe
from retune.registry.aliases.served import note_served
from retune.registry.versions.finding import CHAMPION
from retune.resolving import read_address
from retune.serving.app import build_app
from retune.serving.challenger import Trial
from retune.serving.finding import ModelSource
from retune.serving.keys import VARIABLE, read_keys
from retune.serving.memory_room import Swap
from retune.serving.messages import EngineSettings, RemoteSettings
from retune.serving.notices import Notice
from retune.serving.rates import Rate
from retune.serving.request_log import RequestLog
from retune.serving.server import Limits, Server
from retune.serving.several import Found, refuse_equal_names
from retune.serving.validating import read_databases

_VLLM = "http://127.0.0.1:8001"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class LogOptions(NamedTuple):
    """How requests are kept."""

    folder: Path
    share: float
    file_bytes: int
    files: int


@dataclass(frozen=True)
class ServeOptions:
    """What the command is told; its help says what each means."""

    host: str
    port: int
    recipe: Path | None
    store: Path
    name: str | None
    keys: Path | None
    without_keys: bool
    rate: Rate
    databases: Sequence[str]
    trial: Trial | None
    engine: str | None
    engine_model: str | None
    batch: int
    context: int
    default_tokens: int
    limits: Limits
    poll_seconds: float
    swap: Swap
    log: LogOptions | None


def serve_model(texts: Sequence[str], options: ServeOptions) -> None:
    """Find models, and answer for them until the command is stopped.

    Args:
        texts: Their names: an address of the registry, a folder, a hub id each. The first one
            answers where a request names none.
        options: Of the command.

    Raises:
        ConfigError: There is none of a name, two are called alike, or strangers could ask without
            a key.
        ArtifactError: Files of a version are gone, or nothing proves it.
        ServiceError: MLflow does not answer, or the port is taken.
    """
    import uvicorn

    keys = read_keys(options.keys, os.environ)
    if options.host not in _LOOPBACK and not keys and not options.without_keys:
        raise ConfigError(
            f"--host {options.host}: other machines could ask, and there is no API key. Name a "
            f"file with --keys, set {VARIABLE}, or say --without-keys where something before "
            "this server lets nobody in."
        )
    if options.rate != Rate() and not keys:
        raise ConfigError(
            "--key-requests and --key-tokens bound what a key may ask for, and there is no API "
            f"key. Name a file with --keys, set {VARIABLE}, or leave the limits out."
        )
    _refuse_options_of_one(texts, options)
    if options.trial is not None and not _follows_champion(texts[0]):
        raise ConfigError(
            f"{texts[0]}: a challenger (--challenger, --canary, --shadow) is served beside its "
            "champion. Name the model as models:/NAME@champion."
        )
    if options.engine_model is not None and options.engine is None:
        raise ConfigError("--engine-model names a model of the engine: say which with --engine.")
    if options.engine is not None and options.swap == "drain":
        raise ConfigError(
            "--swap drain ends the old version before the new one is loaded, and with --engine "
            "none is loaded here. Leave one of them out."
        )
    settings = _engine_settings(options)
    databases = read_databases(options.databases)
    refuse_taken_port("retune serve", options.port, "--port", options.host)
    first, *further = find_models(texts, options)
    server = Server(
        first.source,
        first.model,
        settings,
        options.limits,
        keys,
        options.poll_seconds,
        RequestLog(*options.log) if options.log else None,
        _LOOPBACK if options.host in _LOOPBACK else None,
        databases,
        options.rate,
        options.trial,
        first.tell,
        options.swap,
        further,
    )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    uvicorn.run(
        build_app(server),
        host=options.host,
        port=options.port,
        log_level="info",
        access_log=False,
        # What the application logs has the request's id, and no address of who asked.
        log_config=None,
        timeout_graceful_shutdown=int(options.limits.seconds),
    )


def print_command(texts: Sequence[str], options: ServeOptions) -> None:
    """Print the command by which vLLM serves models where ``--engine`` asks it.

    Args:
        texts: Their names: an address of the registry, a folder, a hub id each.
        options: Of the command.

    Raises:
        ConfigError: There is none of a name, or vLLM cannot serve them together.
        ArtifactError: Files of a version are gone, or nothing proves it.
        ServiceError: MLflow does not answer.
    """
    # It reads the model's configuration by transformers, which a server of its own never loads.
    from retune.serving.vllm_command import vllm_words

    settings = _engine_settings(replace(options, engine=options.engine or _VLLM))
    assert settings.remote is not None
    place = urlsplit(settings.remote.address)
    # A name is that of a host or a container, as others see it: there vLLM listens to all.
    host = place.hostname if place.hostname in _LOOPBACK else "0.0.0.0"
    port = place.port or (443 if place.scheme == "https" else 80)
    _refuse_options_of_one(texts, options)
    served = [each.model for each in find_models(texts, options)]
    print(shell_line(*vllm_words(served, settings, str(host), port)))


def _engine_settings(options: ServeOptions) -> EngineSettings:
    remote = None
    if options.engine is not None:
        read_engine_key(os.environ)
        remote = RemoteSettings(
            address=read_engine_address(options.engine),
            model=options.engine_model,
            seconds=options.limits.seconds,
        )
    return EngineSettings(
        batch=options.batch,
        context=options.context,
        # Whoever bounds all answers bounds those whose request names no limit.
        default_tokens=min(options.default_tokens, options.limits.output_tokens),
        remote=remote,
    )


def _refuse_options_of_one(texts: Sequence[str], options: ServeOptions) -> None:
    given = {
        "--name": options.name,
        "--engine-model": options.engine_model,
        "--challenger, --canary and --shadow": options.trial,
    }
    odd = [name for name, value in given.items() if value is not None]
    if odd and len(texts) > 1:
        raise ConfigError(
            f"{', '.join(odd)}: are of one model, and {len(texts)} are named ({', '.join(texts)}). "
            "Leave it out, or serve each by a command of its own."
        )


def find_models(texts: Sequence[str], options: ServeOptions) -> list[Found]:
    """Find all models of a command.

    Args:
        texts: Their names, at least one.
        options: Of the command.

    Raises:
        ConfigError: There is none of a name, two are called alike, or the recipe is wrong.
        ArtifactError: Files of a version are gone, or nothing proves it.
        ServiceError: MLflow does not answer.
    """
    places = [_find_place(text, options) for text in texts]
    sources = [find_source(text, options, place) for text, place in zip(texts, places, strict=True)]
    found = [
        Found(source, source.find(), _teller(source.text, place, options) if place else None)
        for source, place in zip(sources, places, strict=True)
    ]
    refuse_equal_names(found)
    return found


def _follows_champion(text: str) -> bool:
    address = read_address(text)
    return address is not None and address.alias == CHAMPION


def _find_place(text: str, options: ServeOptions) -> RegistryPlace | None:
    """Return where the registry is; MLflow is asked only where a model's name means it."""
    if read_address(text) is None:
        return None
    root, uri = find_registry(options.recipe, options.store)
    return RegistryPlace(uri, root)


def find_source(text: str, options: ServeOptions, place: RegistryPlace | None) -> ModelSource:
    """Say where a model is looked for.

    Args:
        text: The model's name.
        options: Of the command.
        place: The registry; None where the name means none.

    Raises:
        ConfigError: The recipe is wrong.
    """
    loaded = load_recipe(options.recipe) if options.recipe else None
    if place is None:
        return ModelSource(text, uri="", recipe=loaded, name=options.name)
    return ModelSource(text, place.uri, place.versions, loaded, options.name)


def _teller(text: str, place: RegistryPlace, options: ServeOptions) -> Callable[[Notice], None]:
    address = read_address(text)
    assert address is not None  # Or it would be in no registry.
    return make_teller(place, address.name, f"server {socket.gethostname()}:{options.port}")


def make_teller(place: RegistryPlace, name: str, server: str) -> Callable[[Notice], None]:
    """Return what writes down, for all, which version does not answer here.

    Args:
        place: The registry.
        name: The registered model.
        server: What this one is called.

    Returns:
        A function that writes the ledger's line and, where a server of Prefect is named, tells it.
    """

    def tell(notice: Notice) -> None:
        line = note_served(
            place.uri,
            name,
            notice.version,
            folder=place.ledgers,
            kind=notice.kind,
            actor=server,
            reason=notice.reason,
        )
        if line is not None and prefect_is_set():
            announce_line("refused" if line.kind == "refused" else "let-go", line)

    return tell
