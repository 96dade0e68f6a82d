"""What merging is given, and what it hands on to be read again and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from retune.data.chats.tokenizers import Tokenizer
from retune.errors import StageError
from retune.model_records import Placement
from retune.spine.stage import Workdir
from retune.weights.equivalence import Answers, Difference, ModelOutputs
from retune.weights.stages import MergeInputs

_NOISE = 1e-4
"""Largest difference of a logit that the order of additions makes in float32, as a part of their
spread."""
_NOISE_OF_EFFECT = 1e-3
"""The same as a part of what the adapter changes: where that is large, so are its sums. One of a
thousand layers that is lost is about as much."""


@dataclass(frozen=True)
class MergeTask:
    """One merge.

    Attributes:
        inputs: Adapter and base.
        tokenizer: That is saved with the model.
        end_ids: Ids that end an answer.
        rows: That models are compared on.
        dtype: Of the merged weights.
        max_shard_size: Of their files.
        device: That computes what models say.
        placement: Where they are held meanwhile.
        work: The snapshot goes to its artifact folder.
    """

    inputs: MergeInputs
    tokenizer: Tokenizer
    end_ids: list[int]
    rows: Sequence[Mapping[str, Any]]
    dtype: torch.dtype
    max_shard_size: str
    device: torch.device
    placement: Placement
    work: Workdir

    @property
    def whole(self) -> bool:
        """Whether what was trained is a whole snapshot, and not something that is put on one."""
        return self.inputs.adapter.kind == "full"

    @property
    def weights(self) -> Path:
        """The snapshot that is read."""
        return self.inputs.adapter.folder if self.whole else self.inputs.base.folder

    @property
    def adapter(self) -> Path | None:
        """What is put on it."""
        return None if self.whole else self.inputs.adapter.folder

    @property
    def answers(self) -> Answers:
        """What models are asked for: of one that is read anew for each token, none is written."""
        return "likeliest" if self.placement == "offloaded" else "written"


@dataclass(frozen=True)
class Written:
    """What a merge wrote.

    Attributes:
        before: What the model said before anything was merged.
        digests: Of each weight as it was handed over to be saved.
    """

    before: ModelOutputs
    digests: dict[str, str]


def refuse_wrong_merge(difference: Difference, effect: float) -> None:
    """Refuse a merge that does not do what the adapter does, before anything is rounded.

    Args:
        difference: Of the merged model in float32 from the adapter over its base.
        effect: By how much the adapter moves a logit at most.

    Raises:
        StageError: It is more than the order of additions makes.
    """
    allowed = max(_NOISE * difference.logit_spread, _NOISE_OF_EFFECT * effect)
    if difference.max_logit_difference <= allowed:
        return
    raise StageError(
        f"merge_adapter: merged in float32, before any rounding, the model's logits differ from "
        f"the adapter's {difference}; expected at most {allowed:.3g}, where the adapter as a whole "
        f"moves them by up to {effect:.3g}. Nothing was released. A part of the adapter was lost "
        "or scaled otherwise: take out of method what is special (dora, target_parameters, "
        "modules_to_save, trainable_tokens), and report it with the method's settings."
    )


def refuse_unmerged(error: ValueError) -> StageError:
    """Return what is raised where peft does not merge."""
    return StageError(
        f"merge_adapter: the adapter cannot be merged ({error}). Nothing was released. Train "
        "it again; a lower training.learning_rate keeps weights finite."
    )
