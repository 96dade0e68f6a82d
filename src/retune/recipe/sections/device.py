"""The section on the device that a recipe is meant for: what it holds, and what it costs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from retune.recipe.sections.base import Section, Text


class DeviceConfig(Section):
    """The device that a recipe is meant for: for estimates and comparisons, no part of results."""

    memory: Annotated[Text, Field(pattern=r"^[1-9][0-9]*(MB|GB)$", examples=["24GB"])] | None = None
    """Memory of the device, in units of 1,000. null: what this machine has."""

    ram: Annotated[Text, Field(pattern=r"^[1-9][0-9]*(MB|GB)$", examples=["32GB"])] | None = None
    """RAM beside a GPU, in units of 1,000. null: what this machine has."""

    placement: Literal["auto", "device", "offloaded", "cpu"] = "auto"
    """Where models are held that are scored, merged and registered; training is on the device
    always. auto: on the device where that fits, else with the layers that do not fit on the disk
    (offloaded), else on the CPU. It changes no figure beyond the last digits."""

    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """What an hour of it costs. null: costs are not shown."""

    currency: Annotated[Text, Field(pattern=r"^[A-Z]{3}$", examples=["USD", "BRL"])] = "USD"
    """Currency of the price, as its three letters."""
