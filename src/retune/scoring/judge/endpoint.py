"""A judge at an OpenAI-compatible endpoint: patient, bounded, and asked no more than needed.

A question that the endpoint is too busy, too slow or too broken for is asked again, after the time
that it asks for (Retry-After) or one that doubles. One that it refuses for what it holds has no
verdict. An endpoint that knows no such key or model, or fails again and again, ends the judging;
whatever it has answered until then is kept.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from retune.collecting.fetching.answers import retry_after_seconds
from retune.collecting.fetching.pacing import backoff_seconds, draw_chance
from retune.data.chats.thoughts import without_thought
from retune.errors import ConfigError, ServiceError
from retune.recipe.credentials import MASK, masked
from retune.recipe.sections.judge import JudgeRuntime
from retune.scoring.judge.kept_answers import BUDGET_SPENT, REFUSED, Said
from retune.scoring.judge.spending import Purse

KEY_VARIABLE = "RETUNE_JUDGE_API_KEY"

_NO_KEY = "none"
"""Sent where the environment has no key: servers of one's own ask for none."""
_OF_THE_QUESTION = (400, 413, 422)
_BUSY = (408, 409, 425, 429)
_KEPT = "Answers that came are kept: run again to go on."
_LONGEST_SAID = 300


class _TryAgain(Exception):
    """One try failed, and another may do."""

    def __init__(self, why: str, wait_seconds: float | None = None) -> None:
        super().__init__(why)
        self.why, self.wait_seconds = why, wait_seconds


class EndpointJudge:
    """Asks a model over HTTP.

    Args:
        endpoint: Address up to `/v1`.
        model: Its name there.
        max_new_tokens: Most tokens of an answer.
        runtime: Tries, waits, questions at once.
        purse: Counts, and says when to stop.
        sleep: Waits; tests count instead.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        max_new_tokens: int,
        runtime: JudgeRuntime,
        purse: Purse,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._endpoint, self._model = endpoint, model
        self._max_new_tokens, self._runtime, self._purse = max_new_tokens, runtime, purse
        self._sleep = sleep
        self._lock = threading.Lock()
        self._held_until = 0.0
        self._stopped_by: BaseException | None = None
        self._key = os.environ.get(KEY_VARIABLE) or _NO_KEY
        self._client = openai.OpenAI(
            base_url=endpoint,
            api_key=self._key,
            timeout=runtime.timeout_seconds,
            # Tries are counted and waited for here.
            max_retries=0,
        )

    def answer(self, questions: Sequence[str], told: Callable[[int, Said], None]) -> None:
        """Ask questions, some at once.

        Args:
            questions: Each once.
            told: Is told each answer with the place of its question, in any order, from any
                thread.

        Raises:
            ConfigError: The endpoint knows no such key or model.
            ServiceError: It does not answer, or asks for too long a wait.
        """

        def settle(at: int, question: str) -> None:
            try:
                told(at, self._ask(question))
            except BaseException as error:
                # At once, before this thread takes another question.
                self._stop(error)
                raise

        with ThreadPoolExecutor(self._runtime.concurrency) as pool:
            asked = [pool.submit(settle, at, one) for at, one in enumerate(questions)]
            try:
                for each in as_completed(asked):
                    each.result()
            except BaseException as error:
                # What is under way is paid for, and told; nothing more is begun.
                pool.shutdown(wait=False, cancel_futures=True)
                first = self._stop(error)
                if first is not error:
                    # One that was only stopped by it was heard before.
                    raise first from None
                raise

    def _stop(self, error: BaseException) -> BaseException:
        """Let nothing more be asked; return the first error."""
        with self._lock:
            self._stopped_by = self._stopped_by or error
            return self._stopped_by

    def _ask(self, question: str) -> Said:
        attempts = self._runtime.attempts
        for attempt in range(1, attempts + 1):
            self._take_turn()
            if not self._purse.take_request():
                return Said(text=None, reason=BUDGET_SPENT)
            try:
                return self._ask_once(question)
            except _TryAgain as failed:
                if attempt == attempts:
                    raise ServiceError(
                        f"judge: {self._endpoint} failed {attempts} times in a row "
                        f"({failed.why}). {_KEPT}"
                    ) from failed
                self._wait(attempt, failed)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _ask_once(self, question: str) -> Said:
        try:
            found: Any = self._client.chat.completions.create(
                model=self._model,
                messages=[{"role": "user", "content": question}],
                temperature=0,
                max_tokens=self._max_new_tokens,
            )
        except openai.APIStatusError as error:
            return self._explain(error)
        except openai.APIError as error:
            # No connection, no answer in time, or one that is no JSON.
            raise _TryAgain(self._shown(error)) from error
        if not isinstance(found, ChatCompletion) or not found.choices:
            raise _TryAgain("its answer is no chat completion")
        return self._read(found)

    def _read(self, found: ChatCompletion) -> Said:
        usage, message = found.usage, found.choices[0].message
        read, written = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
        self._purse.add_tokens(read, written)
        refused = message.content is None and bool(message.refusal)
        return Said(
            text=None if refused else without_thought(message.content or ""),
            reason=REFUSED if refused else None,
            detail=message.refusal or "",
            input_tokens=read,
            output_tokens=written,
        )

    def _explain(self, error: openai.APIStatusError) -> Said:
        """Return what a status means for one question.

        Raises:
            _TryAgain: The endpoint is busy, or broke.
            ConfigError: Every question would end so.
        """
        status = error.status_code
        if status in _OF_THE_QUESTION:
            return Said(text=None, reason=REFUSED, detail=self._shown(error))
        if status in _BUSY or status >= 500:
            asked = retry_after_seconds(error.response.headers.get("retry-after"), now=time.time())
            raise _TryAgain(self._shown(error), asked) from error
        raise ConfigError(
            f"judge: {self._endpoint} does not let {self._model} be asked "
            f"({self._shown(error)}). Check judge.endpoint and judge.model, and the key in "
            f"{KEY_VARIABLE}."
        ) from error

    def _take_turn(self) -> None:
        with self._lock:
            wait = self._held_until - time.monotonic()
        if wait > 0:
            self._sleep(wait)
        if self._stopped_by is not None:
            raise ServiceError(f"judge: {self._endpoint} is not asked any more. {_KEPT}")

    def _wait(self, attempt: int, failed: _TryAgain) -> None:
        asked = failed.wait_seconds
        if asked is None:
            self._sleep(backoff_seconds(attempt, draw_chance()))
        elif asked > self._runtime.longest_wait_seconds:
            raise ServiceError(
                f"judge: {self._endpoint} asks to wait {asked:g} s ({failed.why}), and "
                f"judge.runtime.longest_wait_seconds allows "
                f"{self._runtime.longest_wait_seconds:g}. {_KEPT}"
            ) from failed
        else:
            # It speaks to all of us, not to this question alone; `_take_turn` does the waiting.
            with self._lock:
                self._held_until = max(self._held_until, time.monotonic() + asked)

    def _shown(self, error: openai.APIError) -> str:
        # Some endpoints repeat the key that they were given.
        text = masked(str(error).replace(self._key, MASK))
        return f"{text:.{_LONGEST_SAID}}"
