"""What adapters are merged into, loaded whole: the reference for what is read layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from transformers import PreTrainedModel

from retune.inference.loaded_models import load_causal_model
from retune.modeling.architectures import dequantized


def load_plain_model(folder: Path, *, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Load a snapshot; quantized weights become the values that they stand for."""
    model = dequantized(load_causal_model(folder, dtype=dtype, device=device))
    return cast(PreTrainedModel, model.to(dtype=dtype)).eval()
