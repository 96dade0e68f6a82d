"""The shape of the tiny base, and the loss that it is pretrained with."""

from pathlib import Path
from typing import cast

import torch
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from generator.batches import Batch

# Multiples of 64, the block size of NF4: no quantization block then spans two rows of a matrix.
_HIDDEN = 256
_INTERMEDIATE = 640
_LAYERS = 4
_HEADS = 8
_LONGEST_INPUT = 1024


def build_base(tokenizer: PreTrainedTokenizerFast, *, seed: int) -> LlamaForCausalLM:
    """Build the untrained base: about 4.1 million parameters with a vocabulary of 4096.

    Args:
        tokenizer: Gives the vocabulary and the special tokens.
        seed: Seed of the initial weights.

    Returns:
        The model, in 32-bit floats.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_HIDDEN,
        intermediate_size=_INTERMEDIATE,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        max_position_embeddings=_LONGEST_INPUT,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=96,
    )
    return model


def load_base(folder: Path) -> LlamaForCausalLM:
    """Load a base to train on.

    Args:
        folder: What `pretrain_base` wrote.

    Returns:
        The model, in 32-bit floats.
    """
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return cast(LlamaForCausalLM, model)


def answer_loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Compute the mean negative log-likelihood of the answers' tokens, in nats.

    Args:
        model: The model.
        batch: Rows, ``[rows, length]``.

    Returns:
        A scalar.
    """
    hidden = model.model(input_ids=batch.input_ids, use_cache=False).last_hidden_state
    predicts_answer = batch.is_answer[:, 1:]
    targets = batch.input_ids[:, 1:][predicts_answer]
    # Projecting only where there is a label: the vocabulary is most of the arithmetic otherwise.
    logits = model.lm_head(hidden[:, :-1][predicts_answer])
    return functional.cross_entropy(logits.float(), targets)
