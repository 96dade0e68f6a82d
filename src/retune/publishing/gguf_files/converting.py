"""Writing a snapshot as one GGUF file, a weight at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retune.publishing.choices import NumberType
from retune.publishing.gguf_files.families import add_hyperparameters, family_of
from retune.publishing.gguf_files.tensors import choose_type, list_tensors
from retune.publishing.gguf_files.vocabulary import add_vocabulary

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def resolve_type(wanted: NumberType, config: PretrainedConfig) -> NumberType:
    """Return the number type of a file: for auto the one that rounds bfloat16 not at all.

    Args:
        wanted: As it was asked for.
        config: Of the snapshot.
    """
    if wanted != "auto":
        return wanted
    return "bf16" if str(config.dtype).removeprefix("torch.") == "bfloat16" else "f16"


def write_gguf(
    weights: Path, tokenizer: Path, target: Path, *, number_type: NumberType, name: str
) -> None:
    """Write a snapshot as a GGUF file.

    Args:
        weights: The snapshot.
        tokenizer: Folder of its tokenizer.
        target: The file.
        number_type: Of matrices; vectors are in float32. Not auto.
        name: What the model is called in it.

    Raises:
        ConfigError: The model cannot be written; see `family_of` and `name_pre_tokenizer`.
        OSError: The disk is full or not writable.
    """
    from gguf import GGML_QUANT_VERSION, GGUFWriter, LlamaFileType
    from gguf.quants import quant_shape_to_byte_shape, quantize
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(weights, local_files_only=True)
    writer = GGUFWriter(target, family_of(config).architecture)
    writer.add_name(name)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    prefix = "ALL" if number_type == "f32" else "MOSTLY"
    writer.add_file_type(LlamaFileType[f"{prefix}_{number_type.upper()}"])
    add_hyperparameters(writer, config)
    kinds, rows = {}, config.vocab_size
    for tensor in list_tensors(weights, config):
        kind = kinds[tensor.target] = choose_type(tensor, number_type)
        shape = quant_shape_to_byte_shape(tensor.values.shape, kind)
        # Bytes of this shape stand for the weight's own shape.
        size = int(np.prod(shape))
        writer.add_tensor_info(tensor.target, shape, np.dtype(np.uint8), size, raw_dtype=kind)
    add_vocabulary(writer, tokenizer, rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in list_tensors(weights, config):
        writer.write_tensor_data(quantize(tensor.values, kinds[tensor.target]))
    writer.close()
