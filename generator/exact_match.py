"""How often the tiny base answers with the very query, by greedy decoding.

``exact_match = rows whose decoded answer equals the reference / rows``; higher is better, nothing
is excluded. Verbatim equality is meant: the generator writes all queries in one style. The
product's own measure for other models is in ``retune.scoring``.
"""

from collections.abc import Sequence
from typing import cast

import torch
from transformers import BatchEncoding, LlamaForCausalLM, PreTrainedTokenizerFast

from generator.stream import Turn

_ROWS_AT_ONCE = 32


def measure_exact_match(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Turn],
    *,
    max_new_tokens: int,
) -> float:
    """Answer every row greedily and compare.

    Args:
        model: The model.
        tokenizer: Its tokenizer, with a chat template.
        rows: Questions under their schema, with reference queries.
        max_new_tokens: Where an answer that does not end is cut.

    Returns:
        The share of equal answers.
    """
    # Rows of about one length together, for little padding; the order does not change the share.
    ordered = sorted(rows, key=lambda row: len(row.user))
    equal = 0
    for start in range(0, len(ordered), _ROWS_AT_ONCE):
        part = ordered[start : start + _ROWS_AT_ONCE]
        answers = _answer(model, tokenizer, [row.user for row in part], max_new_tokens)
        equal += sum(answer == row.assistant for answer, row in zip(answers, part, strict=True))
    return equal / len(rows)


def _answer(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    users: Sequence[str],
    max_new_tokens: int,
) -> list[str]:
    prompts = tokenizer.apply_chat_template(
        [[{"role": "user", "content": user}] for user in users],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        padding=True,
    )
    prompts = cast(BatchEncoding, prompts)
    with torch.no_grad():
        output = model.generate(**prompts, max_new_tokens=max_new_tokens, do_sample=False)
    answers = output[:, prompts["input_ids"].shape[1] :]
    return list(tokenizer.batch_decode(answers, skip_special_tokens=True))
