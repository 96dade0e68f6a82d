"""What a process holds to serve allocations on a CPU: glibc's heap, followed event by event.

torch's CPU allocator asks the C library for each tensor and gives it back at once. glibc does not
give it back to the system at once: when a large block has been freed, blocks of its size and below
(up to 32 MiB) come from one growing heap, whose free places are reused by best fit and returned
only from its end. And for an aligned block, which all tensors are, glibc up to 2.37 looks for a
place of 112 bytes more than it needs: the place that a tensor left is too small for the next of the
same size, unless what was cut off beside it is free again. Small objects settle in such cuttings
and keep neighbours apart. So the process grows far above what lives in it: by 1.5 to 2.5 times
here.

The rules followed are those of malloc/malloc.c: dynamic mmap threshold, best fit, joining of
neighbours, trimming of the end. Which cuttings are taken cannot be known: a fixed share is
(`TAKEN`), chosen once on measured trainings, and drawn the same way each time.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Sequence
from statistics import mean

_PAGE = 4096
_HEADER = 16
_SLACK = 112
"""What is asked for beside an aligned block, so that an aligned place is surely in it."""
_CUT = 48
"""Mean size of what is cut off before an aligned place."""
_SMALL = 1024
"""Larger cuttings are places of their own, too large for small objects to fill."""
_FIRST_THRESHOLD = 128 * 1024
_LARGEST_THRESHOLD = 32 * 1024 * 1024
_TOP_PAD = 128 * 1024
TAKEN = 0.15
"""Share of cuttings that small objects settle in."""
_DRAWS = 4
_REPEATS = 3


class Heap:
    """A heap that grows at its end, with free blocks inside.

    Args:
        taken: Share of cuttings that small objects settle in; 0 is a heap that joins all it can.
        seed: Which cuttings are taken is drawn from it.

    Attributes:
        live: Bytes that were asked for and not given back.
    """

    def __init__(self, taken: float = TAKEN, seed: int = 0) -> None:
        self.live = 0
        self._chance = random.Random(seed)
        self._taken = taken
        self._mapped = 0
        self._touched = 0
        self._top = 0
        self._end = 0
        self._threshold = _FIRST_THRESHOLD
        self._trim_threshold = _FIRST_THRESHOLD
        self._free: list[tuple[int, int]] = []
        self._free_at: dict[int, int] = {}
        self._free_until: dict[int, int] = {}
        self._blocks: dict[int, tuple[int, int, int]] = {}

    @property
    def held(self) -> set[int]:
        """Return the numbers of the blocks that live."""
        return set(self._blocks)

    @property
    def resident(self) -> int:
        """Return the bytes that the process holds: the heap as far as it was used, and maps."""
        return self._touched + self._mapped

    def allocate(self, number: int, asked: int) -> None:
        """Serve a request.

        Args:
            number: Names the block.
            asked: Its size in bytes.
        """
        self.live += asked
        needed = _up(asked + _HEADER, _HEADER)
        wanted = needed + _SLACK
        place = bisect_left(self._free, (wanted, -1))
        if place < len(self._free):
            self._reuse(number, asked, needed, place)
        elif self._end - self._top < wanted and wanted >= self._threshold:
            size = _up(wanted, _PAGE)
            self._mapped += size
            self._blocks[number] = (-1, size, asked)
        else:
            if self._end - self._top < wanted:
                self._end = _up(self._top + wanted + _TOP_PAD, _PAGE)
            start = self._top + (_CUT if self._is_taken() else 0)
            self._blocks[number] = (start, needed, asked)
            self._top = start + needed
            self._touched = max(self._touched, self._top)

    def release(self, number: int) -> None:
        """Take a block back.

        Args:
            number: Of a block that was allocated.
        """
        start, size, asked = self._blocks.pop(number)
        self.live -= asked
        if start < 0:
            self._unmap(size)
            return
        before = self._free_until.get(start)
        if before is not None:
            size += self._drop(before)
            start = before
        if start + size in self._free_at:
            size += self._drop(start + size)
        if start + size == self._top:
            self._shrink(start)
        else:
            self._keep(start, size)

    def _reuse(self, number: int, asked: int, needed: int, place: int) -> None:
        size, start = self._free[place]
        self._drop(start)
        if self._is_taken():
            start, size = start + _CUT, size - _CUT
        self._blocks[number] = (start, needed, asked)
        rest = size - needed
        if rest >= _SMALL or (rest > 0 and not self._is_taken()):
            self._keep(start + needed, rest)

    def _is_taken(self) -> bool:
        return self._chance.random() < self._taken

    def _shrink(self, top: int) -> None:
        self._top = top
        if self._end - top >= self._trim_threshold:
            self._end = _up(top + _TOP_PAD, _PAGE)
            self._touched = min(self._touched, self._end)

    def _unmap(self, size: int) -> None:
        self._mapped -= size
        if self._threshold < size <= _LARGEST_THRESHOLD:
            self._threshold, self._trim_threshold = size, 2 * size

    def _keep(self, start: int, size: int) -> None:
        insort(self._free, (size, start))
        self._free_at[start] = size
        self._free_until[start + size] = start

    def _drop(self, start: int) -> int:
        size = self._free_at.pop(start)
        del self._free_until[start + size]
        del self._free[bisect_left(self._free, (size, start))]
        return size


Events = Sequence[tuple[int, bool]]


def highest_resident(events: Events, sizes: Sequence[int], *, repeated_from: int) -> int:
    """Follow a log of allocations, and return the most that the process holds for it.

    Args:
        events: Number of a block, and whether it was made (else freed), in order.
        sizes: Bytes of each block by its number.
        repeated_from: Place in the log from which on a step is logged that comes again and again:
            a heap fills up over some steps.

    Returns:
        Bytes, the mean over a few draws of which cuttings are taken.
    """
    step = _closed(events[repeated_from:])
    found = []
    for seed in range(_DRAWS):
        heap = Heap(seed=seed)
        most = _follow(heap, events, sizes, first=0)
        # What the step left behind is freed by the next one.
        for number in {n for n, _ in step} & heap.held:
            heap.release(number)
        for again in range(1, _REPEATS + 1):
            most = max(most, _follow(heap, step, sizes, first=again * len(sizes)))
        found.append(most)
    return round(mean(found))


def _closed(events: Events) -> Events:
    """Return the events of what is made among them; what stays is freed at the end."""
    made: set[int] = set()
    found: list[tuple[int, bool]] = []
    for number, born in events:
        if born or number in made:
            found.append((number, born))
            (made.add if born else made.discard)(number)
    return [*found, *((number, False) for number in sorted(made))]


def _follow(heap: Heap, events: Events, sizes: Sequence[int], *, first: int) -> int:
    most = 0
    for number, born in events:
        if born:
            heap.allocate(first + number, sizes[number])
            most = max(most, heap.resident)
        else:
            heap.release(first + number)
    return most


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
