"""From a stage to a Prefect task: every stage is named, cached and shown alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from copy import copy
from typing import Any, Generic, TypeVar, cast

from prefect import Task, task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

import retune.errors as errors
from retune.digests import digest_json
from retune.errors import RetuneError
from retune.records import ContentRecord
from retune.spine.lookup import Lookup
from retune.spine.stage import Inputs, Stage, StageRequest, is_stored
from retune.watching import StageLine
from tasks.runs.live import LiveReporter
from tasks.runs.prefect_api import is_prefects
from tasks.runs.record_results import StoredRecord, StoredRecordSerializer
from tasks.runs.run import CURRENT, Run

Output = TypeVar("Output", bound=ContentRecord)
Given = TypeVar("Given")
Made = TypeVar("Made")

RETRY_SECONDS = (1, 10)
"""Waits before further tries of a stage whose failure can heal."""
_FAILED: ContextVar[list[BaseException]] = ContextVar("_FAILED")
"""What the stage at hand raised, by try: a request of Prefect's that fails afterwards hides it."""


class Pending:
    """Stands for a record that a plan cannot know yet, and for whatever is asked of it."""

    def __getattr__(self, name: str) -> Pending:
        """Return itself: nothing about the record is known."""
        return self

    def __call__(self, *_: Any, **__: Any) -> Pending:
        """Return itself: a method's result is not known either."""
        return self


def is_pending(value: Any) -> bool:
    """Say whether a value is, or holds, a record that a plan cannot know yet."""
    if isinstance(value, dict):
        return is_pending(list(value.values()))
    if isinstance(value, list | tuple):
        return any(is_pending(item) for item in value)
    return isinstance(value, Pending)


def combine(make: Callable[[Given], Made], given: Given) -> Made:
    """Return what is made of records; a `Pending` where a plan cannot know them yet.

    Args:
        make: What makes it.
        given: The records.
    """
    return cast(Made, Pending()) if is_pending(given) else make(given)


class StageTask(Generic[Inputs, Output]):
    """A stage that a flow calls like a function.

    Args:
        stage: As it is declared.
    """

    def __init__(self, stage: Stage[Inputs, Output]) -> None:
        self.stage = stage
        self.task = _as_task(stage)
        self.role: str | None = None

    def of(self, role: str) -> StageTask[Inputs, Output]:
        """Return the same task, shown with what it is called for: a model, a source of rows."""
        named = copy(self)
        named.role = role
        return named

    def __call__(self, run: Run, /, *_: Inputs.args, **inputs: Inputs.kwargs) -> Output:
        """Return the stage's record, reused or computed.

        Args:
            run: The current run.
            inputs: Input records by name, as the stage's input record takes them.

        Returns:
            The record; while planning, a `Pending` where the stage would run.

        Raises:
            RetuneError: The stage failed.
        """
        role = self.role
        label = f"{self.stage.name} ({role})" if role else self.stage.name
        if is_pending(inputs):
            return cast(Output, _plan_pending(run, self.stage.name, role, inputs))
        request, lookup = run.request(self.stage, inputs)
        line = _line(self.stage.name, role, lookup, request.key)
        if run.planning:
            run.lines.append(line)
            run.watcher.finished(line)
            return self._load(run, request) if lookup.state == "hit" else cast(Output, Pending())
        started = time.monotonic()
        if lookup.state == "run":
            run.watcher.started(label, lookup.reason)
        if run.direct:
            computed = _compute(run, self.stage, request)
        else:
            computed = self._call_task(run, request, label, refresh=lookup.state == "run")
        record = self._load(run, request)
        run.store.remove_left_work(self.stage.name, request.key)
        line = _ended(line, computed, time.monotonic() - started)
        run.lines.append(line)
        run.watcher.finished(line)
        return record

    def _call_task(self, run: Run, request: StageRequest, label: str, *, refresh: bool) -> bool:
        if refresh and run.process is not None:
            # Its imports take seconds; whatever runs here in the meantime hides them.
            run.process.start()
            if self.stage.on_device:
                # Before the task takes a slot of its tag: two runs that each had one of the two,
                # device and slot, would wait for each other.
                run.process.claim_device(run.watcher.note)
        # A stage whose effect is gone has a good artifact, and must run all the same.
        # One that is only looked up has no need of the device: without its tag it waits for nobody.
        configured = self.task.with_options(
            task_run_name=label, refresh_cache=refresh, tags=None if refresh else ["reused"]
        )
        # Where Prefect is back in time, the same is asked of it once more.
        for _attempt in range(2):
            if not run.prefect.answers(run.watcher.note):
                break
            failed: list[BaseException] = []
            token = _FAILED.set(failed)
            try:
                return configured(request).computed
            except Exception as error:
                if not is_prefects(error):
                    raise
                if is_stored(run.store, self.stage, request):
                    # Prefect was lost after the stage was done: the next one, or the end, says so.
                    return refresh
                if _failed_for_good(failed):
                    # Prefect could not be told; what it raised stands in place of the cause.
                    raise failed[-1] from None
            finally:
                _FAILED.reset(token)
        return self._without_prefect(run, request)

    def _without_prefect(self, run: Run, request: StageRequest) -> bool:
        """Run the stage with nobody to show it to, where the recipe lets a run go on so."""
        if run.prefect.needed:
            raise run.prefect.refuse(self.stage.name)
        return _compute(run, self.stage, request)

    def _load(self, run: Run, request: StageRequest) -> Output:
        return cast(Output, run.load(self.stage, request))


