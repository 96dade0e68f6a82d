"""The memory of preferences and rewards: batches counted by hand, and what lies beside them."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retune.data.chats.pairs import PAIRS_FILE
from retune.machine import Device
from retune.model_records import BaseRef
from retune.modeling.memory.memory_estimate import BatchShape, FurtherEstimates, MemoryEstimate
from retune.preflight.estimate_further import estimate_further
from retune.preflight.stages import FurtherInputs, FurtherSettings
from retune.records import PairsRef, SideRef
from tests.making import make_workdir, settings_of

PAIRS = ((10, 6, 4, False), (20, 8, 2, False), (50, 9, 9, True))
"""Tokens of prompt, chosen and rejected answer, and whether the pair is held back."""


def estimate(base: BaseRef, folder: Path, **sections: Any) -> FurtherEstimates:
    """Look at the pairs above, and at prompts of 7 and 12 tokens."""
    rows = [
        {
            "validation": held_back,
            "prompt_ids": [3] * prompt,
            "chosen_ids": [3] * chosen,
            "rejected_ids": [3] * rejected,
        }
        for prompt, chosen, rejected, held_back in PAIRS
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / PAIRS_FILE)
    prompts = [{"prompt_ids": [3] * length} for length in (7, 12)]
    pq.write_table(pa.Table.from_pylist(prompts), folder / "rows.parquet")
    pairs = PairsRef(
        digest="p", folder=folder, train=2, validation=1, longest_tokens=59, tokenizer_digest="t"
    )
    return estimate_further(
        FurtherInputs(
            base=base,
            pairs=pairs if "dpo" in sections else None,
            train=SideRef(digest="r", folder=folder),
            device=Device(name="cpu", bfloat16=False),
        ),
        settings_of(
            FurtherSettings,
            model={"id": "tiny"},
            quantization={"kind": "nf4"},
            method={"kind": "qlora", "r": 4},
            **{"training": {"evaluations": 0}, **sections},
        ),
        make_workdir(Path(mkdtemp(dir=folder))),
    )


def rewards(base: BaseRef, folder: Path, **grpo: Any) -> MemoryEstimate:
    """Two prompts of up to 12 tokens, four answers of up to 8 tokens to each."""
    settings = {"prompts_per_step": 2, "answers": 4, "max_new_tokens": 8, **grpo}
    found = estimate(base, folder, grpo=settings)
    assert found.fault == "" and found.preferences is None and found.rewards is not None
    return found.rewards


def test_both_answers_of_a_pair_are_rows_of_one_batch(base: BaseRef, tmp_path: Path) -> None:
    """Two pairs learned: four rows, padded to 20 + 8 tokens; 6 + 4 + 8 + 2 of them carry loss."""
    found = estimate(base, tmp_path, dpo={"pairs": "p.jsonl", "batch_size": 2})
    assert found.fault == "" and found.rewards is None and found.preferences is not None
    assert found.preferences.batch == BatchShape(rows=4, tokens=28, answer_tokens=20)


def test_pairs_go_through_in_parts_as_the_training_takes_them(
    base: BaseRef, tmp_path: Path
) -> None:
    """`training.gradient_accumulation` 2 parts a batch of two pairs: one pair, two rows."""
    training = {"evaluations": 0, "batch_size": 8, "gradient_accumulation": 2}
    found = estimate(base, tmp_path, training=training, dpo={"pairs": "p.jsonl", "batch_size": 2})
    assert found.preferences is not None and found.preferences.batch.rows == 2


def test_an_answer_counts_with_the_most_tokens_that_it_may_have(
    base: BaseRef, tmp_path: Path
) -> None:
    """Eight rows of 12 + 8 tokens, 8 x 8 of them answers."""
    found = rewards(base, tmp_path)
    assert found.batch == BatchShape(rows=8, tokens=20, answer_tokens=64)


def test_a_pull_back_keeps_a_copy_of_what_is_trained(base: BaseRef, tmp_path: Path) -> None:
    """The adapter once more, frozen: its 8,192 weights of 4 bytes."""
    free, held = rewards(base, tmp_path), rewards(base, tmp_path, beta=0.1)
    assert free.adapter == 8_192 * 4
    assert held.weights == free.weights + 8_192 * 4
    assert held.total == free.total + 8_192 * 4


def test_writing_all_answers_at_once_counts_where_it_takes_more(
    base: BaseRef, tmp_path: Path
) -> None:
    """In 64 parts a pass holds one row; keys and values of 64 answers are written at once.

    Each of 12 + 512 tokens keeps 2 x 32 values of 4 bytes in 2 blocks: 64 x 524 x 512 bytes.
    """
    training = {"evaluations": 0, "batch_size": 64, "gradient_accumulation": 64}
    grpo = {"prompts_per_step": 8, "answers": 8, "max_new_tokens": 512}
    found = estimate(base, tmp_path, training=training, grpo=grpo).rewards
    assert found is not None
    assert (found.activations, found.logits, found.gradients) == (0, 0, 0)
    assert found.working > 64 * 524 * 512


def test_a_model_that_cannot_be_followed_is_no_fault_of_the_run(
    base: BaseRef, tmp_path: Path
) -> None:
    """The reason is told, and nothing is planned."""
    (tmp_path / "config.json").write_text('{"model_type": "llama", "num_attention_heads": 0}')
    broken = base.model_copy(update={"folder": tmp_path})
    found = estimate(broken, tmp_path, dpo={"pairs": "p.jsonl", "batch_size": 2})
    assert found.preferences is None and str(tmp_path) in found.fault
