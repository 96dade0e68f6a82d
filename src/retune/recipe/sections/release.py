"""Sections on what happens to a trained model: gate, registry, tracking, store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from retune.recipe.sections.base import Count, RecipePath, Section, Share, Text, conflict

Metric = Literal[
    "sql_execution_match",
    "sql_exact_match",
    "macro_f1",
    "accuracy",
    "perplexity",
    "probe_pass_rate",
]


class GateConfig(Section):
    """What a tuned model must show to become champion."""

    metric: Metric | None = None
    """Figure that decides. perplexity is better when lower, the others when higher. null:
    sql_execution_match where the rows are text-to-SQL, macro_f1 where they have labels, else
    perplexity."""

    min_gain: float = 0.0
    """The lower bound of the paired interval of the gain must exceed this; in units of the metric
    (0.02 is two percentage points of a match rate). Below 0: a small loss is accepted."""

    min_value: Share | None = None
    """Smallest acceptable value of the metric itself, 0 to 1; not for perplexity. null: any."""

    max_unscored_fraction: Share = 0.05
    """Largest part of the rows that may have gone without a score, 0 to 1."""

    min_probe_pass_rate: Share | None = None
    """Smallest part of the probes that must pass, 0 to 1, whatever the metric. null: any."""

    max_forgetting_bits: Annotated[float, Field(ge=0)] | None = None
    """Most bits per byte of general text (`scoring.general_text`) that the tuned model may have
    lost against the base, by the worse end of the paired interval. null: any."""

    @model_validator(mode="after")
    def _bounds_fit_the_metric(self) -> GateConfig:
        found = []
        if self.metric == "perplexity" and self.min_value is not None:
            reason = "cannot bound perplexity, which is better when lower"
            found.append(("min_value", f"{reason}; remove it and use min_gain"))
        if self.metric != "perplexity" and not -1 <= self.min_gain < 1:
            reason = f"{self.min_gain:g} is out of reach: {self.metric} lies between 0 and 1"
            found.append(("min_gain", f"{reason}; expected -1 to under 1 (0.02 is two points)"))
        if found:
            raise conflict(*found)
        return self


class RegistryConfig(Section):
    """Where accepted models are kept."""

    # MLflow refuses "/" and ":" in names, because they part a model's address.
    model_name: Annotated[
        Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", examples=["text-to-sql-pt"])
    ]
    """Name of the model in the MLflow registry; its aliases are champion and challenger."""

    check_rows: Count = 8
    """Held-out rows answered once more after the model is reloaded by its alias; the answers must
    be the same."""


class TrackingConfig(Section):
    """Where MLflow writes runs."""

    uri: Text | None = None
    """Address of the MLflow server or database, without password; the path in `sqlite:///PATH` is
    relative to the project's root. null: MLFLOW_TRACKING_URI, else SQLite in the store folder."""

    experiment: Text | None = None
    """Name of the MLflow experiment. null: MLFLOW_EXPERIMENT_NAME, else the recipe's name."""


class StoreConfig(Section):
    """Where finished stages are kept."""

    folder: RecipePath = Path(".retune")
    """Folder of artifacts; stages found in it are reused."""
