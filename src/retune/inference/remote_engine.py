"""An engine of one's own over HTTP: any OpenAI-compatible server that continues token ids.

It is watched: one that goes away, or that holds another model under the name, is away from then
on, and whoever holds it has to prove it anew.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import httpx
from pydantic import BaseModel, Field, ValidationError

from retune.inference.engine_address import KEY_VARIABLE
from retune.inference.jobs import Chosen, Counts, Job
from retune.inference.remote_completions import (
    EngineFault,
    EventReader,
    completion_body,
    told_error,
)

_CONNECT_SECONDS = 10.0
WATCH_SECONDS = 2.0
"""Between two looks at what the engine holds."""


class EngineAway(Exception):
    """The engine cannot be asked; what it says may be read by everybody.

    Args:
        reason: Why.
        detail: The same with what is not for strangers, for the log.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


class ModelMissing(EngineAway):
    """The engine has no model of the name."""


class Card(NamedTuple):
    """What an engine says of a model.

    Attributes:
        root: What it was loaded from; None where it does not say.
        context: Most tokens of a prompt with its answer; None where it does not say.
    """

    root: str | None
    context: int | None


class _Listed(BaseModel):
    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class _Models(BaseModel):
    data: list[_Listed]


class _Version(BaseModel):
    version: str = Field(max_length=100)


