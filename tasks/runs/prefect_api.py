"""Prefect's API during a run: it shows what a run does, and may not lose what the run computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.concurrency._asyncio import ConcurrencySlotAcquisitionError
from prefect.context import FlowRunContext, SettingsContext, get_settings_context
from prefect.exceptions import PrefectException
from prefect.runtime import deployment

from retune.errors import RetuneError, ServiceError
from retune.recipe.credentials import masked

_SECONDS_BETWEEN_LOOKS = 1.0


class PrefectApi:
    """Whether Prefect's API still answers a run, and what is done where it does not.

    Args:
        needed: Whether a run ends where the API is away; else it goes on without.
        patience: Seconds that it is waited for the first time.

    Attributes:
        lost: Whether it was away when it was last asked.
    """

    def __init__(self, *, needed: bool = True, patience: float = 30.0) -> None:
        self.needed = needed
        self.lost = False
        self._patience = patience

    def answers(self, tell: Callable[[str], object]) -> bool:
        """Ask the API whether it is well, and wait a while where it is not.

        Args:
            tell: Is told that it is waited for, and that it is back.

        Returns:
            True also outside a flow, which has no API to ask.
        """
        context = FlowRunContext.get()
        client = context.client if context is not None else None
        if not isinstance(client, SyncPrefectClient):
            return True
        error = _look(client)
        if error is not None and not self.lost:
            tell(
                f"{_told(client, error)} Waiting up to {self._patience:.0f} s for it; what is "
                "computed is kept."
            )
            end = time.monotonic() + self._patience
            while error is not None and time.monotonic() < end:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                error = _look(client)
            if error is None:
                tell("Prefect's API answers again.")
            elif not self.needed:
                tell("The run goes on without it.")
        elif error is None and self.lost:
            tell("Prefect's API answers again.")
        self.lost = error is not None
        return not self.lost

    def refuse(self, stage: str) -> ServiceError:
        """Return what ends a run that needs the API, before a stage that it is away for."""
        return ServiceError(
            f"Prefect's API no longer answers, and {stage} is next. What is finished is kept: "
            "start the server (prefect server start) and run again to go on from here, or write "
            "tracking.on_prefect_lost: continue to go on without it."
        )


def choose_patience(wanted: float) -> float:
    """Return the seconds for which a run waits for the API between two stages.

    A run of a deployment, at which nobody looks, waits no less long than Prefect's own client tries
    each of its requests (`PREFECT_CLIENT_MAX_RETRIES`): 2, 4, 8 ... seconds between the tries.

    Args:
        wanted: What the recipe says.
    """
    if deployment.id is None:
        return wanted
    retries = get_settings_context().settings.client.max_retries
    return max(wanted, 2.0 ** (retries + 1) - 2)


def is_prefects(error: BaseException) -> bool:
    """Say whether an error is one of Prefect's own calls to its API, not one of what it ran."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, RetuneError):
        if isinstance(found, ConcurrencySlotAcquisitionError):
            return True
        if isinstance(found, httpx.HTTPError):
            return _asked_prefect(found)
        found = found.__cause__
    return False


def show(create: Callable[..., Any], *given: Any, **fields: Any) -> Any:
    """Show something in Prefect's dashboard, which may be away: it stands in the store as well.

    Args:
        create: One of `prefect.artifacts`.
        given: Its arguments.
        fields: Its named arguments.

    Returns:
        What it returns; None where the API did not take it.
    """
    try:
        with _asking_once():
            return create(*given, **fields)
    except (httpx.HTTPError, PrefectException):
        # Said once, by `answers` before the next stage or by the end of the flow.
        return None


def _look(client: SyncPrefectClient) -> Exception | None:
    with _asking_once():
        return client.api_healthcheck()


@contextmanager
def _asking_once() -> Iterator[None]:
    """Have Prefect's client give up where its first request fails.

    As `prefect.settings.temporary_settings` with ``client.max_retries``, which reads and validates
    all settings anew each time: a tenth of a second before each stage.
    """
    context = get_settings_context()
    client = context.settings.client.model_copy(update={"max_retries": 0})
    settings = context.settings.model_copy(update={"client": client})
    with SettingsContext(profile=context.profile, settings=settings):
        yield


def _told(client: SyncPrefectClient, error: Exception) -> str:
    cause = str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"Prefect's API at {masked(str(client.api_url))} does not answer ({masked(cause):.200})."


def _asked_prefect(error: httpx.HTTPError) -> bool:
    context = FlowRunContext.get()
    client = context.client if context is not None else None
    if not isinstance(client, SyncPrefectClient):
        return False
    try:
        asked = error.request.url
    except RuntimeError:  # httpx's way to say that it is not known
        return False
    return (asked.host, asked.port) == (client.api_url.host, client.api_url.port)
