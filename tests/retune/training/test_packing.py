"""Packed rows: fewer sequences, the same gradient, and no row that sees another."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel
from trl import pack_dataset

from retune.data.tables import read_rows
from retune.errors import ConfigError, DataError
from retune.model_records import BaseRef, ModelRef
from retune.preflight.steps import count_sequences, count_steps, plan_packs
from retune.records import ChatRef
from retune.spine.stage import Workdir
from retune.training import packing, supervised
from retune.training.packing import PackedCollator, attention_of, pack_rows, refuse_leaks
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.supervised import train_adapter
from tests.retune.training.test_supervised import Quantize, section
from tests.tiny_models import family_config

VOCABULARY = 300


def tiny(family: str, attention: str) -> PreTrainedModel:
    """A random model without dropout, so that two passes are alike in training mode too."""
    torch.manual_seed(0)
    config = family_config(family, VOCABULARY)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for name, weight in model.named_parameters():
        if "experts" in name or "sinks" in name:
            torch.nn.init.normal_(weight, std=0.02)
    return model


def rows(*lengths: int) -> Dataset:
    """Rows of random tokens, of whose tokens the second half is learned."""
    draw = random.Random(5)
    ids = [[draw.randrange(3, VOCABULARY) for _ in range(length)] for length in lengths]
    labels = [[-100] * (len(one) // 2) + one[len(one) // 2 :] for one in ids]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def test_each_row_goes_where_the_least_room_is_left() -> None:
    """In 8 tokens 6 and 5 begin sequences with room for 2 and 3, which 2 and 3 then fill."""
    assert plan_packs([5, 3, 2, 6], 8) == [[3, 2], [0, 1]]


def test_a_row_over_the_length_stays_alone() -> None:
    """It is not cut, and nothing joins it."""
    assert plan_packs([9, 1], 8) == [[0], [1]]


def test_as_many_sequences_as_trl_makes() -> None:
    """TRL's best-fit decreasing is the reference for the number; the order of rows is ours."""
    draw = random.Random(1)
    lengths = [draw.randrange(1, 100) for _ in range(300)]
    theirs = pack_dataset(
        Dataset.from_dict({"input_ids": [[1] * length for length in lengths]}),
        100,
        "bfd",
        map_kwargs={"batch_size": 1000},
    )
    plan = plan_packs(lengths, 100)
    assert len(plan) == len(theirs)
    assert sorted(at for places in plan for at in places) == list(range(300))
    assert all(sum(lengths[at] for at in places) <= 100 for places in plan)


def test_a_sequence_holds_its_rows_whole() -> None:
    """Rows of 4 and 3 in one sequence of 8; a row's first token is never predicted."""
    plain = Dataset.from_dict(
        {"input_ids": [[1, 2, 3], [4, 5, 6, 7]], "labels": [[1, 2, 3], [-100, -100, 6, 7]]}
    )
    packed = pack_rows(plain, 8)
    assert packed.to_list() == [
        {
            "input_ids": [4, 5, 6, 7, 1, 2, 3],
            "labels": [-100, -100, 6, 7, -100, 2, 3],
            "seq_lengths": [4, 3],
            "places": [1, 0],
        }
    ]


def test_positions_start_again_with_each_row() -> None:
    """And no mask is made: transformers makes the one that keeps rows apart out of positions."""
    batch = PackedCollator(0, "sdpa")(pack_rows(rows(3, 2, 6), 6).to_list())
    assert set(batch) == {"input_ids", "labels", "position_ids"}
    # 6 alone in the first sequence; 3 and 2 in the second, with one padded place behind.
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 1, 0]]
    assert batch["labels"][1, -1] == -100


