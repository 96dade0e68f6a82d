"""How fast answers are generated and perplexity is computed, against the plain way to do it.

    python benchmarks/score_models.py --rows 64 --rounds 3

On the shipped base and the prompts of the shipped Portuguese test rows. Each round times both ways
one after the other on the same rows, so that a busy machine slows both; the ratio is that of the
rounds' totals. Both ways have to give the same answers, and the same losses to 1e-4.

Generation: `write_answers` in batches against transformers' `pipeline()`, one prompt at a time.
Perplexity: `answer_losses` in batches against a loop over rows with `labels`, as in the guides.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import logging, pipeline

from retune.data.chats.rendering import render_prompt
from retune.inference.generation import write_answers
from retune.inference.loaded_models import LoadedModel, load_scored_model
from retune.inference.text_losses import answer_losses
from retune.records import ScoredModel

REPOSITORY = Path(__file__).resolve().parents[1]
Result = TypeVar("Result")
Pairs = list[tuple[list[int], list[int]]]


def read_task(count: int) -> list[dict[str, str]]:
    """Return question, schema and reference of the first test rows."""
    folder = REPOSITORY / "assets" / "text_to_sql_pt"
    lines = (folder / "databases.jsonl").read_text("utf-8").splitlines()
    schemas = {value["db_id"]: value["schema"] for value in map(json.loads, lines)}
    rows = map(json.loads, (folder / "test.jsonl").read_text("utf-8").splitlines()[:count])
    return [{**row, "schema": schemas[row["db_id"]]} for row in rows]


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Return how long some work took, and its result."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def answer_by_pipeline(generator: Any, prompts: list[str], max_new_tokens: int) -> list[str]:
    """Answer prompts one at a time, as the library's own front door does."""
    found = []
    for prompt in prompts:
        [written] = generator(
            prompt, max_new_tokens=max_new_tokens, do_sample=False, return_full_text=False
        )
        found.append(written["generated_text"].strip())
    return found


def lose_row_by_row(loaded: LoadedModel, pairs: Pairs) -> list[float]:
    """Score answers one row at a time, as the guides do, with their mistakes put right."""
    found = []
    for prompt, answer in pairs:
        ids = torch.tensor([[*prompt, *answer]])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        with torch.no_grad():
            found.append(float(loaded.model(input_ids=ids, labels=labels).loss) * len(answer))
    return found


def tell(name: str, rows: int, plain: list[float], ours: list[float]) -> None:
    """Print one line of figures."""
    ratios = ", ".join(f"{a / b:.1f}" for a, b in zip(plain, ours, strict=True))
    print(
        f"{name:<11} {rows * len(plain) / sum(plain):>8.1f} rows/s plain "
        f"{rows * len(ours) / sum(ours):>8.1f} rows/s batched "
        f"{sum(plain) / sum(ours):>6.1f}x (rounds: {ratios})",
        flush=True,
    )


def compare_generation(
    loaded: LoadedModel, prompts: list[str], *, rounds: int, batch_size: int, max_new_tokens: int
) -> None:
    """Time both ways to answer, and refuse to print if they answer differently."""
    generator = pipeline("text-generation", model=loaded.model, tokenizer=loaded.tokenizer)
    ids = loaded.tokenizer(prompts, add_special_tokens=False)["input_ids"]
    answer_by_pipeline(generator, prompts[:2], max_new_tokens)  # both warm
    plain, ours = [], []
    for _ in range(rounds):
        seconds, expected = timed(lambda: answer_by_pipeline(generator, prompts, max_new_tokens))
        plain.append(seconds)
        seconds, found = timed(
            lambda: write_answers(loaded, ids, max_new_tokens=max_new_tokens, batch_size=batch_size)
        )
        ours.append(seconds)
        if [one.text for one in found] != expected:
            raise SystemExit("generation: the two ways give different answers")
    tell("generation", len(prompts), plain, ours)


def compare_perplexity(loaded: LoadedModel, pairs: Pairs, *, rounds: int, batch_size: int) -> None:
    """Time both ways to score, and refuse to print if they disagree."""
    pad_id = int(loaded.tokenizer.pad_token_id)
    lose_row_by_row(loaded, pairs[:2])
    plain, ours = [], []
    for _ in range(rounds):
        seconds, expected = timed(lambda: lose_row_by_row(loaded, pairs))
        plain.append(seconds)
        seconds, found = timed(
            lambda: answer_losses(loaded.model, pairs, batch_size=batch_size, pad_id=pad_id)
        )
        ours.append(seconds)
        for one, nll in zip(found, expected, strict=True):
            if not math.isclose(one.nll_sum_nats, nll, rel_tol=1e-4, abs_tol=1e-4):
                raise SystemExit(f"perplexity: {one.nll_sum_nats} and {nll} for one row")
    tell("perplexity", len(pairs), plain, ours)


def main() -> None:
    """Print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    # On a CPU larger batches only cost padding and cache misses.
    parser.add_argument("--loss-batch-size", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    options = parser.parse_args()
    logging.set_verbosity_error()
    base = REPOSITORY / "assets" / "base_tiny"
    loaded = load_scored_model(ScoredModel(digest="", weights=base, tokenizer=base))
    rows = read_task(options.rows)
    prompts = [
        render_prompt(
            loaded.tokenizer,
            [{"role": "user", "content": f"{row['schema']}\n{row['question']}"}],
        )
        for row in rows
    ]
    tokenize = loaded.tokenizer
    answers = tokenize([row["query"] for row in rows], add_special_tokens=False)["input_ids"]
    prompt_ids = tokenize(prompts, add_special_tokens=False)["input_ids"]
    pairs = [(one, [*two, loaded.end_ids[0]]) for one, two in zip(prompt_ids, answers, strict=True)]
    print(f"{len(rows)} rows, {torch.get_num_threads()} threads, device {loaded.model.device}")
    compare_generation(
        loaded,
        prompts,
        rounds=options.rounds,
        batch_size=options.batch_size,
        max_new_tokens=options.max_new_tokens,
    )
    compare_perplexity(loaded, pairs, rounds=options.rounds, batch_size=options.loss_batch_size)


if __name__ == "__main__":
    main()
