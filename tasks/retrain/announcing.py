"""What became of a model, told outside: Prefect's events, which automations act on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from prefect.events import emit_event

EventName = Literal["promoted", "rejected", "skipped", "failed", "rolled-back", "refused", "let-go"]


def announce(
    event: EventName,
    model_name: str,
    *,
    reason: str,
    recipe: str = "",
    figures: Mapping[str, float] | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Emit an event ``retune.<event>`` about a model.

    Args:
        event: What happened.
        model_name: The registered model, the event's resource ``retune.model.<name>``.
        reason: Why, for a person.
        recipe: The recipe's name; empty where a person acted without one.
        figures: Numbers by name.
        details: What else the payload holds, such as versions and addresses.
    """
    # Prefect relates the flow run, its deployment and its work pool by itself.
    related = {
        "prefect.resource.id": f"retune.recipe.{recipe}",
        "prefect.resource.role": "recipe",
        "prefect.resource.name": recipe,
    }
    emit_event(
        event=f"retune.{event}",
        resource={
            "prefect.resource.id": f"retune.model.{model_name}",
            "prefect.resource.name": model_name,
        },
        related=[related] if recipe else [],
        payload={"reason": reason, "figures": dict(figures or {}), **(details or {})},
    )
