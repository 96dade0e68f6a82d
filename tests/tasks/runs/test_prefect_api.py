"""Prefect's API during a run: asked before each stage, waited for once, and not always needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from retune.errors import DataError, ServiceError, StageError
from retune.spine.stage import SilentReporter
from tasks.runs import prefect_api
from tasks.runs.prefect_api import PrefectApi, choose_patience, is_prefects, show
from tasks.runs.run import CURRENT
from tasks.runs.stage_task import StageTask
from tests.tasks.conftest import Told
from tests.tasks.runs.test_stage_task import SOURCE, Wrong, make_run, tiny

ADDRESS = "http://prefect.test:4200/api"


class Answers:
    """What the API gives to each request in turn; the last one stays."""

    def __init__(self, *given: int | type[Exception]) -> None:
        self.given, self.asked = list(given), 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        found = self.given.pop(0) if len(self.given) > 1 else self.given[0]
        if isinstance(found, int):
            return httpx.Response(found, json=True, request=request)
        raise found("no answer", request=request)


Within = Callable[..., Answers]


@pytest.fixture
def within(monkeypatch: pytest.MonkeyPatch) -> Iterator[Within]:
    """A function that puts the test into a flow run whose API answers so."""
    clients: list[SyncPrefectClient] = []

    def enter(*given: int | type[Exception]) -> Answers:
        answers = Answers(*given)
        transport = httpx.MockTransport(answers)
        client = SyncPrefectClient(ADDRESS, httpx_settings={"transport": transport})
        clients.append(client)
        context: Any = SimpleNamespace(client=client, flow_run=None)
        monkeypatch.setattr(FlowRunContext, "get", lambda: context)
        return answers

    monkeypatch.setattr(prefect_api, "_SECONDS_BETWEEN_LOOKS", 0.0)
    yield enter
    for client in clients:
        client._client.close()


def test_outside_a_flow_there_is_nothing_to_ask() -> None:
    """A stage by hand, and a look at the data, have no API."""
    assert PrefectApi().answers(pytest.fail)


@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ReadTimeout, 500, 503])
def test_a_server_that_restarts_is_waited_for(
    within: Within, told: Told, failure: int | type[Exception]
) -> None:
    """Away at the first look and at the second, back at the third: two notes, and on it goes."""
    answers = within(failure, failure, 200)
    api = PrefectApi()
    assert api.answers(told.note) and answers.asked == 3 and not api.lost
    waiting, back = told.notes
    assert "does not answer" in waiting and ADDRESS in waiting and "again" in back


def test_it_is_waited_for_once(within: Within, told: Told) -> None:
    """Whoever goes on without it looks once before each stage, and hears when it is back."""
    answers = within(httpx.ConnectError)
    api = PrefectApi(needed=False, patience=0.0)
    assert not api.answers(told.note)
    assert "goes on without" in told.notes[-1]
    seen = answers.asked
    assert not api.answers(told.note) and answers.asked == seen + 1 and len(told.notes) == 2
    answers.given = [200]
    assert api.answers(told.note) and told.notes[-1] == "Prefect's API answers again."


def test_a_password_in_the_address_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    """The first line of a status that is an error repeats the address that was asked."""
    address = "http://ana:segredo@prefect.test:4200/api"
    settings = {"transport": httpx.MockTransport(Answers(404))}
    client = SyncPrefectClient(address, httpx_settings=settings)
    context: Any = SimpleNamespace(client=client, flow_run=None)
    monkeypatch.setattr(FlowRunContext, "get", lambda: context)
    assert not PrefectApi(patience=0.0).answers(told.note)
    client._client.close()
    assert "404" in told.notes[0] and "prefect.test" in told.notes[0]
    assert "segredo" not in told.notes[0]


def failed(address: str) -> httpx.ConnectError:
    return httpx.ConnectError("refused", request=httpx.Request("POST", address))


def test_prefects_own_requests_are_told_from_those_of_a_stage(within: Within) -> None:
    """By the server that was asked; what a stage raises on purpose is never one of them."""
    within(200)
    assert is_prefects(failed(f"{ADDRESS}/artifacts/"))
    assert is_prefects(ConcurrencySlotAcquisitionError("no slot"))
    assert not is_prefects(failed("https://huggingface.co/api/models"))
    wrapped = StageError("the stage's own")
    wrapped.__cause__ = failed(f"{ADDRESS}/artifacts/")
    assert not is_prefects(wrapped)


def test_what_is_only_shown_may_be_lost() -> None:
    """What is no failed request is a bug, and is heard of."""

    def fail(error: Exception) -> None:
        raise error

    assert show(lambda *given, **named: (given, named), 1, key="k") == ((1,), {"key": "k"})
    assert show(fail, failed(ADDRESS)) is None
    with pytest.raises(KeyError):
        show(fail, KeyError("markdown"))


def test_a_run_that_needs_it_stops_before_the_next_stage(
    within: Within, told: Told, tmp_path: Path
) -> None:
    """With what is finished kept, and what to do."""
    within(httpx.ConnectError)
    run = make_run(tmp_path, told, direct=False, prefect=PrefectApi(patience=0.0))
    with pytest.raises(ServiceError, match=r"tiny is next.*run again.*on_prefect_lost: continue"):
        tiny(run, source=SOURCE)
    assert not list(tmp_path.glob("tiny/*/manifest.json"))


def test_a_run_that_does_not_need_it_computes_all_the_same(
    within: Within, told: Told, tmp_path: Path
) -> None:
    """The stage is there, and told as any other."""
    within(httpx.ConnectError)
    api = PrefectApi(needed=False, patience=0.0)
    run = make_run(tmp_path, told, direct=False, prefect=api, number=3)
    assert tiny(run, source=SOURCE).number == 3
    assert [(line.label, line.state) for line in told.lines] == [("tiny", "ran")]


LOST = failed(f"{ADDRESS}/v2/concurrency_limits/decrement-with-lease")


class Called:
    """A task that Prefect loses at some calls: `calls` says what comes of each."""

    def __init__(self, *calls: Callable[[Any], Any]) -> None:
        self.calls, self.made = calls, 0

    def with_options(self, **_: Any) -> Callable[[Any], Any]:
        def call(request: Any) -> Any:
            self.made += 1
            return self.calls[self.made - 1](request)

        return call


def lose(_: Any) -> Any:
    """Be lost before the stage has begun."""
    raise LOST


def test_an_api_that_is_back_in_time_is_used_again(
    within: Within, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Away when a task begins, back when it is waited for: the task is called once more."""
    within(200, 503, 200)
    run = make_run(tmp_path, told, direct=False, number=3)
    named = StageTask(tiny.stage)

    def compute(request: Any) -> Any:
        run.compute(tiny.stage, request, SilentReporter())
        return SimpleNamespace(computed=True)

    task = Called(lose, compute)
    monkeypatch.setattr(named, "task", task)
    assert named(run, source=SOURCE).number == 3 and task.made == 2
    assert told.notes[-1] == "Prefect's API answers again."


