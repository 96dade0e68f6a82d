"""Clusters that a recipe names: whether they can be reached from here, and joining one of Ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any, Literal
from urllib.parse import urlsplit

from retune.errors import ConfigError, ServiceError
from retune.spine.stopping import keeping_handlers

Engine = Literal["dask", "ray"]
_INSTALLED_BY: dict[Engine, str] = {"dask": "prefect-dask", "ray": "'retune[ray]'"}
_ANSWER_SECONDS = 10.0
_OBJECT_STORE_BYTES = 100 * 2**20
"""Memory that Ray sets aside on this machine for what tasks pass on: records. Its own choice is a
third of all, its least 75 MB."""


def expect_engine(engine: Engine, package: str, *, asked: str, instead: str) -> None:
    """Refuse an engine whose package is not installed.

    Args:
        engine: Which.
        package: What is needed of it.
        asked: The setting that asks for it, with its value.
        instead: What else could be done.

    Raises:
        ConfigError: It is not there; the message says what to install.
    """
    if find_spec(package.replace("-", "_")) is None:
        raise ConfigError(
            f"{asked}: the package {package} is not installed. Install it "
            f"(pip install {_INSTALLED_BY[engine]}), or {instead}."
        )


def expect_training_cluster(address: str | None) -> None:
    """Refuse a training over the nodes of a cluster that this process cannot reach.

    Args:
        address: Of a cluster of Ray; None for a training on one machine.

    Raises:
        ConfigError: Ray is not installed, or the address is none.
        ServiceError: Nobody answers there.
    """
    if address is None:
        return
    instead = "write training.devices: auto to train on this machine"
    expect_engine("ray", "ray", asked="runner.kind: ray", instead=instead)
    expect_cluster(address)


def expect_cluster(address: str) -> None:
    """Refuse a cluster at whose address nobody answers.

    Args:
        address: Host and port, with or without a scheme.

    Raises:
        ConfigError: It is none.
        ServiceError: Nobody answers there.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise ConfigError(
            f"runner.address: found {address}, expected host and port of a cluster, such as "
            "HOST:6379 or ray://HOST:10001 for Ray, tcp://HOST:8786 for Dask."
        )
    try:
        socket.create_connection((host, port), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise ServiceError(
            f"runner.address: nobody answers at {address} ({error}). Start the cluster (ray start "
            "--head, or dask scheduler), or leave runner.address out for workers of this machine."
        ) from error


@contextmanager
def joined_to_ray(address: str | None, *, cores: int | None = None) -> Iterator[None]:
    """Be a driver of a cluster for the length of a block.

    Args:
        address: Of the cluster; None to start workers of this machine for the length of the block.
        cores: How many cores such workers share; None for all.

    Yields:
        Nothing; `ray` is initialized.

    Raises:
        ServiceError: The cluster does not take this process in.
    """
    # Nothing of a run is told to anybody unless a person asks for it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    asked: Mapping[str, Any] = {"log_to_driver": False, "logging_level": "WARNING"}
    if address is None:
        asked = {
            **asked,
            "num_cpus": cores,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    try:
        try:
            with ExitStack() as stack:
                stack.enter_context(keeping_handlers())
                if address is not None:
                    stack.enter_context(_asked_once())
                ray.init(address or "local", **asked)
        # Just that is what Ray raises where processes of its own start too slowly.
        except Exception as error:
            raise ServiceError(
                f"runner.address: Ray at {address or 'this machine'} does not take this run in "
                f"({' '.join(str(error).split())}). Expected a cluster of the same releases of Ray "
                "and Python, and its token where it asks for one (RAY_AUTH_TOKEN or "
                "~/.ray/auth_token). In place of localhost Ray asks this machine's own address: "
                "its head has to listen there (ray start --node-ip-address)."
            ) from error
        yield
    finally:
        ray.shutdown()


@contextmanager
def _asked_once() -> Iterator[None]:
    """Let Ray ask an address once, and not twenty times: one that does not answer is no Ray.

    Ray reads the same variable as the time that a head of its own has to start.
    """
    name = "RAY_gcs_server_port_wait_time_s"
    if name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name, None)
