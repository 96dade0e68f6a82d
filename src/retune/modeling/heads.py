"""Classification heads: one figure per class, read at the last real token of a text.

transformers' own sequence classifiers find that token by the id of the padding, which is another
token where text may hold that id (padding by the end token), and none where a model is given
embeddings. Here the attention mask says it, at either padding side, and the mask gives the
positions too, so that padding moves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MethodType
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast
from transformers.utils import logging

from retune.errors import ConfigError
from retune.model_records import WHOLE, StagePlace
from retune.modeling.architectures import open_snapshot
from retune.modeling.four_bit import use_plain_4bit_kernels
from retune.modeling.head_files import HEAD_WEIGHTS
from retune.modeling.weights import refuse_wrong

HEAD = "score"
"""Name of the head in transformers' sequence classifiers that read one token."""

_FIRST_STD = 0.02


def add_head(
    folder: Path,
    *,
    labels: Sequence[str],
    pad_token_id: int,
    dtype: torch.dtype,
    device: torch.device,
    place: StagePlace = WHOLE,
    seed: int = 0,
    dropout: float = 0.0,
    **options: Any,
) -> PreTrainedModel:
    """Load a snapshot of a model that writes with a new head in place of the language model's.

    Args:
        folder: Plain or 4-bit snapshot.
        labels: Names of the classes; the head's figures are in this order.
        pad_token_id: For transformers' own pooling of the saved model.
        dtype: Of the weights that are not quantized; the head's are float32.
        device: Where it goes.
        place: Whether a part of it stays on the disk, or all of it is computed on the CPU.
        seed: Of the head's first weights, small and random, the same on every device.
        dropout: Part of what the head reads that is zeroed in training.
        options: Passed to `from_pretrained`.

    Returns:
        The classifier in evaluation mode, with the pooling of `pool_last_real_token`.

    Raises:
        ConfigError: There are fewer than two labels, or the family has no such classifier.
    """
    if len(labels) < 2:
        raise ConfigError(
            f"head: found {len(labels)} labels ({', '.join(labels)}); a head tells at least two "
            "classes apart. Add rows of another class, or correct data.columns.answer."
        )
    names = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: place for place, label in enumerate(labels)},
    }
    model = _load(
        folder, dtype, device, allowed={f"{HEAD}.weight"}, place=place, **names, **options
    )
    model.config.pad_token_id = pad_token_id
    model.config.get_text_config().pad_token_id = pad_token_id
    width = int(model.config.get_text_config().hidden_size)
    first = torch.randn(
        (len(labels), width), generator=torch.Generator().manual_seed(seed), dtype=torch.float32
    )
    head = nn.Linear(width, len(labels), bias=False, device=device, dtype=torch.float32)
    with torch.no_grad():
        head.weight.copy_(first * _FIRST_STD)
    # A new layer: loading a 4-bit snapshot may have made the old one of another class.
    setattr(model, HEAD, head)
    return pool_last_real_token(model, dropout=dropout)


def load_classifier(
    folder: Path,
    *,
    dtype: torch.dtype,
    device: torch.device,
    place: StagePlace = WHOLE,
    **options: Any,
) -> PreTrainedModel:
    """Load a snapshot that has a classification head.

    Args:
        folder: Its `config.json` names the labels.
        dtype: Of the weights.
        device: Where it goes.
        place: Whether a part of it stays on the disk, or all of it is computed on the CPU.
        options: Passed to `from_pretrained`.

    Returns:
        The classifier in evaluation mode, with the pooling of `pool_last_real_token`.

    Raises:
        ConfigError: transformers cannot load it, or would fill missing weights with random ones.
    """
    return pool_last_real_token(_load(folder, dtype, device, allowed=set(), place=place, **options))


def _load(
    folder: Path, dtype: torch.dtype, device: torch.device, allowed: set[str], **options: Any
) -> PreTrainedModel:
    # The report on a head that is missing says what is meant to be so; others are told below.
    shown = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, found = open_snapshot(
            folder, dtype=dtype, device=device, auto=AutoModelForSequenceClassification, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"{folder}: cannot be loaded with a classification head ({error})."
        ) from error
    finally:
        logging.set_verbosity(shown)
    check_reads_one_token(model, folder)
    refuse_wrong(folder, found, allowed)
    use_plain_4bit_kernels(model, dtype if device.type == "cpu" else None)
    return cast(PreTrainedModel, model.eval())


