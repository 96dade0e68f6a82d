"""In which form a model is held and where: one choice from sizes alone, of plan and stages alike.

The *form* is part of results: a model in 4 bits says other things than in 16, so figures of two
forms are never compared. The *placement* is no part of them: weights that wait elsewhere say the
same as those on the device, later.

- ``device``: whole on the device that computes; on a machine without a GPU that is its RAM.
- ``offloaded``: as many layers as fit on the device; the others are read from the snapshot's
  safetensors whenever they are needed, one layer at a time. The system keeps what it reads of files
  while it has RAM to spare, so that no RAM need be set aside for them.
- ``cpu``: whole in RAM, and computed there; without a GPU no other place than ``device``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

from pydantic import Field

from retune.machine import DeviceName, exact_heap
from retune.model_records import WHOLE, Placement, StagePlace
from retune.recipe.sections.scoring import Form
from retune.records import Record

PlacementChoice = Literal["auto", "device", "offloaded", "cpu"]

PLACES = "placements"
"""Under which name a stage's context holds `StagePlaces`."""


class FormSizes(Record):
    """What a model takes in one form, in bytes."""

    weights: int
    largest: int
    """The largest piece of the weights that is moved at once: a linear layer, or an embedding."""
    working: int
    """What lives beside the weights at the highest moment of the work."""
    loading: int = 0
    """What loading holds beside the weights for a moment, before any of the work is done."""


class Room(Record):
    """The memory of a machine, in bytes."""

    kind: DeviceName
    device: int
    """Of the GPU; of a machine without one the RAM."""
    ram: int
    runtime: int = 0
    """What of the RAM the process and its libraries hold, before a model is loaded."""
    context: int = 0
    """What of a GPU the process holds by then; 0 without one."""


class Candidate(Record):
    """A form and a placement, and the peaks with them."""

    form: Form
    placement: Placement
    device_bytes: int
    """Peak on the GPU; 0 where nothing is held on one."""
    ram_bytes: int
    """Peak of the process in RAM, libraries included."""

    def fits(self, room: Room) -> bool:
        """Tell whether both peaks are within a machine's memory."""
        return self.device_bytes <= room.device and self.ram_bytes <= room.ram


def list_candidates(
    sizes: Mapping[Form, FormSizes],
    room: Room,
    *,
    wanted: PlacementChoice = "auto",
) -> list[Candidate]:
    """Return what can be chosen, in the order of choice, whether it fits or not.

    Args:
        sizes: By form that the recipe allows.
        room: The machine.
        wanted: What the recipe says.
    """
    return [
        _hold(sizes[form], room, form, placement)
        for form, placement in _ways(room)
        if form in sizes and (wanted == "auto" or placement == _meant(wanted, room))
    ]


def _ways(room: Room) -> Iterator[tuple[Form, Placement]]:
    yield "plain", "device"
    yield "nf4", "device"
    # 4-bit layers are not offloaded: transformers refuses it, and they are small.
    yield "plain", "offloaded"
    if room.kind != "cpu":
        yield "plain", "cpu"
        yield "nf4", "cpu"


def _meant(wanted: PlacementChoice, room: Room) -> str:
    # The device of a machine without a GPU is its CPU.
    return "device" if room.kind == "cpu" and wanted == "cpu" else wanted


def _hold(sizes: FormSizes, room: Room, form: Form, placement: Placement) -> Candidate:
    whole = sizes.weights + max(sizes.working, sizes.loading)
    device = {
        "device": room.context + whole,
        "offloaded": _offloaded(sizes, room),
        "cpu": 0,
    }[placement]
    if room.kind == "cpu":
        return Candidate(
            form=form, placement=placement, device_bytes=0, ram_bytes=room.runtime + device
        )
    # Weights reach a GPU through RAM one piece at a time.
    held = whole if placement == "cpu" else sizes.largest
    return Candidate(
        form=form, placement=placement, device_bytes=device, ram_bytes=room.runtime + held
    )


def _offloaded(sizes: FormSizes, room: Room) -> int:
    return room.context + resident_bytes(sizes, room) + 2 * sizes.largest + sizes.working


def resident_bytes(sizes: FormSizes, room: Room) -> int:
    """Return how many bytes of the weights stay on the device while others are offloaded.

    Args:
        sizes: In the form that is loaded.
        room: The machine.

    Returns:
        What is left beside the work and the layer on its way; 0 where nothing is.
    """
    free = room.device - (room.runtime if room.kind == "cpu" else room.context)
    # A piece on its way is read, and then in its number type: two of them for a moment.
    return max(0, min(sizes.weights, free - sizes.working - 2 * sizes.largest))


class StagePlaces(Record):
    """What the plan says to the stages; they are given it in their context, as it is no result."""

    stages: dict[str, StagePlace] = Field(default_factory=dict)
    """By name of the stage, for scoring one entry for all: ``score``."""

    @classmethod
    def read(cls, context: Mapping[str, str]) -> StagePlaces:
        """Return what a stage's context holds; everything on the device where it holds nothing."""
        text = context.get(PLACES)
        return cls.model_validate_json(text) if text else cls()

    def of(self, stage: str) -> StagePlace:
        """Return where a stage holds its model; on the device where the plan does not say."""
        return self.stages.get(stage, WHOLE)


def planned_heap(context: Mapping[str, str], stage: str) -> AbstractContextManager[None]:
    """Return what a stage runs in, so that its heap holds what the plan says.

    Args:
        context: The stage's.
        stage: Its name in the plan.
    """
    place = StagePlaces.read(context).of(stage)
    return exact_heap() if place.exact_heap else nullcontext()
