"""One pass over some of the shipped rows: retune's stage, the guides' settings, TRL's defaults."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    set_seed,
)
from trl import SFTConfig, SFTTrainer

from benchmarks.bench.models import find_base
from benchmarks.bench.processes import Work
from benchmarks.bench.shipped import BASE, Chat, load_base, read_chats
from retune.data.chats.tokenizers import load_tokenizer
from retune.inference.loaded_models import put_adapter
from retune.inference.text_losses import answer_losses
from retune.model_records import BaseRef, ModelRef
from retune.records import SideRef
from retune.training import supervised
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.supervised import with_labels
from retune.training.trainable import prepare_model
from tests.making import make_workdir, settings_of

HELD_OUT = 64
RATE = 3.0e-3
"""The demo's: the base is tiny."""
COMMON: dict[str, Any] = {
    "num_train_epochs": 1,
    "learning_rate": RATE,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "report_to": "none",
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "disable_tqdm": True,
    "seed": 7,
}
"""What the guides' and TRL's trainings are given beside their own settings."""
LORA: dict[str, Any] = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}


_IDS = pa.list_(pa.int64())
_ROWS = pa.schema(
    [
        ("row_id", pa.string()),
        ("prompt_ids", _IDS),
        ("answer_ids", _IDS),
        ("loss_mask", pa.list_(pa.bool_())),
    ]
)


class Rows:
    """What all sides learn from, and what they are judged on."""

    def __init__(self, folder: Path, count: int, base: Path = BASE) -> None:
        self.loaded = load_base(base)
        self.folder, self.base = folder, base
        self.train = read_chats(self.loaded, "train", count)
        self.held_out = read_chats(self.loaded, "test", HELD_OUT)
        self._runs = 0

    def next_folder(self) -> Path:
        """Return an empty folder for the next run, and remove the last one."""
        shutil.rmtree(self.folder / f"run-{self._runs}", ignore_errors=True)
        self._runs += 1
        return self.folder / f"run-{self._runs}"

    def held_out_loss(self, adapter: Path) -> float:
        """Return the adapted model's loss in nats a token of the held-out answers."""
        model = put_adapter(load_base(self.base).model, adapter)
        pad_id = int(self.loaded.tokenizer.pad_token_id)
        losses = answer_losses(model, self.held_out, batch_size=32, pad_id=pad_id)
        return math.fsum(each.nll_sum_nats for each in losses) / sum(each.tokens for each in losses)


def as_dataset(chats: list[Chat]) -> Dataset:
    """Return rows with loss on the answer, as all sides learn them."""
    return Dataset.from_list([with_labels(chat.prompt, chat.answer) for chat in chats])


def load_plain(**named: Any) -> PreTrainedModel:
    """Load the base as the guides do."""
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32, **named)


def train_as_guides(folder: Path, rows: int, pad_to: int | None = None) -> Work:
    """Train by the Trainer with the guides' settings.

    Batches of 4, four of them a step, float32, eager attention, gradient checkpointing; padded to
    the longest of the batch, or to one length.
    """
    found = Rows(folder, rows)

    def run(train: list[Chat]) -> Path:
        set_seed(7)
        target = found.next_folder()
        model = get_peft_model(
            load_plain(attn_implementation="eager"), LoraConfig(**LORA, task_type="CAUSAL_LM")
        )
        model.enable_input_require_grads()
        tokenizer = load_tokenizer(BASE)
        padding = {"padding": "max_length", "max_length": pad_to} if pad_to else {"padding": True}
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=str(target / "checkpoints"),
                per_device_train_batch_size=4,
                per_device_eval_batch_size=8,
                gradient_accumulation_steps=4,
                gradient_checkpointing=True,
                **COMMON,
            ),
            train_dataset=as_dataset(train),
            eval_dataset=as_dataset(found.held_out),
            data_collator=DataCollatorForSeq2Seq(tokenizer, **padding),
        )
        trainer.train()
        model.save_pretrained(target / "adapter")
        return target / "adapter"

    return _warm(run, found)


