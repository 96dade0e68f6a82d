"""A flow whose end Prefect cannot be told: neither its result nor its error is lost."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect import flow as prefect_flow
from prefect.client.schemas.objects import State
from prefect.exceptions import TerminationSignal
from prefect.states import Completed

from retune.cli.runs.losing_prefect import keeping_outcome
from retune.errors import DataError, ServiceError

ADDRESS = "http://127.0.0.1:4299/api"
REFUSED = httpx.ConnectError("refused", request=httpx.Request("POST", f"{ADDRESS}/set_state"))


class Flow:
    """Calls its function, and cannot say afterwards that it ended."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

        def fn(recipe: Path) -> int:
            if self.error is not None:
                raise self.error
            return 7

        self.fn = fn

    def __call__(self, lost: Exception, **named: Any) -> Any:
        try:
            self.fn(**named)
        finally:
            raise lost  # as Prefect does: the context is all that is left


@pytest.fixture(autouse=True)
def _address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", ADDRESS)


def test_what_a_flow_returned_is_kept() -> None:
    """And that nobody heard of its end is said. The flow is as it was afterwards."""
    flow = Flow()
    function = flow.fn
    with keeping_outcome(flow) as outcome:
        assert signature(flow.fn).parameters["recipe"].annotation is Path
        flow(REFUSED, recipe=Path("r.yaml"))
    assert outcome.returned == [7] and outcome.unheard is REFUSED and flow.fn is function


def test_of_a_flow_that_names_its_end_the_data_is_kept() -> None:
    """`retrain` returns a state, so that Prefect shows "Skipped"; its summary is what is told."""

    @prefect_flow
    def ends_by_name() -> State[int]:
        return Completed(name="Skipped", data=7)

    with keeping_outcome(ends_by_name) as outcome:
        ends_by_name.fn()
    assert outcome.returned == [7]


@pytest.mark.parametrize(
    "error",
    [
        DataError("linha 7"),
        KeyboardInterrupt(),
        ValueError("a bug"),
        httpx.ConnectError("no", request=httpx.Request("GET", "https://huggingface.co/api/x")),
    ],
)
def test_what_stopped_a_flow_is_said(error: BaseException) -> None:
    """Not the failed request that was to report it."""
    flow = Flow(error)
    with pytest.raises(type(error)) as raised, keeping_outcome(flow):
        flow(REFUSED, recipe=Path("r.yaml"))
    assert raised.value is error


def test_a_signal_that_stopped_a_flow_is_said() -> None:
    """Prefect raises it in the flow, and would send it again: the failed request keeps it from."""
    with pytest.raises(KeyboardInterrupt), keeping_outcome(flow := Flow(TerminationSignal(15))):
        flow(REFUSED, recipe=Path("r.yaml"))


def test_a_flow_that_asked_prefect_in_vain_is_a_service_away() -> None:
    """What it raised is a failed request of Prefect's too. A password is not shown."""
    request = httpx.Request("GET", f"{ADDRESS}/variables")
    answer = httpx.Response(503, request=request)
    wrong = "Server error '503' for url 'http://ana:segredo@127.0.0.1:4299/api'"
    flow = Flow(httpx.HTTPStatusError(wrong, request=request, response=answer))
    with pytest.raises(ServiceError, match="went away") as raised, keeping_outcome(flow):
        flow(flow.error, recipe=Path("r.yaml"))  # type: ignore[arg-type]
    assert "503" in str(raised.value) and "segredo" not in str(raised.value)


def test_a_flow_that_could_not_start_is_a_service_away() -> None:
    """With exit code 7, and no word of a bug."""
    told = r"went away \(ConnectError: refused\).*run again"
    with (
        pytest.raises(ServiceError, match=told),
        keeping_outcome(SimpleNamespace(fn=lambda: 7)),
    ):
        raise REFUSED


def test_requests_to_others_stay_what_they_are() -> None:
    """The hub's are no business of Prefect's."""
    other = httpx.ConnectError("no", request=httpx.Request("GET", "https://huggingface.co/api/x"))
    with pytest.raises(httpx.ConnectError), keeping_outcome(SimpleNamespace(fn=lambda: 7)):
        raise other
