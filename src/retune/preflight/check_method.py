"""Whether a method fits a model, known from the model's configuration before a weight is read.

The method is put on a meta model: the same classes, layers and checks as in training, on no
memory. So what a training would refuse is refused before anything is quantized or scored.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from peft import PeftModel
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from retune.data.chats.tokenizers import load_tokenizer
from retune.digests import digest_json
from retune.model_records import MethodFit
from retune.modeling.architectures import read_architecture
from retune.modeling.heads import HEAD, check_reads_one_token
from retune.modeling.memory.meta_model import build_meta_model, count_parameters
from retune.modeling.methods.apply import apply_method
from retune.modeling.methods.prompt_checks import VirtualTokensConfig, check_room
from retune.modeling.starting import check_start
from retune.modeling.weights import check_weights
from retune.preflight.read_checks import check_lengths, check_tokens
from retune.preflight.reads import list_readings
from retune.preflight.stages import MethodInputs, MethodSettings
from retune.spine.stage import Workdir

_LABELS = 2


def check_method(inputs: MethodInputs, settings: MethodSettings, work: Workdir) -> MethodFit:
    """Refuse a method, a model or rows that do not fit each other.

    Args:
        inputs: The base, of which the configuration is read and the weights are looked through
            where they are here; and what it is given to read.
        settings: Method, quantization, head, and how much is written behind prompts.
        work: Unused; the result is its record.

    Returns:
        How many parameters would be trained.

    Raises:
        ConfigError: The method does not fit, a token has no row in the model, a text is over its
            context, or its weights are not what its configuration says.
    """
    folder, method, has_head = inputs.base.folder, settings.method, inputs.has_head
    quantized = settings.quantization != "none"
    build = _build_meta_classifier if has_head else _build_meta_writer
    model = build(folder, quantized)
    if isinstance(method, VirtualTokensConfig):
        columns = ["prompt_ids"] if has_head else ["prompt_ids", "answer_ids"]
        for side in (inputs.train, inputs.validation):
            check_room(model, method, side.folder / "rows.parquet", *columns)
    check_weights(folder, AutoModelForSequenceClassification if has_head else AutoModelForCausalLM)
    tokenizer, readings = load_tokenizer(folder), list(list_readings(inputs, settings))
    check_tokens(model, tokenizer, folder, readings)
    check_lengths(model, readings, getattr(method, "virtual_tokens", 0))
    with torch.device("meta"), warnings.catch_warnings():
        # Of libraries among each other; nothing is computed here.
        warnings.simplefilter("ignore")
        adapted = apply_method(
            model,
            method,
            task_type="SEQ_CLS" if has_head else "CAUSAL_LM",
            whole=(HEAD,) if has_head else (),
            tokenizer=folder,
            gradient_checkpointing=settings.gradient_checkpointing,
        )
    if inputs.start is not None and isinstance(adapted, PeftModel):
        check_start(inputs.start.path, adapted)
    trainable, total = count_parameters(adapted)
    return MethodFit(
        digest=digest_json({"trainable": trainable, "total": total}),
        trainable_parameters=trainable,
        total_parameters=total,
    )


def _build_meta_writer(folder: Path, quantized: bool) -> PreTrainedModel:
    read_architecture(folder, AutoModelForCausalLM)
    return build_meta_model(folder, dtype=torch.float32, quantized=quantized)


def _build_meta_classifier(folder: Path, quantized: bool) -> PreTrainedModel:
    auto = AutoModelForSequenceClassification
    read_architecture(folder, auto)
    model = build_meta_model(folder, dtype=torch.float32, quantized=quantized, auto=auto)
    check_reads_one_token(model, folder)
    width = int(model.config.get_text_config().hidden_size)
    # As in training, a new layer that is never quantized.
    setattr(model, HEAD, nn.Linear(width, _LABELS, bias=False, device="meta"))
    return model
