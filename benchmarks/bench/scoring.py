"""Answers and losses: in batches, as scoring does it, against one row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.bench.models import find_base
from benchmarks.bench.processes import Work
from benchmarks.bench.shipped import Chat, load_base, read_chats
from retune.inference.generation import Answer, write_answers
from retune.inference.loaded_models import LoadedModel
from retune.inference.text_losses import answer_losses, pair_losses
from retune.scoring.perplexity import fit_batch

BATCH = 32
"""What `scoring.runtime.batch_size` is unless a recipe says otherwise."""
CLASSES = ("positivo", "negativo", "neutro", "misto")
"""What a prompt is weighed against."""
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
    return _lose_one_by_one(loaded, read_chats(loaded, "test", rows), answers_only)


def class_by_class(folder: Path, rows: int) -> Work:
    """Weigh the classes of each row as the guides score rows: each with its prompt, by itself."""
    loaded = load_base()
    return _lose_one_by_one(loaded, _with_classes(loaded, rows), answers_only=True)


def _lose_one_by_one(loaded: LoadedModel, chats: Sequence[Chat], answers_only: bool) -> Work:
    def lose(prompt: list[int], answer: list[int]) -> float:
        ids = torch.tensor([[*prompt, *answer]])
        labels = torch.tensor([[-100] * len(prompt) + answer]) if answers_only else ids
        with torch.inference_mode():
            loss = float(loaded.model(input_ids=ids, labels=labels).loss)
        return loss * (len(answer) if answers_only else ids.shape[1] - 1)

    lose(*chats[0])
    return lambda: [lose(*chat) for chat in chats], lambda losses: losses


def _with_classes(loaded: LoadedModel, rows: int) -> list[Chat]:
    """Return the prompts of rows, each with every class as its answer."""
    ids = loaded.tokenizer(list(CLASSES), add_special_tokens=False)["input_ids"]
    answers = [[*each, loaded.end_ids[0]] for each in ids]
    return [
        Chat(chat.prompt, answer) for chat in read_chats(loaded, "test", rows) for answer in answers
    ]


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


def classes_in_batches(folder: Path, rows: int) -> Work:
    """Weigh the classes of all rows as the stage `score_labels` does by likelihood."""
    loaded = load_base()
    pad_id = int(loaded.tokenizer.pad_token_id)

    def weigh(pairs: list[Chat]) -> list[float]:
        found = answer_losses(loaded.model, pairs, batch_size=BATCH, pad_id=pad_id)
        return [each.nll_sum_nats for each in found]

    chats = _with_classes(loaded, rows)
    weigh(chats[:2])
    return lambda: weigh(chats), lambda losses: losses
