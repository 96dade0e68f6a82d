"""Perplexities as other programs define them, of a small model: one text at a time, no padding.

Each figure is computed here the plain way, from logits in double precision or from transformers'
own loss: per text as Hugging Face `evaluate` does, the strided loop of the transformers
documentation, and the rolling windows of lm-evaluation-harness.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.tiny_models import REPOSITORY

CONTEXT = 256
Written = dict[str, Any]


def make_model(tokenizer: Any, folder: Path) -> Path:
    """Save a GPT-2 of two layers whose random weights are large enough to tell tokens apart."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    # The tiny base's has none; its third token is one that no text holds.
    tokenizer.bos_token = tokenizer.convert_ids_to_tokens(2)
    tokenizer.save_pretrained(folder)
    return folder


def read_texts() -> Written:
    """Return texts, pairs and one long text of the shipped Portuguese sets."""
    reviews = _read("reviews_pt/test.jsonl", 120)
    told = [row["text"] for row in reviews]
    asked = _read("instructions_pt/test.jsonl", 12)
    return {
        "texts": ["Oi!", *told[:11]],
        "pairs": [
            {"prompt": f"{row['instruction']}\n", "completion": row["output"]} for row in asked
        ],
        "long": " ".join(told[12:72]),
    }


def _read(name: str, count: int) -> list[dict[str, str]]:
    lines = (REPOSITORY / "assets" / name).read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines[:count]]


def figures_of(model: Any, tokenizer: Any, pairs: Any, written: Written) -> dict[str, Any]:
    """Compute what `reference.json` of the larger set holds."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return {
        "pairs": _of_pairs(model, pairs, [row["completion"] for row in written["pairs"]]),
        **_of_texts(model, [_ids(tokenizer, text) for text in written["texts"]], bos, written),
        "long": _of_long(model, _ids(tokenizer, written["long"]), bos, eos, written["long"]),
    }


def _ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def _nll(model: Any, ids: list[int], start: int) -> float:
    """Sum the NLL of the tokens from `start` on, each given all before it."""
    with torch.no_grad():
        logs = model(torch.tensor([ids[:-1]])).logits[0].double().log_softmax(-1)
    return -math.fsum(float(logs[at - 1, ids[at]]) for at in range(start, len(ids)))


def _loss(model: Any, ids: list[int], learned: int) -> float:
    """Return transformers' own mean loss where only the last tokens are labels."""
    labels = [-100] * (len(ids) - learned) + ids[len(ids) - learned :]
    with torch.no_grad():
        return float(model(torch.tensor([ids]), labels=torch.tensor([labels])).loss)


def _of_pairs(model: Any, pairs: Any, completions: list[str]) -> dict[str, Any]:
    rows = [
        {"nll": _nll(model, prompt + answer, len(prompt)), "tokens": len(answer)}
        for prompt, answer in pairs
    ]
    endless = [_nll(model, prompt + answer[:-1], len(prompt)) for prompt, answer in pairs]
    whole = [_nll(model, prompt + answer, 1) for prompt, answer in pairs]
    tokens = sum(row["tokens"] for row in rows)
    size = sum(len(each.encode()) for each in completions)
    return {
        "per_row": rows,
        "completion_only_ppl_token_weighted": math.exp(sum(r["nll"] for r in rows) / tokens),
        "completion_only_ppl_without_eos": math.exp(sum(endless) / (tokens - len(rows))),
        "full_sequence_ppl": math.exp(sum(whole) / sum(len(p) + len(a) - 1 for p, a in pairs)),
        "completion_bits_per_byte": sum(endless) / math.log(2) / size,
    }


def _of_texts(model: Any, texts: list[list[int]], bos: int, written: Written) -> dict[str, Any]:
    after = [_nll(model, [bos, *ids], 1) for ids in texts]
    alone = [_nll(model, ids, 1) for ids in texts]
    tokens = sum(map(len, texts))
    size = sum(len(text.encode()) for text in written["texts"])
    evaluated = {
        start: [math.exp(_loss(model, [*first, *ids], len(first) + len(ids))) for ids in texts]
        for start, first in ((True, [bos]), (False, []))
    }
    return {
        "texts": {
            "tokens": tokens,
            "bytes": size,
            "corpus_ppl_with_bos": math.exp(sum(after) / tokens),
            "corpus_ppl_without_bos": math.exp(sum(alone) / (tokens - len(texts))),
            "bits_per_byte": sum(after) / math.log(2) / size,
            "per_text_ppl_with_bos": [
                math.exp(nll / len(ids)) for nll, ids in zip(after, texts, strict=True)
            ],
        },
        "hf_evaluate": {
            name: {"mean": sum(found) / len(found), "first5": found[:5]}
            for name, found in (
                ("batch4_start_True", evaluated[True]),
                ("batch1_start_False", evaluated[False]),
            )
        },
    }


def _of_long(model: Any, ids: list[int], bos: int, eos: int, text: str) -> dict[str, Any]:
    strided = {}
    for stride in (32, 64, 128, 256):
        total, scored = _strided(model, ids, stride)
        strided[f"transformers_docs_stride{stride}"] = math.exp(total / scored)
        strided[f"transformers_docs_stride{stride}_tokens_scored"] = scored
    rolling = _rolling(model, ids, bos, 1)
    return {
        **strided,
        "tokens": len(ids),
        "bytes": len(text.encode()),
        "lm_eval_rolling_nll": rolling,
        "lm_eval_token_ppl": math.exp(rolling / len(ids)),
        "lm_eval_bits_per_byte": rolling / math.log(2) / len(text.encode()),
        "lm_eval_token_ppl_prefix_eos": math.exp(_rolling(model, ids, eos, 1) / len(ids)),
        "lm_eval_token_ppl_context_len128": math.exp(_rolling(model, ids, bos, 128) / len(ids)),
    }


def _strided(model: Any, ids: list[int], stride: int) -> tuple[float, int]:
    """Weight each window's mean loss by its labels less one, as the documentation's loop does."""
    total, scored, before = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + CONTEXT, len(ids))
        labels = end - before
        weight = labels - 1
        total += _loss(model, ids[begin:end], labels) * weight
        scored, before = scored + weight, end
        if end == len(ids):
            break
    return total, scored


def _rolling(model: Any, ids: list[int], prefix: int, context: int) -> float:
    windows = _windows(ids, prefix, context)
    return math.fsum(_nll(model, before + told, len(before)) for before, told in windows)


def _windows(ids: list[int], prefix: int, context: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield what stands before and what is told; together at most a context and one token."""
    yield [prefix], ids[:CONTEXT]
    told = CONTEXT
    while told < len(ids):
        end = min(told + CONTEXT - context + 1, len(ids))
        yield ids[end - CONTEXT - 1 : told], ids[told:end]
        told = end
