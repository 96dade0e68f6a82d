"""The typed, frozen sections of a recipe; defaults live here, once, each with its meaning."""

from retune.recipe.sections.alignment import DpoConfig, GrpoConfig
from retune.recipe.sections.base import Section, conflict
from retune.recipe.sections.data import (
    ColumnsConfig,
    DataConfig,
    FormatName,
    SourceConfig,
    SplitConfig,
)
from retune.recipe.sections.device import DeviceConfig
from retune.recipe.sections.head import HeadConfig
from retune.recipe.sections.judge import JudgeConfig
from retune.recipe.sections.method import (
    MERGEABLE,
    BottleneckConfig,
    FrozenConfig,
    FullConfig,
    LoraConfig,
    LowRankConfig,
    MethodConfig,
    MethodKind,
    PrefixConfig,
    PromptTuningConfig,
    PTuningConfig,
    QloraConfig,
)
from retune.recipe.sections.model import ModelConfig, QuantizationConfig
from retune.recipe.sections.prompt import PromptConfig, prompt_fields
from retune.recipe.sections.quality import LimitsConfig, QualityConfig
from retune.recipe.sections.release import (
    GateConfig,
    RegistryConfig,
    RunnerConfig,
    StoreConfig,
    TrackingConfig,
)
from retune.recipe.sections.retrain import (
    DegradedConfig,
    DriftConfig,
    NewRowsConfig,
    RetrainConfig,
    TriggersConfig,
)
from retune.recipe.sections.scoring import (
    ProbesConfig,
    RobustnessConfig,
    ScoringConfig,
    ScoringRuntime,
)
from retune.recipe.sections.training import (
    EarlyStoppingConfig,
    MergeConfig,
    TrainingConfig,
    TrainingRuntime,
    WatchedFigure,
)

__all__ = [
    "MERGEABLE",
    "BottleneckConfig",
    "ColumnsConfig",
    "DataConfig",
    "DegradedConfig",
    "DeviceConfig",
    "DpoConfig",
    "DriftConfig",
    "EarlyStoppingConfig",
    "FormatName",
    "FrozenConfig",
    "FullConfig",
    "GateConfig",
    "GrpoConfig",
    "HeadConfig",
    "JudgeConfig",
    "LimitsConfig",
    "LoraConfig",
    "LowRankConfig",
    "MergeConfig",
    "MethodConfig",
    "MethodKind",
    "ModelConfig",
    "NewRowsConfig",
    "PTuningConfig",
    "PrefixConfig",
    "ProbesConfig",
    "PromptConfig",
    "PromptTuningConfig",
    "QloraConfig",
    "QualityConfig",
    "QuantizationConfig",
    "RegistryConfig",
    "RetrainConfig",
    "RobustnessConfig",
    "RunnerConfig",
    "ScoringConfig",
    "ScoringRuntime",
    "Section",
    "SourceConfig",
    "SplitConfig",
    "StoreConfig",
    "TrackingConfig",
    "TrainingConfig",
    "TrainingRuntime",
    "TriggersConfig",
    "WatchedFigure",
    "conflict",
    "prompt_fields",
]
