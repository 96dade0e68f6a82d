"""The typed, frozen sections of a recipe; defaults live here, once, each with its meaning."""

from retune.recipe.sections.base import Section, conflict, identity
from retune.recipe.sections.data import (
    ColumnsConfig,
    DataConfig,
    PromptConfig,
    SplitConfig,
    prompt_fields,
)
from retune.recipe.sections.model import (
    LoraConfig,
    MethodConfig,
    ModelConfig,
    QuantizationConfig,
)
from retune.recipe.sections.release import (
    GateConfig,
    RegistryConfig,
    StoreConfig,
    TrackingConfig,
)
from retune.recipe.sections.scoring import ProbesConfig, ScoringConfig, ScoringRuntime
from retune.recipe.sections.training import MergeConfig, TrainingConfig, TrainingRuntime

__all__ = [
    "ColumnsConfig",
    "DataConfig",
    "GateConfig",
    "LoraConfig",
    "MergeConfig",
    "MethodConfig",
    "ModelConfig",
    "ProbesConfig",
    "PromptConfig",
    "QuantizationConfig",
    "RegistryConfig",
    "ScoringConfig",
    "ScoringRuntime",
    "Section",
    "SplitConfig",
    "StoreConfig",
    "TrackingConfig",
    "TrainingConfig",
    "TrainingRuntime",
    "conflict",
    "identity",
    "prompt_fields",
]
