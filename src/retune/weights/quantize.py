"""Quantizing a base once, with what it saves and what it costs in perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from retune.data.chats.rendering import render_prompt
from retune.data.chats.tokenizers import Tokenizer, load_tokenizer
from retune.digests import digest_folder, digest_json
from retune.errors import ConfigError
from retune.inference.loaded_models import free_unused, load_causal_model
from retune.inference.text_losses import answer_losses
from retune.model_records import WHOLE, ModelRef
from retune.modeling.devices import choose_compute_dtype, choose_device, choose_dtype
from retune.modeling.four_bit import as_bitsandbytes
from retune.modeling.methods.stacked_weights import list_stacked
from retune.modeling.placement import StagePlaces
from retune.modeling.prequantized import MXFP4, NF4, check_quantization, quantized_as
from retune.modeling.reference import Reference, read_references
from retune.scoring.perplexity import perplexity, text_perplexity
from retune.spine.stage import Workdir
from retune.weights.saving import save_streamed
from retune.weights.stages import QuantizeInputs, QuantizeSettings
from retune.weights.stored_weights import open_stored

_SHARD = "2GB"


def quantize_model(inputs: QuantizeInputs, settings: QuantizeSettings, work: Workdir) -> ModelRef:
    """Write the checkpoint that training starts from, and measure what quantizing costs.

    The plain base says how well it predicts the reference text from where the plan places it, on
    the disk layer by layer where it does not fit. Then its weights are read and quantized one at a
    time: no more is held than the 4-bit model and one of them.

    Args:
        inputs: The base and the reference text.
        settings: Kind and dtypes; kind ``none`` writes no weights, training then uses the base.
        work: The checkpoint goes to its artifact folder.

    Returns:
        Footprints in bytes, and perplexities before and after.

    Raises:
        ConfigError: The model cannot be loaded or quantized, or is quantized in another way.
        DataError: The reference text is empty.
    """
    check_quantization(inputs.base.folder, settings.kind)
    device = choose_device()
    dtype = choose_dtype(settings.dtype, device)
    _tell_stored(inputs.base.folder, dtype, work)
    tokenizer = load_tokenizer(inputs.base.folder)
    references = read_references(inputs.reference_text.path)
    four_bit = quantized_as(inputs.base.folder) == NF4
    # The plan has a place for plain weights, which may be more than the device holds.
    place = WHOLE if four_bit else StagePlaces.read(work.context).of("quantize_model")
    base = load_causal_model(inputs.base.folder, dtype=dtype, device=device, place=place)
    base_perplexity = reference_perplexity(base, tokenizer, references)
    base_bytes, parameters = base.get_memory_footprint(), base.num_parameters()
    if four_bit:
        # Rounding what is rounded already would change it: it is taken as it is.
        base.save_pretrained(work.artifact)
        return _model_ref(work, parameters, (base_bytes,) * 2, (base_perplexity,) * 2)
    del base
    free_unused()
    if settings.kind == "none":
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
    quantized = write_quantized(inputs.base.folder, settings, device, work)
    return _model_ref(
        work,
        parameters,
        (quantized.get_memory_footprint(), base_bytes),
        (reference_perplexity(quantized, tokenizer, references), base_perplexity),
    )


def write_quantized(
    folder: Path, settings: QuantizeSettings, device: torch.device, work: Workdir
) -> PreTrainedModel:
    """Quantize a base and write it.

    Args:
        folder: The base.
        settings: Kind and dtypes.
        device: Where it is quantized.
        work: The checkpoint goes to its artifact folder.

    Returns:
        The quantized model.

    Raises:
        ConfigError: It cannot be loaded, or no layer could be quantized.
    """
    quantized = _quantize(folder, settings, device, work)
    quantized.save_pretrained(work.artifact)
    return quantized


def _model_ref(
    work: Workdir, parameters: int, footprints: tuple[int, int], perplexities: tuple[float, float]
) -> ModelRef:
    """Describe the written checkpoint; of each pair the quantized model's figure comes first."""
    return ModelRef(
        digest=digest_folder(work.artifact),
        folder=work.artifact,
        quantization=NF4,
        parameters=parameters,
        footprint_bytes=footprints[0],
        base_footprint_bytes=footprints[1],
        reference_perplexity=perplexities[0],
        base_reference_perplexity=perplexities[1],
    )


def _tell_stored(folder: Path, dtype: torch.dtype, work: Workdir) -> None:
    name = str(dtype).removeprefix("torch.")
    stored = quantized_as(folder)
    if stored == NF4:
        work.reporter.log(f"{folder.name} is quantized to NF4 already, and taken as it is.")
    if stored == MXFP4:
        work.reporter.log(
            f"{folder.name} is stored in MXFP4, which nothing can be trained over: its experts are "
            f"dequantized to {name}, about four times (16 bits) what they take on the disk."
        )


def _tell_unquantized(model: PreTrainedModel, work: Workdir) -> None:
    experts = sum(weight.numel() for weight in list_stacked(model).values())
    if experts:
        work.reporter.log(
            "Quantized to NF4: the linear layers, such as attention. Not quantized: the experts "
            f"({experts:,} weights), which are no linear layers; they stay in model.dtype."
        )


def _quantize(
    folder: Path, settings: QuantizeSettings, device: torch.device, work: Workdir
) -> PreTrainedModel:
    if quantized_as(folder) == MXFP4:
        folder = _write_plain(folder, settings, work)
    compute = choose_compute_dtype(settings.compute_dtype, device)
    config = as_bitsandbytes(
        double=settings.double, compute_dtype=compute, storage_dtype=torch.uint8
    )
    model = load_causal_model(
        folder,
        dtype=choose_dtype(settings.dtype, device),
        device=device,
        quantization_config=config,
    )
    if not getattr(model, "is_loaded_in_4bit", False):
        raise ConfigError(f"{folder}: no layer could be quantized to 4 bits.")
    _tell_unquantized(model, work)
    return model


def _write_plain(folder: Path, settings: QuantizeSettings, work: Workdir) -> Path:
    """Write the dequantized form of a snapshot, which bitsandbytes takes no other way."""
    target, dtype = work.scratch / "dequantized", choose_dtype(settings.dtype, choose_device())
    scratch, tokenizer = work.scratch / "converted", load_tokenizer(folder)
    model, stored = open_stored(folder, scratch=scratch, tokenizer=tokenizer, dtype=dtype)
    save_streamed(model, stored, target, dtype=dtype, max_shard_size=_SHARD)
    return target


def reference_perplexity(
    model: PreTrainedModel, tokenizer: Tokenizer, references: Sequence[Reference]
) -> float:
    """Return the perplexity of reference texts: answers given their prompts, plain texts alone.

    Args:
        model: In evaluation mode.
        tokenizer: The model's own, with a chat template.
        references: Either all with a prompt or all without.

    Returns:
        The token-weighted perplexity; answers include their end token.

    Raises:
        ScoringError: Nothing can be scored.
    """
    if any(reference.prompt is None for reference in references):
        return text_perplexity(model, tokenizer, [reference.text for reference in references])
    prompts = [
        render_prompt(tokenizer, [{"role": "user", "content": str(reference.prompt)}])
        for reference in references
    ]
    prompt_ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    texts = [reference.text for reference in references]
    answer_ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    pairs = [
        (prompt, [*answer, tokenizer.eos_token_id])
        for prompt, answer in zip(prompt_ids, answer_ids, strict=True)
    ]
    pad_id = int(tokenizer.pad_token_id)
    return perplexity(answer_losses(model, pairs, batch_size=16, pad_id=pad_id))