class RemoteEngine:
    """Lets a server write answers; see `jobs.Engine`.

    Args:
        address: Of its API, ``http://HOST:PORT/v1``.
        model: Name of the model there.
        end_ids: Ids that end an answer.
        batch: Most answers asked for at a time.
        seconds: Longest time between two tokens.
        key: That it wants; None for none.

    Raises:
        EngineAway: It cannot be reached, refuses the key, or has no such model.
    """

    def __init__(
        self,
        address: str,
        model: str,
        end_ids: Sequence[int],
        *,
        batch: int,
        seconds: float,
        key: str | None,
    ) -> None:
        self.address = address
        self._model, self._end_ids = model, list(end_ids)
        self.away = ""
        """Why it cannot be asked any more; empty while it can."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="remote-engine", daemon=True
        )
        self._thread.start()
        self._room = asyncio.Semaphore(batch)
        self._client = httpx.AsyncClient(
            base_url=address,
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(seconds, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None),
        )
        try:
            self.card: Card = self._call(self._find_card())
        except httpx.TimeoutException:
            self.close()
            raise EngineAway("the engine does not answer in time") from None
        except EngineAway:
            self.close()
            raise
        asyncio.run_coroutine_threadsafe(self._watch(), self._loop)

    def submit(self, job: Job) -> None:
        """Ask for an answer as soon as there is room."""
        self._loop.call_soon_threadsafe(self._begin, job)

    def cancel(self, job: Job) -> None:
        """Close the connection of an answer, on which the engine stops."""
        job.ended = True
        self._loop.call_soon_threadsafe(self._stop, job.key)

    def counts(self) -> Counts:
        """Say how busy it is with what was asked from here."""
        return Counts(self._running, max(0, len(self._tasks) - self._running))

    def read_software(self) -> str | None:
        """Return the version that the engine says it has, as vLLM does; None where it says none."""
        found: str | None = self._call(self._read_version())
        return found

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self.away and self._thread.is_alive()

    def close(self) -> None:
        """Close all connections, and end the thread."""
        if self._thread.is_alive():
            self._call(self._end_all())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _end_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    def _begin(self, job: Job) -> None:
        if job.ended:
            return
        task = self._loop.create_task(self._write(job))
        self._tasks[job.key] = task
        task.add_done_callback(lambda _: self._tasks.pop(job.key, None))

    def _stop(self, key: str) -> None:
        if key in self._tasks:
            self._tasks[key].cancel()

    async def _write(self, job: Job) -> None:
        async with self._room:
            self._running += 1
            try:
                if self.away:
                    raise EngineFault(self.away)
                await self._continue(job)
            except EngineFault as fault:
                self._fail(job, str(fault))
            except httpx.TimeoutException as error:
                await self._look()
                self._fail(job, self.away or f"the engine is too slow ({type(error).__name__})")
            except httpx.HTTPError as error:
                # One broken connection is one answer; a server that is gone is all of them.
                await self._look()
                self._fail(job, self.away or f"the engine broke the answer off ({_told(error)})")
            except Exception as error:  # noqa: BLE001 - who waits is told, and the others go on
                self._fail(job, f"{type(error).__name__}: {error!s:.200}")
            finally:
                self._running -= 1

    async def _continue(self, job: Job) -> None:
        reader = EventReader(job, self._end_ids)
        body = completion_body(job, self._model, self._end_ids)
        async with self._client.stream("POST", "completions", json=body) as response:
            if response.status_code != httpx.codes.OK:
                await response.aread()
                if response.status_code in (401, 403, 404):
                    await self._look()
                raise EngineFault(self.away or _refused(response))
            async for line in response.aiter_lines():
                reader.take(line)
                if job.ended:
                    # Whoever took the last token cancels it too, and would do so in the middle of
                    # closing the connection, which then stayed open.
                    self._tasks.pop(job.key, None)
                    return
        await self._look()
        if self.away:
            raise EngineFault(self.away)
        reader.close()

    @staticmethod
    def _fail(job: Job, reason: str) -> None:
        if not job.ended:
            job.ended = True
            job.fail(reason)

    async def _watch(self) -> None:
        while not self.away:
            await asyncio.sleep(WATCH_SECONDS)
            await self._look()

    async def _look(self) -> None:
        """Look whether the engine still holds the model; it is away from then on if not."""
        try:
            found = await self._read_card()
        except EngineAway as error:
            self.away = self.away or error.reason
            return
        except httpx.TimeoutException:
            return  # It is busy, and whoever waits for an answer has a limit.
        if found != self.card:
            self.away = f"the engine has another model under the name {self._model!r} now"

    async def _find_card(self) -> Card:
        try:
            return await self._read_card()
        except ModelMissing:
            # An engine that finds adapters by their names lists one only once it was asked for it.
            # What goes wrong with that shows in what it lists then.
            with suppress(httpx.HTTPError):
                await self._client.post("completions", json=_first_body(self._model, self._end_ids))
            return await self._read_card()

    async def _read_version(self) -> str | None:
        try:
            response = await self._client.get(self.address.removesuffix("/v1") + "/version")
            return _Version.model_validate_json(response.content).version
        except (httpx.HTTPError, ValidationError):
            return None

    async def _read_card(self) -> Card:
        try:
            response = await self._client.get("models", timeout=_CONNECT_SECONDS)
        except httpx.ConnectTimeout as error:
            raise EngineAway(f"the engine cannot be reached ({_told(error)})") from error
        except httpx.TimeoutException:
            raise
        except httpx.HTTPError as error:
            raise EngineAway(f"the engine cannot be reached ({_told(error)})") from error
        if response.status_code in (401, 403):
            why = f"the engine refuses the key of the variable {KEY_VARIABLE}, or wants one there"
            raise EngineAway(why)
        if response.status_code != httpx.codes.OK:
            raise EngineAway(f"{_refused(response)}, asked for its models")
        try:
            models = {each.id: each for each in _Models.model_validate_json(response.content).data}
        except ValidationError as error:
            raise EngineAway(
                "what answers /v1/models is no engine: it sends no list of models"
            ) from error
        found = models.get(self._model)
        if found is None:
            raise ModelMissing(
                f"the engine has no model of the name {self._model!r}",
                f"it has {sorted(models)}. Serve it under that name (--print-vllm prints how), or "
                "name another with --engine-model.",
            )
        # An adapter's card does not tell its context, and that of what it stands on does.
        below = models.get(found.parent or "", found)
        return Card(found.root, found.max_model_len or below.max_model_len)


def _first_body(model: str, end_ids: Sequence[int]) -> dict[str, Any]:
    return {"model": model, "prompt": list(end_ids[:1]), "max_tokens": 1, "temperature": 0.0}


def try_protocol(engine: RemoteEngine, prompt: Sequence[int]) -> None:
    """Let an engine write one token, and read it with all that it is ever asked to tell.

    Args:
        engine: The engine.
        prompt: Token ids.

    Raises:
        EngineAway: It does not tell token ids or log-probabilities as they are asked for.
    """
    done, failed = threading.Event(), list[str]()

    def take(_: Chosen) -> bool:
        done.set()
        return True

    def fail(reason: str) -> None:
        failed.append(reason)
        done.set()

    engine.submit(Job(f"trial-{id(engine)}", prompt, 1, take, fail, top_logprobs=1))
    done.wait()
    if failed:
        raise EngineAway(failed[0])


def _told(error: httpx.HTTPError) -> str:
    """Return what went wrong without the address, which is not for everybody."""
    return type(error).__name__


def _refused(response: httpx.Response) -> str:
    try:
        why = told_error(response.json())
    except ValueError:
        why = "no JSON"
    return f"the engine answers {response.status_code}: {why}"
