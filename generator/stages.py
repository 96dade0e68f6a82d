"""The stages that rebuild the embedded default: a table of their own, as no recipe runs them."""

from __future__ import annotations

from typing import Any

from generator.settings import (
    BaseInputs,
    BaseSettings,
    DrawnRef,
    DrawSettings,
    MoreInputs,
    MoreSettings,
    Nothing,
    PretrainedRef,
    TokenizerSettings,
)
from retune.modeling.libraries import ADAPTED
from retune.spine.stage import Stage, Workdir, stage

_TRAINED = (*ADAPTED, "numpy", "scipy", "sqlglot")
"""With what the base is measured by."""


@stage(Nothing, version=1)
def draw_task(inputs: Nothing, settings: DrawSettings, work: Workdir) -> DrawnRef:
    """Draw the rows, databases and probes of the task."""
    from generator.rebuilding import draw_task

    return draw_task(inputs, settings, work)


@stage(Nothing, version=1)
def draw_small_sets(inputs: Nothing, settings: DrawSettings, work: Workdir) -> DrawnRef:
    """Draw the small sets of other kinds of rows."""
    from generator.rebuilding import draw_small_sets

    return draw_small_sets(inputs, settings, work)


@stage(Nothing, version=1, libraries=("tokenizers", "transformers"), on_device=True)
def train_tokenizer(inputs: Nothing, settings: TokenizerSettings, work: Workdir) -> DrawnRef:
    """Train the tokenizer."""
    from generator.rebuilding import train_tokenizer

    return train_tokenizer(inputs, settings, work)


@stage(BaseInputs, version=1, libraries=_TRAINED, on_device=True)
def pretrain_base(inputs: BaseInputs, settings: BaseSettings, work: Workdir) -> PretrainedRef:
    """Train the base from scratch."""
    from generator.rebuilding import pretrain_base

    return pretrain_base(inputs, settings, work)


@stage(MoreInputs, version=1, libraries=_TRAINED, on_device=True)
def continue_base(inputs: MoreInputs, settings: MoreSettings, work: Workdir) -> PretrainedRef:
    """Train the base on, over rows of all levels."""
    from generator.rebuilding import continue_base

    return continue_base(inputs, settings, work)


STAGES: dict[str, Stage[..., Any]] = {
    each.name: each
    for each in (draw_task, draw_small_sets, train_tokenizer, pretrain_base, continue_base)
}
