"""Quantizing a base once, with what it saves and what it costs in perplexity."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from retune.data.tokenizers import load_tokenizer
from retune.digests import digest_folder, digest_json
from retune.errors import ConfigError
from retune.modeling.devices import choose_compute_dtype, choose_device, choose_dtype
from retune.modeling.loading import load_causal_model
from retune.modeling.reference import read_references, reference_perplexity
from retune.records import ModelRef
from retune.requests import QuantizeInputs, QuantizeSection
from retune.stage import Workdir


def as_bitsandbytes(
    *, double: bool, compute_dtype: torch.dtype, storage_dtype: torch.dtype
) -> BitsAndBytesConfig:
    """Return bitsandbytes' form of the quantization settings.

    Args:
        double: Whether the quantization constants are quantized too.
        compute_dtype: What the layers multiply in.
        storage_dtype: What the packed weights are stored as; uint8 is the default of the library.

    Returns:
        A 4-bit NormalFloat configuration.
    """
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=compute_dtype,
        bnb_4bit_quant_storage=storage_dtype,
    )


def quantize_model(inputs: QuantizeInputs, section: QuantizeSection, work: Workdir) -> ModelRef:
    """Write the checkpoint that training starts from, and measure what quantizing costs.

    Args:
        inputs: The base and the reference text.
        section: Kind and dtypes; kind ``none`` writes no weights, training then uses the base.
        work: The checkpoint goes to its artifact folder.

    Returns:
        Footprints in bytes, and perplexities before and after.

    Raises:
        ConfigError: The model cannot be loaded or quantized.
        DataError: The reference text is empty.
    """
    device = choose_device()
    dtype = choose_dtype(section.model.dtype, device)
    tokenizer = load_tokenizer(inputs.base.folder)
    references = read_references(inputs.reference_text.path)
    base = load_causal_model(inputs.base.folder, dtype=dtype, device=device)
    base_perplexity = reference_perplexity(base, tokenizer, references)
    base_bytes, parameters = base.get_memory_footprint(), base.num_parameters()
    del base
    if section.quantization.kind == "none":
        return ModelRef(
            digest=digest_json({"base": inputs.base.digest, "quantization": "none"}),
            folder=work.artifact,
            quantization="none",
            parameters=parameters,
            footprint_bytes=base_bytes,
            base_footprint_bytes=base_bytes,
            reference_perplexity=base_perplexity,
            base_reference_perplexity=base_perplexity,
        )
    quantized = _quantize(inputs.base.folder, section, device)
    quantized.save_pretrained(work.artifact)
    return ModelRef(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        quantization="nf4",
        parameters=parameters,
        footprint_bytes=quantized.get_memory_footprint(),
        base_footprint_bytes=base_bytes,
        reference_perplexity=reference_perplexity(quantized, tokenizer, references),
        base_reference_perplexity=base_perplexity,
    )


def _quantize(folder: Path, section: QuantizeSection, device: torch.device) -> PreTrainedModel:
    compute = choose_compute_dtype(section.quantization.compute_dtype, device)
    config = as_bitsandbytes(
        double=section.quantization.double, compute_dtype=compute, storage_dtype=torch.uint8
    )
    model = load_causal_model(
        folder,
        dtype=choose_dtype(section.model.dtype, device),
        device=device,
        quantization_config=config,
    )
    if not getattr(model, "is_loaded_in_4bit", False):
        raise ConfigError(f"{folder}: no layer could be quantized to 4 bits.")
    return model