def check_reads_one_token(model: PreTrainedModel, folder: Path) -> None:
    """Refuse a family whose classifiers in transformers are built in another way.

    Args:
        model: A sequence classifier of transformers.
        folder: The snapshot that it is made of.

    Raises:
        ConfigError: It has no head that reads one token.
    """
    if not isinstance(getattr(model, HEAD, None), nn.Linear):
        raise ConfigError(
            f"{folder}: {type(model).__name__} does not read one token by a linear layer named "
            f"{HEAD}, so that it gets no head here. Choose a family of decoders, such as Llama."
        )


def pool_last_real_token(model: PreTrainedModel, *, dropout: float = 0.0) -> PreTrainedModel:
    """Let a classifier read the last token that the attention mask calls real.

    Its class, its weights and how it is saved stay those of transformers; adapters that give
    embeddings or earlier keys and values, with a mask that is longer than the text, are read right.

    Args:
        model: One of transformers' sequence classifiers with a linear head; it is changed.
        dropout: Part of what the head reads that is zeroed in training.

    Returns:
        The same model.
    """

    def forward(
        self: PreTrainedModel,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutputWithPast:
        given = input_ids if input_ids is not None else inputs_embeds
        length = cast(torch.Tensor, given).shape[1]
        if position_ids is None and attention_mask is not None:
            position_ids = _positions(attention_mask, length)
        said = self.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=False,
            **{name: value for name, value in kwargs.items() if value is not None},
        )
        logits = _read(self, said.last_hidden_state, attention_mask, dropout)
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutputWithPast(loss=loss, logits=logits)

    # On the instance: a class of our own would be named in config.json.
    model.forward = MethodType(forward, model)
    return model


def last_real_tokens(attention_mask: torch.Tensor | None, length: int) -> torch.Tensor | int:
    """Return where the last real token of each row is.

    Args:
        attention_mask: ``(rows, length or more)``; what is more stands before the text, as the
            learned positions of prefix tuning do. None: all tokens are real.
        length: Tokens that the model was given.

    Returns:
        Positions, ``(rows,)``; -1 without a mask.
    """
    if attention_mask is None:
        return -1
    real = (attention_mask[:, -length:] != 0).long()
    return length - 1 - real.flip(-1).argmax(-1)


def _positions(attention_mask: torch.Tensor, length: int) -> torch.Tensor:
    # Padding on the left must not shift what a model knows of positions.
    return ((attention_mask != 0).long().cumsum(-1) - 1).clamp(min=0)[:, -length:]


def _read(
    model: PreTrainedModel, hidden: torch.Tensor, mask: torch.Tensor | None, dropout: float
) -> torch.Tensor:
    rows = torch.arange(len(hidden), device=hidden.device)
    places = last_real_tokens(mask, hidden.shape[1])
    where = places.to(hidden.device) if isinstance(places, torch.Tensor) else places
    read = nn.functional.dropout(hidden[rows, where], dropout, model.training)
    head = cast(nn.Module, getattr(model, HEAD))
    # A few numbers per row: in their own precision they cost nothing, in 16 bits they tie.
    with torch.autocast(hidden.device.type, enabled=False):
        return cast(torch.Tensor, head(read.to(cast(torch.Tensor, head.weight).dtype)))


def save_head(model: PreTrainedModel, folder: Path) -> None:
    """Write the weights of a head alone.

    Args:
        model: A classifier.
        folder: Where to; made when missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weight = model.get_submodule(HEAD).weight
    save_file({f"{HEAD}.weight": weight.detach().cpu().contiguous()}, folder / HEAD_WEIGHTS)


def put_head(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Put the weights of a head that was trained alone on a model.

    Args:
        model: From `add_head`, with as many labels.
        folder: Holds `head.safetensors`.

    Returns:
        The same model.

    Raises:
        ConfigError: The weights are not there, or of another shape.
    """
    try:
        weights = load_file(folder / HEAD_WEIGHTS)
        model.get_submodule(HEAD).load_state_dict({"weight": weights[f"{HEAD}.weight"]})
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"{folder}: its head does not fit the base ({error}). It was trained on another model."
        ) from error
    return model
