"""The recipe as a whole: its sections, and the checks that look across them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from retune.recipe.sections import (
    DataConfig,
    GateConfig,
    LoraConfig,
    MergeConfig,
    MethodConfig,
    ModelConfig,
    ProbesConfig,
    PromptConfig,
    QuantizationConfig,
    RegistryConfig,
    ScoringConfig,
    Section,
    SplitConfig,
    StoreConfig,
    TrackingConfig,
    TrainingConfig,
    conflict,
    prompt_fields,
)
from retune.recipe.sections.base import Seed, Text

Conflicts = list[tuple[str, str]]


class Recipe(Section):
    """What to train, on what, how to measure it, and when to let it out."""

    name: Annotated[
        Text, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", examples=["text_to_sql_demo"])
    ]
    """Short name of runs, experiment and artifacts: small letters, digits, `_` and `-`."""

    seed: Seed = 7
    """Number that all chance in training is drawn from: weights, order, dropout."""

    data: DataConfig
    """Files with the rows to learn from and to be measured on."""

    split: SplitConfig = Field(default_factory=SplitConfig)
    """How rows are divided into training, validation and test."""

    prompt: PromptConfig = Field(default_factory=PromptConfig)
    """What the model reads before it answers."""

    model: ModelConfig
    """The base model."""

    quantization: QuantizationConfig = Field(default_factory=QuantizationConfig)
    """How the frozen base is compressed while adapters are trained."""

    method: MethodConfig = Field(default_factory=LoraConfig)
    """How the model is adapted; `kind` says which method."""

    training: TrainingConfig = Field(default_factory=TrainingConfig)
    """Supervised fine-tuning."""

    merge: MergeConfig = Field(default_factory=MergeConfig)
    """Merging the adapter into the base."""

    scoring: ScoringConfig = Field(default_factory=ScoringConfig)
    """Generation and metrics on the held-out rows."""

    probes: ProbesConfig | None = None
    """Fixed questions whose answers must or must not hold certain words. null: none are asked."""

    gate: GateConfig = Field(default_factory=GateConfig)
    """What a tuned model must show to become champion."""

    registry: RegistryConfig
    """Where accepted models are kept."""

    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    """Where MLflow writes runs."""

    store: StoreConfig = Field(default_factory=StoreConfig)
    """Where finished stages are kept."""

    @model_validator(mode="after")
    def _sections_fit(self) -> Recipe:
        found = [*_split_conflicts(self), *_database_conflicts(self), *_probe_conflicts(self)]
        if found:
            raise conflict(*found)
        return self


def _split_conflicts(recipe: Recipe) -> Conflicts:
    found: Conflicts = []
    split = recipe.split
    held_back = split.validation_fraction + split.test_fraction
    if recipe.data.test is None and held_back >= 1:
        reason = (
            f"validation_fraction + test_fraction is {held_back:g}: nothing is left to train on"
        )
        found.append(("split.validation_fraction", f"{reason}; expected a sum under 1"))
    if split.grouped and recipe.data.columns.group is None:
        reason = "is true, but data.columns.group is null: nothing says which rows belong together"
        found.append(("split.grouped", f"{reason}; name the key, or set it to false"))
    return found


def _database_conflicts(recipe: Recipe) -> Conflicts:
    if recipe.data.databases is not None:
        return []
    found: Conflicts = []
    if recipe.gate.metric == "sql_execution_match":
        reason = "is sql_execution_match, but data.databases names no databases to execute on"
        found.append(("gate.metric", f"{reason}; give them, or choose another metric"))
    if "schema" in prompt_fields(recipe.prompt.user):
        reason = "has {schema}, but data.databases names no databases to take it from"
        found.append(("prompt.user", f"{reason}; give them, or remove {{schema}}"))
    return found


def _probe_conflicts(recipe: Recipe) -> Conflicts:
    if recipe.probes is not None:
        return []
    found: Conflicts = []
    if recipe.gate.metric == "probe_pass_rate":
        reason = "is probe_pass_rate, but the recipe has no probes section"
        found.append(("gate.metric", f"{reason}; add probes.file, or choose another metric"))
    if recipe.gate.min_probe_pass_rate is not None:
        reason = "is set, but the recipe has no probes section"
        found.append(("gate.min_probe_pass_rate", f"{reason}; add probes.file, or remove it"))
    return found
