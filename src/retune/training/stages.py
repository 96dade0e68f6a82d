"""The stages that train: what each is given, what it reads of the recipe, and its version."""

from __future__ import annotations

import math
from typing import Annotated, TypeVar

from pydantic import ValidationInfo, field_validator

from retune.model_records import AdapterRef, BaseRef, ModelRef
from retune.modeling.libraries import ADAPTED
from retune.recipe.sections import (
    GrpoConfig,
    HeadConfig,
    MethodConfig,
    PromptConfig,
    ScoringConfig,
    TrainingConfig,
)
from retune.recipe.sections.model import Attention, Dtype, QuantizationKind
from retune.records import PairsRef, Record, SideRef, Source
from retune.scoring.figures import FIGURES
from retune.scoring.stages import WatchSettings
from retune.spine.stage import Settings, Workdir, reads, stage

_LEARNED = (*ADAPTED, "accelerate", "datasets")
_TRAINED = (*_LEARNED, "trl")
_WATCHED = ("numpy", "scikit-learn")
"""With what a training is scored by, where it is watched by more than its loss."""


class StartInputs(Record):
    """The model that a training starts from, quantized or not."""

    base: BaseRef
    model: ModelRef


class StartSettings(Settings):
    """What every training reads."""

    seed: int
    dtype: Annotated[Dtype, reads("model.dtype")]
    attention: Annotated[Attention, reads("model.attention")]
    compute_dtype: Annotated[Dtype, reads("quantization.compute_dtype")]
    method: MethodConfig
    training: TrainingConfig

    @field_validator("training")
    @classmethod
    def _start_is_an_input(cls, training: TrainingConfig) -> TrainingConfig:
        # What the folder holds is an input; where it lies changes nothing.
        return training.model_copy(update={"start_from": None})


class TrainInputs(StartInputs):
    """Chats to learn from, chats to watch the loss on, and the model to adapt."""

    train: SideRef
    validation: SideRef
    start: Source | None = None
    """Folder of the adapter whose weights training goes on from; None for new ones."""


class TrainSettings(WatchSettings, StartSettings):
    """Settings of `train_adapter`, and of what scores its model while it is trained."""

    quantization: Annotated[QuantizationKind, reads("quantization.kind")]
    max_length: Annotated[int, reads("prompt.max_length")]
    """What rows are packed to."""

    @field_validator("max_length", *(WatchSettings.model_fields.keys() - {"batch_size", "devices"}))
    @classmethod
    def _keep_what_counts(cls, value: object, info: ValidationInfo) -> object:
        # What this training makes no use of is always the default: how long answers may be trains
        # nothing again, unless the training is watched by its answers.
        training, name = info.data.get("training"), str(info.field_name)
        if training is None:
            return value  # it is refused for its own faults
        if name == "max_length":
            return value if training.packing else PromptConfig.model_fields[name].default
        watched = FIGURES.get(training.watch)  # the loss is no figure of a report
        counts = watched is not None and name in watched.watch_reads
        return value if counts else ScoringConfig.model_fields[name].default


@stage(TrainInputs, version=6, libraries=(*_TRAINED, *_WATCHED, "scipy", "sqlglot"), on_device=True)
def train_adapter(inputs: TrainInputs, settings: TrainSettings, work: Workdir) -> AdapterRef:
    """Train an adapter or all weights of a model that writes."""
    from retune.training.memory_ladder import train_in_memory
    from retune.training.supervised import train_adapter

    return train_in_memory(train_adapter, inputs, settings, work)


class ClassifierInputs(TrainInputs):
    """What an adapter is trained on, and the classes that its head tells apart."""

    labels: tuple[str, ...]


class ClassifierSettings(StartSettings):
    """Settings of `train_classifier`."""

    quantization: Annotated[QuantizationKind, reads("quantization.kind")]
    head: HeadConfig


@stage(ClassifierInputs, version=3, libraries=(*_LEARNED, *_WATCHED), on_device=True)
def train_classifier(
    inputs: ClassifierInputs, settings: ClassifierSettings, work: Workdir
) -> AdapterRef:
    """Train a classification head, and what the method says."""
    from retune.training.classifying import train_classifier
    from retune.training.memory_ladder import train_in_memory

    return train_in_memory(train_classifier, inputs, settings, work)


class PreferenceInputs(StartInputs):
    """Pairs to learn from, and what was trained before over a model."""

    pairs: PairsRef
    adapter: AdapterRef


class PreferenceSettings(StartSettings):
    """Settings of `train_preferences`."""

    beta: Annotated[float, reads("dpo.beta")]
    loss: Annotated[str, reads("dpo.loss")]
    max_steps: Annotated[int | None, reads("dpo.max_steps")]
    epochs: Annotated[float, reads("dpo.epochs")]
    batch_size: Annotated[int, reads("dpo.batch_size")]
    learning_rate: Annotated[float, reads("dpo.learning_rate")]


@stage(PreferenceInputs, version=2, libraries=_TRAINED, on_device=True)
def train_preferences(
    inputs: PreferenceInputs, settings: PreferenceSettings, work: Workdir
) -> AdapterRef:
    """Train what was trained before to prefer the chosen answers."""
    from retune.training.memory_ladder import train_in_memory
    from retune.training.preferences import train_preferences

    # TRL gathers figures of a batch from all processes, and aborts where one has fewer pairs.
    alone = _alone(settings, settings.batch_size)
    return train_in_memory(train_preferences, inputs, alone, work)


Started = TypeVar("Started", bound=StartSettings)


class RewardInputs(StartInputs):
    """Chats whose prompts are answered, and what was trained before over a model."""

    train: SideRef
    adapter: AdapterRef


class RewardSettings(StartSettings):
    """Settings of `train_rewards`."""

    grpo: GrpoConfig
    sql_dialect: Annotated[str, reads("scoring.sql_dialect")]
    sql_timeout_seconds: Annotated[float, reads("scoring.sql_timeout_seconds")]


@stage(RewardInputs, version=3, libraries=(*_TRAINED, "sqlglot"), on_device=True)
def train_rewards(inputs: RewardInputs, settings: RewardSettings, work: Workdir) -> AdapterRef:
    """Train what was trained before by rewards on its own answers."""
    from retune.training.memory_ladder import train_in_memory
    from retune.training.rewards import train_rewards

    # Answers are drawn from one generator, which several processes would have to share.
    alone = _alone(settings, settings.grpo.prompts_per_step * settings.grpo.answers)
    return train_in_memory(train_rewards, inputs, alone, work)


def _alone(settings: Started, rows: int) -> Started:
    """Return settings of a training after the first: on one device, its own rows in a step."""
    parts = math.gcd(rows, settings.training.gradient_accumulation)
    changed = {"devices": 1, "batch_size": rows, "gradient_accumulation": parts}
    return settings.model_copy(update={"training": settings.training.model_copy(update=changed)})