@pytest.mark.parametrize("needed", [True, False])
def test_an_api_that_answers_and_takes_no_task_is_not_asked_for_ever(
    within: Within, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: bool
) -> None:
    """After the second call the recipe decides, as where nobody answers."""
    within(200)
    run = make_run(tmp_path, told, direct=False, prefect=PrefectApi(needed=needed), number=3)
    named = StageTask(tiny.stage)
    task = Called(lose, lose)
    monkeypatch.setattr(named, "task", task)
    with pytest.raises(ServiceError, match="tiny is next") if needed else nullcontext():
        assert named(run, source=SOURCE).number == 3
    assert task.made == 2


def test_what_ended_a_stage_is_not_hidden_by_prefect(
    within: Within, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect fails while it tells of the failure: the stage is not paid again, and says why."""
    within(200)
    api = PrefectApi(needed=False)
    run = make_run(tmp_path, told, Wrong, direct=False, prefect=api)
    named = StageTask(tiny.stage)

    def fail(request: Any) -> Any:
        try:
            named_task.fn(request)
        finally:
            raise LOST

    named_task, token = named.task, CURRENT.set(run)
    monkeypatch.setattr(named, "task", Called(fail))
    with pytest.raises(DataError, match="linha 7"):
        named(run, source=SOURCE)
    CURRENT.reset(token)
    assert (tmp_path / "tries").read_text() == "one\n"


def test_a_stage_that_was_done_when_prefect_went_is_not_run_again(
    within: Within, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's request after the stage failed: what was computed is told as such."""
    within(200)
    run = make_run(tmp_path, told, direct=False, number=3)
    named = StageTask(tiny.stage)

    def lose(request: Any) -> Any:
        run.compute(tiny.stage, request, SilentReporter())
        raise failed(f"{ADDRESS}/v2/concurrency_limits/decrement-with-lease")

    monkeypatch.setattr(named, "task", SimpleNamespace(with_options=lambda **_: lose))
    assert named(run, source=SOURCE).number == 3
    assert [line.state for line in told.lines] == ["ran"]


@pytest.mark.parametrize(
    ("of_deployment", "wanted", "expected"),
    [(None, 30.0, 30.0), ("d", 30.0, 126.0), ("d", 600.0, 600.0)],
)
def test_a_run_of_a_deployment_waits_as_long_as_prefects_client_does(
    monkeypatch: pytest.MonkeyPatch, of_deployment: str | None, wanted: float, expected: float
) -> None:
    """6 retries wait 2 + 4 + 8 + 16 + 32 + 64 s; in a terminal the recipe's word counts."""
    monkeypatch.setattr(prefect_api, "deployment", SimpleNamespace(id=of_deployment))
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 6}):
        assert choose_patience(wanted) == expected
