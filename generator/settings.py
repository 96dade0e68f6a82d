"""Settings, inputs and records of the stages that rebuild the embedded default."""

from __future__ import annotations

from pydantic import Field

from retune.records import ArtifactRecord, Record
from retune.spine.stage import Settings


class DrawRecipe(Record):
    """How the datasets are drawn."""

    seed: int = 0
    """Seed of everything in them."""


class TokenizerRecipe(Record):
    """How the tokenizer is trained."""

    vocabulary_size: int = 4096
    """Tokens, special ones included."""
    seed: int = 0
    """Seed of the text that it is trained on."""


class BaseRecipe(Record):
    """How the base is trained from scratch."""

    steps: int = 3200
    """Optimizer steps; they decide the result, never the time."""
    batch_rows: int = 32
    """Conversations per step."""
    peak_learning_rate: float = 1.5e-3
    """Learning rate after the warm-up."""
    seed: int = 0
    """Seed of the weights and of the stream of conversations."""


class MoreRecipe(Record):
    """How the base is trained on, over rows of all levels, once it has been taught."""

    steps: int = 3600
    """Optimizer steps of the second cycle; they decide the result, never the time."""
    batch_rows: int = 32
    """Conversations per step."""
    peak_learning_rate: float = 1.2e-3
    """Learning rate after the second warm-up."""
    seed: int = 1
    """Seed of the stream; another one than before, so that no conversation comes twice."""


class RebuildRecipe(Record):
    """All settings of `make base`; the defaults made what ships."""

    draw: DrawRecipe = Field(default_factory=DrawRecipe)
    """The datasets."""
    tokenizer: TokenizerRecipe = Field(default_factory=TokenizerRecipe)
    """The tokenizer."""
    base: BaseRecipe = Field(default_factory=BaseRecipe)
    """The base's first cycle, with the curriculum."""
    more: MoreRecipe = Field(default_factory=MoreRecipe)
    """The base's second cycle."""


class Nothing(Record):
    """No inputs."""


class DrawSettings(Settings):
    """Settings of `draw_task` and `draw_small_sets`."""

    draw: DrawRecipe


class TokenizerSettings(Settings):
    """Settings of `train_tokenizer`."""

    tokenizer: TokenizerRecipe


class BaseSettings(Settings):
    """Settings of `pretrain_base`."""

    base: BaseRecipe


class MoreSettings(Settings):
    """Settings of `continue_base`."""

    more: MoreRecipe


class DrawnRef(ArtifactRecord):
    """Files that the generator made."""


class PretrainedRef(ArtifactRecord):
    """A base trained from scratch."""

    parameters: int
    steps: int
    english_exact_match: float
    """Share of held-out English rows answered with the very query, 0 to 1."""


class BaseInputs(Record):
    """What the base is trained with, and measured on."""

    task: DrawnRef
    tokenizer: DrawnRef


class MoreInputs(Record):
    """The base to train on, and the task that it is measured on."""

    task: DrawnRef
    base: PretrainedRef
