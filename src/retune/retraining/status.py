"""How a model stands between two starts of the flow `retrain`."""

from __future__ import annotations

from retune.records import Record
from retune.registry.aliases.standing import ModelStanding
from retune.retraining.findings import BoundFinding, TriggerFinding


class RetrainStatus(Record):
    """The JSON of `retune status --json`."""

    recipe: str
    model_name: str
    at: str
    """When it was asked, UTC, ISO 8601."""
    standing: ModelStanding
    triggers: tuple[TriggerFinding, ...]
    bounds: tuple[BoundFinding, ...]
    needs_model: tuple[str, ...]
    """Triggers and bounds that only a start of the flow answers: they need a model."""
    next_run: str | None
    """When Prefect starts the flow on this recipe next, UTC, ISO 8601; None where it does not."""
    next_run_reason: str
    """The deployment, or why no start is due."""
