"""Scoring general text: figures of the file's own rows, whatever the batch."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from retune.inference.loaded_models import SLOT
from retune.inference.text_losses import answer_losses, text_losses
from retune.model_records import BaseRef
from retune.modeling.reference import REFERENCE_TEXT
from retune.records import Source
from retune.scoring import general_text as general_text_module
from retune.scoring.general_text import score_general_text
from retune.scoring.outcomes import read_outcomes
from retune.scoring.perplexity import perplexity
from retune.scoring.stages import LossSettings, TextInputs
from retune.spine.stage import Workdir
from tests.making import make_workdir, settings_of, source_of

TEXTS = ["Quantas cidades há na tabela?", "The library lends five books.", "A feira abre às seis."]


def section(batch_size: int = 2) -> LossSettings:
    scoring = {"resamples": 100, "runtime": {"batch_size": batch_size}}
    found: LossSettings = settings_of(LossSettings, scoring=scoring)
    return found


def test_figures_are_those_of_the_scorer(
    base: BaseRef, write_rows: Callable[..., Source], work: Workdir
) -> None:
    """Over bytes and over tokens of all texts, and of the file of outcomes as well."""
    source = write_rows([{"text": text} for text in TEXTS])
    report = score_general_text(TextInputs(model=base.as_scored(), text=source), section(), work)
    loaded = SLOT.get(base.as_scored())
    losses = [
        one for one in text_losses(loaded.model, loaded.tokenizer, TEXTS, batch_size=1) if one
    ]
    bits = report.metrics["general_text_bits_per_byte"]
    nats = math.fsum(one.nll_sum_nats for one in losses)
    assert bits.value == pytest.approx(
        nats / math.log(2) / sum(len(text.encode()) for text in TEXTS), rel=1e-5
    )
    assert report.metrics["general_text_perplexity"].value == pytest.approx(
        perplexity(losses), rel=1e-5
    )
    outcomes = read_outcomes(report)
    assert [one["row_id"] for one in outcomes] == ["1", "2", "3"]
    assert [one["bytes"] for one in outcomes] == [len(text.encode()) for text in TEXTS]
    nats = math.fsum(one["nll_sum_nats"] for one in outcomes)
    by_hand = nats / math.log(2) / sum(len(text.encode()) for text in TEXTS)
    assert bits.value == pytest.approx(by_hand, rel=1e-12)
    assert bits.low is not None and bits.high is not None
    assert bits.low < by_hand < bits.high
    assert (bits.n, report.rows, report.unscored) == (3, 3, {})


def test_batch_size_and_order_change_nothing(
    base: BaseRef, write_rows: Callable[..., Source], tmp_path: Path
) -> None:
    """Each text is scored by itself."""
    rows = [{"text": text} for text in TEXTS]
    rows.append({"prompt": "Onde fica a feira?", "text": "Na praça."})
    values = []
    for size, order in ((1, rows), (8, rows[::-1])):
        source = write_rows(order, f"{size}.jsonl")
        report = score_general_text(
            TextInputs(model=base.as_scored(), text=source),
            section(size),
            make_workdir(tmp_path / str(size)),
        )
        values.append(report.metrics["general_text_bits_per_byte"].value)
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_a_text_with_a_prompt_is_scored_as_its_answer(
    base: BaseRef, write_rows: Callable[..., Source], work: Workdir
) -> None:
    """Without an end token, and beside plain texts in one file."""
    rows = [{"prompt": "Onde fica a feira?", "text": "Na praça."}, {"text": TEXTS[0]}]
    inputs = TextInputs(model=base.as_scored(), text=write_rows(rows))
    outcomes = read_outcomes(score_general_text(inputs, section(), work))
    loaded = SLOT.get(base.as_scored())
    prompt = loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Onde fica a feira?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    ids = [
        loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (prompt, "Na praça.")
    ]
    [expected] = answer_losses(loaded.model, [(ids[0], ids[1])], batch_size=1, pad_id=0)
    assert outcomes[0]["nll_sum_nats"] == pytest.approx(expected.nll_sum_nats, rel=1e-5)
    assert outcomes[0]["tokens"] == len(ids[1])
    assert outcomes[0]["bytes"] == 10  # "ç" has two
    assert outcomes[1]["bytes"] == len(TEXTS[0].encode())


def test_a_begin_token_lets_the_first_token_be_scored(
    base: BaseRef,
    write_rows: Callable[..., Source],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Models that always saw one are at a loss without it."""
    inputs = TextInputs(model=base.as_scored(), text=write_rows([{"text": TEXTS[0]}]))
    loaded = SLOT.get(base.as_scored())
    tokenizer = copy.deepcopy(loaded.tokenizer)
    slot = SimpleNamespace(get=lambda *_: replace(loaded, tokenizer=tokenizer))
    monkeypatch.setattr(general_text_module, "SLOT", slot)
    tokens = []
    for begin in (None, tokenizer.eos_token):
        tokenizer.bos_token = begin
        report = score_general_text(inputs, section(), make_workdir(tmp_path / str(bool(begin))))
        tokens.append(read_outcomes(report)[0]["tokens"])
    ids = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    assert tokens == [len(ids) - 1, len(ids)]


def test_texts_that_cannot_be_scored_are_counted(
    base: BaseRef, write_rows: Callable[..., Source], work: Workdir
) -> None:
    """One token follows on nothing; an answer must fit behind its prompt. Long texts are cut."""
    rows = [
        {"text": "a"},
        {"prompt": "palavra " * 3000, "text": "sim"},
        {"text": "palavra " * 3000},
    ]
    inputs = TextInputs(model=base.as_scored(), text=write_rows(rows))
    report = score_general_text(inputs, section(), work)
    assert report.unscored == {"text_too_short": 1, "text_too_long": 1}
    assert report.metrics["general_text_perplexity"].n == 1
    outcomes = read_outcomes(report)
    assert [one["reason"] for one in outcomes] == ["text_too_short", "text_too_long", None]
    assert [one["nll_sum_nats"] is None for one in outcomes] == [True, True, False]
    assert {one["group"] for one in outcomes} == {None}


def test_the_shipped_texts_are_scored(base: BaseRef, work: Workdir) -> None:
    """Each of them, whatever the recipe names."""
    inputs = TextInputs(model=base.as_scored(), text=source_of(REFERENCE_TEXT))
    report = score_general_text(inputs, section(8), work)
    lines = REFERENCE_TEXT.read_text("utf-8").splitlines()
    assert [one["bytes"] for one in read_outcomes(report)] == [
        len(json.loads(line)["text"].encode()) for line in lines
    ]
    assert report.unscored == {}
