"""Which tensors live at once: a log of what an eager program allocates and frees."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_MASKED = {
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
}


class AllocationLog(TorchDispatchMode):
    """Notes each storage when it is made and when nothing holds it any more.

    It works on real and on fake tensors alike: what it counts is what torch's allocator would be
    asked for. Storages that are views of others are not counted twice.

    Args:
        selected: How many positions a mask of booleans selects; a fake mask cannot say.
    """

    def __init__(self, selected: int = 0) -> None:
        super().__init__()
        self.phase = "start"
        """What the program is doing; storages keep the phase that they were made in."""
        self._selected = selected
        self._ids: dict[int, int] = {}
        self._made: list[tuple[int, str]] = []
        self._events: list[tuple[int, bool]] = []

    def note(self, tensor: torch.Tensor) -> int:
        """Take a tensor's storage into the log, and return its number there."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._ids:
            number = len(self._made)
            self._ids[key] = number
            self._made.append((storage.nbytes(), self.phase))
            self._events.append((number, True))
            weakref.finalize(storage, self._forget, key).atexit = False
        return self._ids[key]

    def numbers(self, tensors: Iterable[torch.Tensor]) -> set[int]:
        """Return the numbers of tensors' storages."""
        return {self.note(tensor) for tensor in tensors}

    def mark(self) -> int:
        """Return the place in the log that is reached."""
        return len(self._events)

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Name what the program does inside the block."""
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            self.phase = before

    def peak(self, since: int = 0) -> set[int]:
        """Return the storages that lived when most bytes did.

        Args:
            since: From `mark`; a peak before it does not count.

        Returns:
            Their numbers; the first such moment where there are several.
        """
        now = most = 0
        best = since
        for place, (number, born) in enumerate(self._events):
            now += self._made[number][0] * (1 if born else -1)
            if place >= since and now > most:
                most, best = now, place
        return self.alive(best)

    def size(self, numbers: Iterable[int]) -> int:
        """Return the bytes of storages."""
        return sum(self._made[number][0] for number in numbers)

    def phase_of(self, number: int) -> str:
        """Return the phase that a storage was made in."""
        return self._made[number][1]

    def alive(self, place: int | None = None) -> set[int]:
        """Return the storages that live after a place in the log; None is now."""
        alive: set[int] = set()
        events = self._events if place is None else self._events[: place + 1]
        for number, born in events:
            (alive.add if born else alive.discard)(number)
        return alive

    def _forget(self, key: int) -> None:
        self._events.append((self._ids.pop(key), False))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and note what it made."""
        if func in _MASKED:
            args = (args[0], self._positions(args[1]), *args[2:])
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor):
                self.note(leaf)
        return found

    def _positions(self, indices: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
        """Exchange masks for as many positions as they are said to select."""
        found: list[torch.Tensor | None] = []
        for index in indices:
            if index is None or index.dtype != torch.bool:
                found.append(index)
                continue
            found += [
                index.new_empty((self._selected,), dtype=torch.long) for _ in range(index.dim())
            ]
        return found
