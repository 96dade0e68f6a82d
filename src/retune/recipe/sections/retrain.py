"""The section on retraining by itself: when it is worth it, at what cost, and where it starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retune.recipe.sections.base import Count, RecipePath, Section, Seed, Share, Text, conflict


class NewRowsConfig(Section):
    """More rows than the champion was trained from; either of the two is enough."""

    rows: Count | None = None
    """How many rows that the champion's rows do not have, by content. null: no such number."""

    share: Annotated[float, Field(gt=0)] | None = None
    """The same as a part of the champion's rows: 0.1 is ten percent more. null: no such part."""

    @model_validator(mode="after")
    def _says_how_many(self) -> NewRowsConfig:
        if self.rows is None and self.share is None:
            reason = "is null, and share too: any number of rows would do"
            raise conflict(("rows", f"{reason}; give one of them, or remove new_rows"))
        return self


class DriftConfig(Section):
    """What is asked in production is no longer what the champion was trained on."""

    log: RecipePath
    """File (`.jsonl`), or glob of such files, of served requests: an object a line with `prompt`
    (text) or `messages` (chat), and, of a classifier, `label`, the class it predicted."""

    column: Text = "prompt"
    """Key of what was asked."""

    min_rows: Count = 200
    """Fewest requests that anything is concluded from; at most `max_rows`."""

    max_rows: Count = 2000
    """Most requests that are looked at, the newest ones."""

    stability_index: Annotated[float, Field(gt=0)] = 0.2
    """Population stability index from which lengths, tokens or predicted classes count as drifted,
    where it is also above what chance gives (the null of the bootstrap)."""

    loss: bool = True
    """Whether the champion's own loss on the prompts is compared as well; needs the model."""

    seed: Seed = 7
    """Number that the bootstrap is drawn from."""

    @model_validator(mode="after")
    def _looks_at_enough(self) -> DriftConfig:
        if self.min_rows > self.max_rows:
            reason = f"is {self.min_rows}, and max_rows, the most that are looked at, is less"
            told = f"{reason} ({self.max_rows}): the trigger could never fire; lower min_rows"
            raise conflict(("min_rows", told))
        return self


class DegradedConfig(Section):
    """The champion is worse on newer labelled rows than it was when it was promoted."""

    rows: RecipePath
    """File of newer rows with their answers, in a layout of `data.train`."""

    loss: Annotated[float, Field(ge=0)] = 0.0
    """By how much the deciding figure must be shown to have become worse, in its own units."""


class TriggersConfig(Section):
    """What makes a retraining worth it; one is enough. All null: only a person, by hand."""

    schedule: bool = False
    """Whether every start of the flow retrains."""

    new_rows: NewRowsConfig | None = None
    """Rows that the champion has not seen. null: not asked."""

    max_age_days: Annotated[float, Field(gt=0)] | None = None
    """Age of the champion, since it was promoted, from which it is trained anew. null: any."""

    drift: DriftConfig | None = None
    """Requests that differ from the training rows. null: not asked."""

    degraded: DegradedConfig | None = None
    """Newer labelled rows on which the champion is worse. null: not asked."""


class RetrainConfig(Section):
    """When the flow `retrain` trains a challenger, and what it may cost."""

    triggers: TriggersConfig = Field(default_factory=TriggersConfig)
    """What makes it worth it."""

    cooldown_hours: Annotated[float, Field(ge=0)] = 0.0
    """Shortest time since the last training of a challenger."""

    max_per_week: Count | None = None
    """Most challengers that are trained in seven days. null: any number."""

    max_hours: Annotated[float, Field(gt=0)] | None = None
    """Longest training that may start, by `retune estimate`. null: any."""

    max_cost: Annotated[float, Field(gt=0)] | None = None
    """Most that it may cost, by `retune estimate` and `device.price_per_hour`. null: any."""

    start_from: Literal["base", "champion"] = "base"
    """Where training starts: from the base, or from the champion's adapter."""

    replay: Share = 0.3
    """With `start_from: champion`, the part of the training rows that is drawn from those that the
    champion has already seen, against forgetting; 1: all of them."""
