"""What is found when it is asked whether a challenger should be trained."""

from __future__ import annotations

from pydantic import Field

from retune.records import Record


class TriggerFinding(Record):
    """What one trigger says."""

    trigger: str
    """As the recipe calls it, such as ``new_rows``."""
    fires: bool
    """Whether it makes a training worth it."""
    reason: str
    """Why, in words, with its figures."""
    figures: dict[str, float] = Field(default_factory=dict)


class BoundFinding(Record):
    """What one bound on retraining says."""

    bound: str
    """As the recipe calls it, such as ``cooldown_hours``."""
    holds_back: bool
    """Whether no training may start, whatever the triggers say."""
    reason: str
    """Why, in words, with its figures."""
    figures: dict[str, float] = Field(default_factory=dict)


class Assessment(Record):
    """All that triggers and bounds say together."""

    triggers: tuple[TriggerFinding, ...]
    bounds: tuple[BoundFinding, ...] = ()
    """Empty where no trigger fires: nothing was to be held back."""

    @property
    def worth_it(self) -> bool:
        """Whether a challenger is to be trained."""
        return any(each.fires for each in self.triggers) and not self.held_back

    @property
    def held_back(self) -> bool:
        """Whether a bound keeps a training from starting."""
        return any(each.holds_back for each in self.bounds)

    @property
    def reason(self) -> str:
        """Why a challenger is trained, or why not."""
        held = [each.reason for each in self.bounds if each.holds_back]
        told = [each.reason for each in self.triggers if each.fires]
        if held:
            return f"held back: {'; '.join(held)} (worth it: {'; '.join(told)})"
        told = told or [each.reason for each in self.triggers]
        return "; ".join(told) or "no trigger is set in retrain.triggers, and nobody asked by hand"