FAMILIES = ("llama", "qwen3", "gemma3", "gpt2")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_batch_has_the_gradient_of_its_rows(family: str, attention: str) -> None:
    """Sums over the same tokens: each row by itself, and all rows packed.

    Rows of 70 to 100 tokens: longer than the sliding window of Gemma's layers, which is 64.
    """
    model, plain = tiny(family, attention), rows(70, 80, 90, 100)
    collate = PackedCollator(0, attention)
    packed = pack_rows(plain, 200)
    assert len(packed) == 2
    gradients = []
    for dataset in (plain, packed):
        model.zero_grad()
        for start in range(0, len(dataset), 2):
            batch = collate([dataset[at] for at in range(start, min(start + 2, len(dataset)))])
            labels = batch.pop("labels")
            logits = model(**batch, use_cache=False).logits
            losses = torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
            )
            losses.backward()
        gradients.append({n: w.grad.clone() for n, w in model.named_parameters()})
    for name, gradient in gradients[0].items():
        scale = max(float(gradient.abs().max()), 1e-3)
        assert float((gradients[1][name] - gradient).abs().max()) < 1e-3 * scale, name


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_models_that_keep_rows_apart_are_taken(family: str, attention: str) -> None:
    """With the random numbers and the mode of before."""
    model = tiny(family, attention).train()
    before = torch.get_rng_state()
    refuse_leaks(model, rows(70, 80, 90), PackedCollator(0, attention_of(model)))
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_that_lets_rows_see_each_other_is_refused() -> None:
    """gpt-oss' layers are given a mask that knows nothing of positions."""
    model = tiny("gpt_oss", "eager")
    with pytest.raises(ConfigError, match=r"rows see each other.*under eager attention"):
        refuse_leaks(model, rows(70, 80), PackedCollator(0, "eager"))


def test_virtual_tokens_are_refused() -> None:
    """Before them peft drops the positions, so that the second row would see the first."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    model = get_peft_model(tiny("llama", "sdpa"), config)
    with pytest.raises(ConfigError, match="rows see each other"):
        refuse_leaks(model, rows(20, 30), PackedCollator(0, "sdpa"))


def test_the_proof_sees_what_a_mask_of_ones_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As TRL's collator makes one without padding-free: then every model leaks."""
    call = PackedCollator.__call__

    def masked(self: Any, examples: Any) -> dict[str, Any]:
        batch = call(self, examples)
        return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}

    monkeypatch.setattr(PackedCollator, "__call__", masked)
    with pytest.raises(ConfigError, match="rows see each other"):
        refuse_leaks(tiny("llama", "eager"), rows(20, 30), PackedCollator(0, "eager"))


@pytest.fixture(scope="module")
def inputs(chats: ChatRef, base: BaseRef, quantize: Quantize) -> TrainInputs:
    """The tiny Llama as it is, and the shipped rows."""
    model: ModelRef = quantize("none")
    sides = {"train": chats.side("train"), "validation": chats.side("validation")}
    return TrainInputs(**sides, base=base, model=model)


def packed_section(**training: Any) -> Any:
    """One pass over sequences of 512 tokens, eight a step."""
    settings = {"packing": True, "max_steps": None, "epochs": 1.0, "evaluations": 1, **training}
    return section(kind="none", **{"batch_size": 8, "checkpoint_every_steps": None, **settings})


@pytest.mark.slow
def test_an_epoch_of_packed_rows_has_fewer_steps(inputs: TrainInputs, work: Workdir) -> None:
    """As many as its sequences make; the loss falls, and evaluations are of plain rows."""
    settings = packed_section()
    sequences = count_sequences(inputs.train, settings.training, 512)
    adapter = train_adapter(inputs, settings, work)
    assert sequences < len(read_rows(inputs.train.folder / "rows.parquet")) / 2
    assert adapter.steps == count_steps(sequences, settings.training)
    assert adapter.validation_loss is not None and adapter.base_validation_loss is not None
    assert adapter.validation_loss < adapter.base_validation_loss


def test_a_wrong_mask_of_packed_rows_stops_before_training(
    inputs: TrainInputs, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences are collated as the trainer will do it, and compared with their rows' answers."""

    def shifted(rows: Dataset, max_length: int) -> Dataset:
        packed = packing.pack_rows(rows, max_length)
        return packed.map(lambda one: {"labels": one["input_ids"]})

    monkeypatch.setattr(supervised, "pack_rows", shifted)
    with pytest.raises(DataError, match="loss would fall on"):
        train_adapter(inputs, packed_section(), work)


def test_the_packed_length_counts_for_the_key_only_where_rows_are_packed() -> None:
    """Another length of packed sequences is another training; of plain rows it is not."""
    plain = section(max_steps=2).by_name()
    longer = {**plain, "prompt.max_length": 1024}
    packed = {**longer, "training": {**plain["training"], "packing": True}}
    found = [
        TrainSettings.model_validate_json(json.dumps(each)) for each in (plain, longer, packed)
    ]
    assert [each.max_length for each in found] == [512, 512, 1024]


def test_what_flash_attention_gets_is_one_sequence() -> None:
    """Its kernels read the bounds of all rows of a batch from one list."""
    batch = PackedCollator(0, "flash_attention_2")(pack_rows(rows(3, 2, 6), 6).to_list())
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2, 0, 1]]
    assert batch["cu_seq_lens_q"].tolist() == [0, 6, 9, 11]
