"""A flow whose API goes away: what it returned is kept, and what stopped it is said.

Prefect reports a flow's end before it hands on what the flow returned or raised. Where its API does
not take that, the caller gets the failed request in place of either.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from typing import Any, Generic, TypeVar

import httpx

from retune.errors import ServiceError
from retune.recipe.credentials import masked

Result = TypeVar("Result")


class Outcome(Generic[Result]):
    """What a flow came to.

    Attributes:
        returned: What its function returned, at most one; of a state its data.
        raised: What its function raised instead, at most one.
        unheard: The request that told its end to Prefect and failed; None where it was heard.
    """

    def __init__(self) -> None:
        self.returned: list[Result] = []
        self.raised: list[BaseException] = []
        self.unheard: httpx.HTTPError | None = None


@contextmanager
def keeping_outcome(flow: Any) -> Iterator[Outcome[Any]]:
    """Keep what a Prefect flow returns, whether or not Prefect can say that it ended.

    Args:
        flow: A flow, which is called in the block.

    Yields:
        What it came to, known after the block. A failed request of Prefect's own does not leave the
        block where the flow had returned.

    Raises:
        BaseException: What the flow raised, where Prefect's failed request hides it.
        KeyboardInterrupt: A signal stopped the flow, and Prefect hides it so.
        ServiceError: Prefect's API was away before the flow had done anything, or for a request of
            the flow's own.
    """
    from prefect.client.schemas.objects import State

    outcome: Outcome[Any] = Outcome()
    function = flow.fn

    @wraps(function)
    def keep(*given: Any, **named: Any) -> Any:
        try:
            found = function(*given, **named)
        except BaseException as error:
            outcome.raised.append(error)
            raise
        # A flow that names its end returns a state; what it came to is in there, until Prefect
        # puts the place of a stored result in its stead.
        outcome.returned.append(found.data if isinstance(found, State) else found)
        return found

    # Prefect would look for the types of its parameters among the names of this module.
    keep.__signature__ = signature(function, eval_str=True)  # type: ignore[attr-defined]
    flow.fn = keep
    try:
        yield outcome
    except httpx.HTTPError as error:
        if not _asked_prefect(error):
            raise
        hidden = next(iter(outcome.raised), error)
        if _is_signal(hidden):
            raise KeyboardInterrupt from hidden
        if not (isinstance(hidden, httpx.HTTPError) and _asked_prefect(hidden)):
            raise hidden from None
        if not outcome.returned:
            raise _lost(error) from error
        outcome.unheard = error
    finally:
        flow.fn = function


def _asked_prefect(error: httpx.HTTPError) -> bool:
    from prefect.settings import PREFECT_API_URL

    try:
        asked = str(error.request.url)
    except RuntimeError:  # httpx's way to say that it is not known
        return False
    # Without an address Prefect has a server of its own, on this machine.
    return asked.startswith(PREFECT_API_URL.value() or "http://127.0.0.1:")


def _is_signal(error: BaseException) -> bool:
    """Say whether Prefect raised it in the flow, in place of a signal that it took."""
    from prefect.exceptions import TerminationSignal

    return isinstance(error, TerminationSignal)


def _lost(error: httpx.HTTPError) -> ServiceError:
    cause = str(error).partition("\n")[0]
    return ServiceError(
        f"Prefect's API went away ({type(error).__name__}: {masked(cause):.200}). "
        "What is finished is kept: start the server (prefect server start) and run again to go on "
        "from here."
    )