def _as_task(stage: Stage[..., Any]) -> Task[[StageRequest], StoredRecord]:
    @task(
        name=stage.name,
        description=f"{stage.function.__module__}:{stage.name}, version {stage.version}",
        tags=["device"] if stage.on_device else [],
        cache_policy=CacheKeyFnPolicy(cache_key_fn=_cache_key),
        result_serializer=StoredRecordSerializer(),
        persist_result=True,
        retries=len(RETRY_SECONDS),
        retry_delay_seconds=list(RETRY_SECONDS),
        # Runs that lost the same server do not come back to it at one moment.
        retry_jitter_factor=0.5,
        retry_condition_fn=heals,
    )
    def run_it(request: StageRequest) -> StoredRecord:
        try:
            computed = _compute(CURRENT.get(), stage, request)
        except BaseException as error:
            _FAILED.get().append(error)
            raise
        return StoredRecord(
            stage=stage.name, key=request.key, store=request.store, computed=computed
        )

    return run_it


def _compute(run: Run, stage: Stage[..., Any], request: StageRequest) -> bool:
    """Have a stage's record in the store; return whether it was computed for this run."""
    if is_stored(run.store, stage, request):
        return False
    with LiveReporter(run, stage.name, request.key) as reporter:
        run.compute(stage, request, reporter)
    return reporter.computed


def _failed_for_good(failed: Sequence[BaseException]) -> bool:
    """Say whether a stage that raised these in turn would not be tried again."""
    if not failed:
        return False
    heals = isinstance(failed[-1], RetuneError) and failed[-1].heals
    return not heals or len(failed) > len(RETRY_SECONDS)


def _cache_key(_: TaskRunContext, parameters: dict[str, Any]) -> str:
    request: StageRequest = parameters["request"]
    # The stage key, and the store that it stands in: Prefect's results are shared by all
    # checkouts of a user, and a record of one must not answer for another.
    return f"retune-{request.stage}-{request.key}-{digest_json(str(request.store))[:8]}"


def heals(_: Task[Any, Any], __: TaskRun, state: State[Any]) -> bool:
    """Say whether a task may succeed on another try: a process died, or a server was away.

    A wrong recipe, bad rows and a training that diverged fail the same way each time.
    """
    if isinstance(state.data, RetuneError):
        return state.data.heals
    kinds = (found for found in vars(errors).values() if isinstance(found, type))
    healing = {kind.__name__ for kind in kinds if issubclass(kind, RetuneError) and kind.heals}
    return any(name in (state.message or "") for name in healing)


def _line(name: str, role: str | None, lookup: Lookup, key: str) -> StageLine:
    return StageLine(
        name=name,
        role=role,
        state="reused" if lookup.state == "hit" else "ran",
        reason=lookup.reason,
        seconds=0.0,
        key=key,
    )


def _ended(line: StageLine, computed: bool, seconds: float) -> StageLine:
    """Return the line of a stage that is there, from the one that its start was told by."""
    if computed:
        return line.model_copy(update={"state": "ran", "seconds": seconds})
    if line.state == "reused":
        return line.model_copy(update={"seconds": seconds})
    reason = "another run computed it while this one waited"
    return line.model_copy(update={"state": "waited", "reason": reason, "seconds": seconds})


def _plan_pending(run: Run, name: str, role: str | None, inputs: dict[str, Any]) -> Pending:
    waiting = ", ".join(key for key, value in inputs.items() if is_pending(value))
    line = _line(name, role, Lookup("run", f"{waiting} will be new"), "")
    run.lines.append(line)
    run.watcher.finished(line)
    return Pending()
