"""Threads that take turns over the files of one folder, and are failed or killed at any of them.

Only one of them runs at a time, and another's turn comes at a file operation alone, so that a
schedule, a few numbers, says in which order everything happens: the same numbers, the same order.
A thread that is killed does nothing more: what would clean up behind an error is not run behind a
kill either.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.waiting import GUARD_SECONDS

_CHANGING = ("mkdir", "replace", "rename", "unlink", "rmdir", "link")
_READING = ("stat", "scandir")


class Killed(BaseException):
    """The end of a thread that stands for a process which is killed."""


@dataclass(frozen=True)
class Fault:
    """What happens at one of an actor's changes of a file or folder.

    Attributes:
        at: Which of its changes, from 0 on; one that it never comes to does not happen.
        kind: `killed`, half of what is written by then being there; `power`, which ends all and
            takes half of every file along that was not synced; or the number of an `OSError`.
    """

    at: int
    kind: Literal["killed", "power"] | int


@dataclass
class Actor:
    """One thread, which stands for a process.

    Attributes:
        does: What it does.
        fault: What happens to it.
        result: What `does` returned.
        error: What it raised, other than `Killed`.
        dead: Whether it was killed.
        changes: How many files and folders it has changed, or tried to.
    """

    does: Callable[[], Any]
    fault: Fault | None = None
    result: Any = None
    error: BaseException | None = None
    dead: bool = False
    changes: int = 0
    ended: bool = False
    turn: threading.Event = field(default_factory=threading.Event)


class Turns:
    """Actors over a folder, by a schedule.

    Args:
        root: Only what happens below it counts.
        actors: Who takes part.
        switches: Pairs of a number of operations and an actor whose turn comes after so many.
    """

    def __init__(
        self, root: Path, actors: Sequence[Actor], switches: Sequence[tuple[int, int]] = ()
    ) -> None:
        self._root, self._actors = str(root), actors
        self._switches = list(reversed(switches))
        self._left = self._switches[-1][0] if self._switches else -1
        self._unsynced: set[int] = set()
        self._here = threading.local()
        self._done = threading.Event()
        self._cut = False

    def run(self) -> None:
        """Run them all to their ends."""
        with self._patched():
            threads = [
                threading.Thread(target=self._live, args=(actor,), daemon=True)
                for actor in self._actors
            ]
            for thread in threads:
                thread.start()
            self._actors[0].turn.set()
            assert self._done.wait(GUARD_SECONDS), "the actors wait for each other"
            for thread in threads:
                thread.join(GUARD_SECONDS)
        if self._cut:
            self.lose_unsynced()

    def _live(self, actor: Actor) -> None:
        actor.turn.wait()
        self._here.actor = actor
        try:
            actor.result = actor.does()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - told by the test
            actor.error = None if actor.dead else error
        self._here.actor = None
        actor.ended = True
        if (after := self._next(actor)) is None:
            self._done.set()
        else:
            after.turn.set()

    def _next(self, actor: Actor, wanted: int = 0) -> Actor | None:
        """Return who goes on: the one that is wanted, else the next who has not ended."""
        first = self._actors.index(actor) + 1 + wanted
        order = [self._actors[(first + n) % len(self._actors)] for n in range(len(self._actors))]
        return next((each for each in order if not each.ended and each is not actor), None)

    def _hand_over(self, actor: Actor, wanted: int) -> None:
        after = self._next(actor, wanted)
        if after is None:
            return
        actor.turn.clear()
        after.turn.set()
        assert actor.turn.wait(GUARD_SECONDS), "nobody gave the turn back"

    def _reach(self) -> Actor | None:
        """Let others have their turn before an operation; return who is about to do it."""
        actor: Actor | None = getattr(self._here, "actor", None)
        if actor is None:
            return None
        if self._left == 0:
            _, wanted = self._switches.pop()
            self._left = self._switches[-1][0] if self._switches else -1
            self._hand_over(actor, wanted)
        self._left -= self._left > 0
        self._die_if_dead(actor)
        return actor

    def _die_if_dead(self, actor: Actor) -> None:
        if actor.dead or self._cut:
            actor.dead = True
            raise Killed

    def _change(self, half: Callable[[], object] = lambda: None) -> None:
        """Stand before a change: it may fail, or be the last thing that an actor comes to."""
        actor = self._reach()
        if actor is None:
            return
        number, actor.changes = actor.changes, actor.changes + 1
        if actor.fault is None or number != actor.fault.at:
            return
        half()
        if isinstance(actor.fault.kind, int):
            raise OSError(actor.fault.kind, os.strerror(actor.fault.kind))
        actor.dead = True
        self._cut = actor.fault.kind == "power"
        raise Killed

    def _counts(self, path: object, given: dict[str, Any]) -> bool:
        if getattr(self._here, "actor", None) is None or isinstance(path, int):
            return False
        # A folder that is removed is gone through by handles: the names have no folder before them.
        text = os.fspath(path)  # type: ignore[call-overload]
        # The kernel takes a lock away with its process, and so does the end of a thread here.
        return given.get("dir_fd") is not None or (
            text.startswith(self._root) and not text.endswith(".lock")
        )

    @contextmanager
    def _patched(self) -> Iterator[None]:
        kept = {name: getattr(os, name) for name in (*_CHANGING, *_READING, "open", "fsync")}
        opened, slept = builtins.open, time.sleep

        def changing(name: str) -> Callable[..., Any]:
            def change(path: Any, *args: Any, **given: Any) -> Any:
                if self._counts(path, given):
                    self._change()
                return kept[name](path, *args, **given)

            return change

        def reading(name: str) -> Callable[..., Any]:
            def read(path: Any = ".", *args: Any, **given: Any) -> Any:
                if self._counts(path, given):
                    self._reach()
                return kept[name](path, *args, **given)

            return read

        def open_file(path: Any, mode: str = "r", *args: Any, **given: Any) -> Any:
            if not self._counts(path, {}):
                return opened(path, mode, *args, **given)
            if not set(mode) & set("wax+"):
                self._reach()
                return opened(path, mode, *args, **given)
            self._change()
            return _Written(self, opened(path, mode, *args, **given))

        def sync(handle: int) -> None:
            self._reach()
            if getattr(self._here, "actor", None) is None:
                kept["fsync"](handle)
                return
            # What a power cut takes along is decided here, whatever the disk has by then.
            self._unsynced.discard(os.fstat(handle).st_ino)

        def sleep(seconds: float) -> None:
            actor = getattr(self._here, "actor", None)
            if actor is None or self._next(actor) is None:
                slept(seconds)
            else:  # It waits for one of the others.
                self._hand_over(actor, 0)
                self._die_if_dead(actor)

        for name in _CHANGING:
            setattr(os, name, changing(name))
        for name in (*_READING, "open"):
            setattr(os, name, reading(name))
        os.fsync, builtins.open, io.open, time.sleep = sync, open_file, open_file, sleep
        try:
            yield
        finally:
            for name, function in kept.items():
                setattr(os, name, function)
            builtins.open = io.open = opened
            time.sleep = slept

    def lose_unsynced(self) -> None:
        """Take along what a power cut does: half of each file that was not synced."""
        for path in Path(self._root).rglob("*"):
            if path.is_file() and path.stat().st_ino in self._unsynced:
                os.truncate(path, path.stat().st_size // 2)


class _Written:
    """A file that is written to."""

    def __init__(self, turns: Turns, file: Any) -> None:
        self._turns, self._file = turns, file
        turns._unsynced.add(os.fstat(file.fileno()).st_ino)

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._turns._change(half)
        return self._file.write(data)

    def __enter__(self) -> _Written:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ValueError):
            self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
