"""The processes that train together, and what they agree on.

A process of its own is one rank of one, and agrees with itself: what trains need not ask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: Its number, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this one writes what the training keeps."""
        return self.rank == 0

    def agree(self, decide: Callable[[], Value]) -> Value:
        """Let the main process decide, and return its decision in all of them.

        Args:
            decide: Is called there alone; what it wrote is there for the others.

        Returns:
            What it returned; anything that can be pickled.
        """
        if self.count == 1:
            return decide()
        found: list[Value | None] = [decide() if self.is_main else None]
        dist.broadcast_object_list(found, src=0)
        return found[0]  # type: ignore[return-value]

    def any(self, flag: bool) -> bool:
        """Say in all processes whether one of them says so."""
        return self.total(int(flag)) > 0

    def total(self, number: int) -> int:
        """Return in all processes the sum of their numbers."""
        if self.count == 1:
            return number
        found = torch.tensor(number)
        dist.all_reduce(found)
        return int(found)

    def gather(self, value: Value) -> list[Value]:
        """Return in all processes the value of each, by rank."""
        if self.count == 1:
            return [value]
        found: list[Value | None] = [None] * self.count
        dist.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    def wait(self) -> None:
        """Go on when all processes have come here."""
        self.total(0)


def find_ranks() -> Ranks:
    """Return the place of this process; the only one where no training on several devices runs."""
    if not dist.is_initialized():
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size())


def choose_backend(on_gpus: bool) -> str:
    """Return by what ranks talk: what they agree on by the CPU, gradients where the model is."""
    return "cpu:gloo,cuda:nccl" if on_gpus else "gloo"


def join_ranks(expected: int) -> Ranks:
    """Meet the other processes of this training, as torch's launcher or Ray has them started.

    Args:
        expected: How many there must be.

    Returns:
        This one's place.

    Raises:
        RuntimeError: There are not as many. Some launchers start one process in place of several,
            and say nothing.
    """
    # Those that Ray started have met.
    if not dist.is_initialized():
        dist.init_process_group(choose_backend(torch.cuda.is_available()))
    ranks = find_ranks()
    if ranks.count != expected:
        raise RuntimeError(f"{ranks.count} processes train together; expected {expected}.")
    return ranks
