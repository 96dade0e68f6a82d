"""SIGTERM in a flow that a terminal runs: it ends with a message and exit code 130."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from prefect.utilities.engine import capture_sigterm

from retune.cli.runs.interrupting import bound_interrupt
from retune.errors import Interrupted


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    kept = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in kept.items():
        signal.signal(each, handler)


def test_sigterm_is_told_after_prefect_has_stopped_the_flow() -> None:
    """Prefect raises an exception of its own first, by which stages end; then ours comes."""
    bound_interrupt(60.0, "kept")
    seen: list[str] = []
    with pytest.raises(Interrupted, match="kept"), capture_sigterm():
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as error:
            seen.append(type(error).__name__)
            raise
    assert seen == ["TerminationSignal"]


def test_sigterm_outside_a_flow_is_told_too() -> None:
    """While Prefect starts, and while a result is shown."""
    bound_interrupt(60.0, "kept")
    with pytest.raises(Interrupted, match="kept"):
        signal.raise_signal(signal.SIGTERM)
