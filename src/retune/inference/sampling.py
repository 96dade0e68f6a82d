"""Answers whose tokens are drawn, for a person to see what a model also says; nothing is scored."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from retune.inference.generation import Answer, Ends, plain_greedy, read_answer, split_off_unfit
from retune.inference.loaded_models import LoadedModel
from retune.inference.token_losses import context_limit
from retune.recipe.sections.scoring import SamplingConfig


def draw_answers(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    sampling: SamplingConfig,
    *,
    max_new_tokens: int,
) -> list[Answer]:
    """Continue prompts by drawing, one by one.

    Each begins with the same seed, and none has a neighbour in a batch, so that an answer depends
    on its own prompt alone, and a repetition penalty counts no padding.

    Args:
        loaded: Model and tokenizer.
        prompts: Token ids per prompt.
        sampling: How tokens are drawn.
        max_new_tokens: Most tokens written per prompt.

    Returns:
        One answer per prompt; one that is empty, or over the context, has none, with a reason.
    """
    answers, fitting = split_off_unfit(prompts, context_limit(loaded.model), max_new_tokens)
    for place in fitting:
        new = _draw(loaded, prompts[place], sampling, max_new_tokens)
        answers[place] = read_answer(loaded.tokenizer, loaded.end_ids, new)
    return answers


def _draw(
    loaded: LoadedModel, prompt: Sequence[int], sampling: SamplingConfig, max_new_tokens: int
) -> list[int]:
    model, ends = loaded.model, Ends.of(loaded)
    ids = torch.tensor([list(prompt)], device=model.device)
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.inference_mode(), plain_greedy(model):
        torch.manual_seed(sampling.seed)
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=True,
            num_beams=1,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            # transformers would keep the fifty likeliest, which nobody asked for.
            top_k=0,
            repetition_penalty=sampling.repetition_penalty,
            eos_token_id=ends.end_ids,
            pad_token_id=ends.pad_id,
        )
    new: list[int] = written[0, ids.shape[1] :].tolist()
    return new