def train_as_trl(folder: Path, rows: int) -> Work:
    """Train by TRL with its own defaults: batches of 8 (two of them a step), checkpointing."""
    found = Rows(folder, rows)

    def run(train: list[Chat]) -> Path:
        set_seed(7)
        target = found.next_folder()
        trainer = SFTTrainer(
            model=load_plain(),
            args=SFTConfig(
                output_dir=str(target / "checkpoints"), gradient_accumulation_steps=2, **COMMON
            ),
            train_dataset=as_dataset(train),
            eval_dataset=as_dataset(found.held_out),
            processing_class=load_tokenizer(BASE),
            peft_config=LoraConfig(**LORA, task_type="CAUSAL_LM"),
        )
        trainer.train()
        trainer.save_model(str(target / "adapter"))
        return target / "adapter"

    return _warm(run, found)


def train_stage(folder: Path, rows: int, bare: bool = False, times: int | None = None) -> Work:
    """Train by retune's stage, with one evaluation at the end as the others have.

    Args:
        folder: Of this side.
        rows: How many are learned.
        bare: Take the steps alone: no evaluation, checkpoint, best weights or measuring.
        times: How many times the shipped base's parameters; None: that base itself.
    """
    found = Rows(folder, rows, find_base(folder, times))

    def run(train: list[Chat]) -> Path:
        work = make_workdir(found.next_folder())
        inputs, settings = _inputs(found, train, work.scratch), _settings()
        if not bare:
            supervised.train_adapter(inputs, settings, work)
            return work.artifact
        set_seed(settings.seed)
        trained = prepare_model(inputs, settings)
        trainer = supervised._build_sft_trainer(trained, inputs, settings, work)
        trainer.args.eval_strategy = trainer.args.save_strategy = "no"
        trainer.train()
        trained.save(work.artifact)
        return work.artifact

    return _warm(run, found)


def _warm(run: Callable[[list[Chat]], Path], found: Rows) -> Work:
    """Take one step first: what a first step loads and compiles is in no figure."""
    run(found.train[:16])
    return lambda: run(found.train), found.held_out_loss


def _inputs(found: Rows, train: list[Chat], folder: Path) -> TrainInputs:
    sides = {}
    for name, chats in (("train", train), ("validation", found.held_out)):
        side = folder / name
        side.mkdir()
        rows = [
            {"row_id": f"{name}-{at}", "prompt_ids": chat.prompt, "answer_ids": chat.answer}
            for at, chat in enumerate(chats)
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=_ROWS), side / "rows.parquet")
        sides[name] = SideRef(digest=name, folder=side)
    base = BaseRef(
        digest="b", folder=found.base, model_id="base", revision=None, tokenizer_digest="t"
    )
    sizes = ("parameters", "footprint_bytes", "base_footprint_bytes")
    figures: dict[str, Any] = {
        **dict.fromkeys(sizes, 1),
        **dict.fromkeys(("reference_perplexity", "base_reference_perplexity"), 1.0),
    }
    model = ModelRef(digest="m", folder=found.base, quantization="none", **figures)
    return TrainInputs(train=sides["train"], validation=sides["validation"], base=base, model=model)


def _settings() -> TrainSettings:
    training: dict[str, Any] = {"epochs": 1.0, "batch_size": 16, "evaluations": 1}
    training |= {"learning_rate": RATE, "warmup_steps": 0.03, "schedule": "cosine"}
    training |= {"evaluation_rows": HELD_OUT}
    settings: TrainSettings = settings_of(
        TrainSettings,
        seed=7,
        model={"id": "base"},
        quantization={"kind": "none"},
        method={"kind": "lora", "r": 16, "alpha": 32, "dropout": 0.0},
        training=training,
    )
    return settings
