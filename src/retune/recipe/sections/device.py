"""The section on the device that a recipe is meant for: what it holds, and what it costs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from retune.recipe.sections.base import Section, Text


class DeviceConfig(Section):
    """The device that a recipe is meant for: for estimates and comparisons, no part of results."""

    memory: Annotated[Text, Field(pattern=r"^[1-9][0-9]*(MB|GB)$", examples=["24GB"])] | None = None
    """Memory of the device, in units of 1,000. null: what this machine has."""

    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """What an hour of it costs. null: costs are not shown."""

    currency: Annotated[Text, Field(pattern=r"^[A-Z]{3}$", examples=["USD", "BRL"])] = "USD"
    """Currency of the price, as its three letters."""
