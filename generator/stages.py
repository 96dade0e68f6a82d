"""The stages that rebuild the embedded default: a table of their own, as no recipe runs them."""

from __future__ import annotations

from typing import Any

from generator.settings import (
    BaseInputs,
    BaseSection,
    DrawnRef,
    DrawSection,
    MoreInputs,
    MoreSection,
    Nothing,
    PretrainedRef,
    TokenizerSection,
)
from retune.stage import Stage

DRAW_TASK = Stage(
    name="draw_task",
    version=1,
    function="generator.rebuilding:draw_task",
    inputs=Nothing,
    section=DrawSection,
    output=DrawnRef,
)
DRAW_SMALL_SETS = Stage(
    name="draw_small_sets",
    version=1,
    function="generator.rebuilding:draw_small_sets",
    inputs=Nothing,
    section=DrawSection,
    output=DrawnRef,
)
TRAIN_TOKENIZER = Stage(
    name="train_tokenizer",
    version=1,
    function="generator.rebuilding:train_tokenizer",
    inputs=Nothing,
    section=TokenizerSection,
    output=DrawnRef,
    libraries=("tokenizers", "transformers"),
    on_device=True,
)
PRETRAIN_BASE = Stage(
    name="pretrain_base",
    version=1,
    function="generator.rebuilding:pretrain_base",
    inputs=BaseInputs,
    section=BaseSection,
    output=PretrainedRef,
    libraries=("torch", "transformers"),
    on_device=True,
)
CONTINUE_BASE = Stage(
    name="continue_base",
    version=1,
    function="generator.rebuilding:continue_base",
    inputs=MoreInputs,
    section=MoreSection,
    output=PretrainedRef,
    libraries=("torch", "transformers"),
    on_device=True,
)

STAGES: dict[str, Stage[Any]] = {
    stage.name: stage
    for stage in (DRAW_TASK, DRAW_SMALL_SETS, TRAIN_TOKENIZER, PRETRAIN_BASE, CONTINUE_BASE)
}
