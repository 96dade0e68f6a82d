"""Sections on measuring a model: scores on held-out rows, and probes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from retune.recipe.sections.base import Count, CountOrZero, RecipePath, Section, Text


class ScoringRuntime(Section):
    """What cannot change a score; no part of the stage key."""

    batch_size: Count = 32
    """Rows that go through the model at once; lower it where memory is short."""


class ScoringConfig(Section):
    """Generation and metrics on the held-out rows."""

    max_new_tokens: Count = 128
    """Most tokens of one answer; what a model would write after them is not seen."""

    sql_dialect: Annotated[Text, Field(pattern=r"^[a-z0-9]+$", examples=["sqlite", "postgres"])] = (
        "sqlite"
    )
    """SQL dialect of the answers, as sqlglot names it."""

    sql_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Longest that one query may run before its process is killed: a prediction that takes longer
    is wrong, a reference that does leaves its row unscored."""

    samples: CountOrZero = 3
    """Rows that the report shows in full: question, reference, answers of base and tuned model."""

    resamples: Annotated[int, Field(ge=100)] = 10_000
    """Bootstrap draws behind the 95 % intervals of perplexity and of differences."""

    runtime: ScoringRuntime = Field(default_factory=ScoringRuntime)
    """What cannot change a score."""


class ProbesConfig(Section):
    """Fixed questions whose answers must or must not hold certain words."""

    file: RecipePath
    """File of probe cases (.yaml)."""

    max_new_tokens: Count = 96
    """Most tokens of one answer."""
