"""Answers and losses: in batches, as scoring does it, against one row at a time."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.bench.models import find_base
from benchmarks.bench.processes import Work
from benchmarks.bench.shipped import Chat, load_base, read_chats
from retune.inference.generation import Answer, write_answers
from retune.inference.text_losses import answer_losses, pair_losses
from retune.scoring.perplexity import fit_batch

BATCH = 32
"""What `scoring.runtime.batch_size` is unless a recipe says otherwise."""
NEW_TOKENS = 96
"""The demo's `scoring.max_new_tokens`."""


def one_by_one(folder: Path, rows: int) -> Work:
    """Answer each prompt by a call of `generate`."""
    loaded = load_base()
    prompts = [torch.tensor([chat.prompt]) for chat in read_chats(loaded, "test", rows)]
    end, pad = loaded.end_ids, int(loaded.tokenizer.pad_token_id)

    def answer(prompt: torch.Tensor) -> list[int]:
        with torch.inference_mode():
            written = loaded.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                eos_token_id=end,
                pad_token_id=pad,
            )
        new: list[int] = written[0, prompt.shape[1] :].tolist()
        return [token for token in new if token not in end]

    answer(prompts[0])
    return lambda: [answer(prompt) for prompt in prompts], lambda answers: answers


def answers_in_batches(folder: Path, rows: int) -> Work:
    """Answer all prompts as the scoring stages do."""
    loaded = load_base()
    prompts = [chat.prompt for chat in read_chats(loaded, "test", rows)]

    def answer(asked: list[list[int]]) -> list[Answer]:
        return write_answers(loaded, asked, max_new_tokens=NEW_TOKENS, batch_size=BATCH)

    answer(prompts[:2])
    return lambda: answer(prompts), lambda answers: [list(each.ids) for each in answers]


def row_by_row(folder: Path, rows: int, answers_only: bool = False) -> Work:
    """Score rows as the guides do: `labels`, one row at a time, the mean undone."""
    loaded = load_base()
    chats = read_chats(loaded, "test", rows)

    def lose(prompt: list[int], answer: list[int]) -> float:
        ids = torch.tensor([[*prompt, *answer]])
        labels = torch.tensor([[-100] * len(prompt) + answer]) if answers_only else ids
        with torch.inference_mode():
            loss = float(loaded.model(input_ids=ids, labels=labels).loss)
        return loss * (len(answer) if answers_only else ids.shape[1] - 1)

    lose(*chats[0])
    return lambda: [lose(*chat) for chat in chats], lambda losses: losses


def losses_in_batches(
    folder: Path, rows: int, answers_only: bool = False, times: int | None = None
) -> Work:
    """Score rows as the stage `score_perplexity` does, or answers alone."""
    loaded = load_base(find_base(folder, times))
    chats = read_chats(loaded, "test", rows)
    pad_id = int(loaded.tokenizer.pad_token_id)

    def lose(pairs: list[Chat]) -> list[float]:
        if answers_only:
            found = answer_losses(loaded.model, pairs, batch_size=BATCH, pad_id=pad_id)
            return [each.nll_sum_nats for each in found]
        both = pair_losses(
            loaded.model,
            pairs,
            batch_size=fit_batch(
                BATCH,
                longest=max(sum(map(len, pair)) for pair in pairs),
                vocabulary=int(loaded.model.config.vocab_size),
                on_cpu=True,
            ),
            pad_id=pad_id,
            answer_bytes=[1] * len(pairs),
            end_ids=loaded.end_ids,
        )
        return [each.whole.nll_sum_nats for each in both]

    lose(chats[:2])
    return lambda: lose(chats), lambda losses: losses
