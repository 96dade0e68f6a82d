"""Who writes the answers, behind one interface.

vLLM itself is not run here (it needs a GPU): a fake module stands for the part of its offline API
that is used, `LLM.generate` with token prompts, `SamplingParams` and `LoRARequest`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig

from retune.data.tables import read_rows
from retune.errors import ConfigError, Interrupted
from retune.modeling.loading import load_scored_model
from retune.records import BaseRef, ScoredModel, SideRef
from retune.scoring import engines
from retune.scoring.engines import (
    AnswerEngine,
    TransformersEngine,
    VllmEngine,
    choose_engine_name,
    make_engine,
)
from retune.scoring.generation import generate_answers
from retune.stopping import STOP


class FakeLlm:
    """Writes each prompt's last token and then the end token, and keeps what it was asked."""

    made: list[FakeLlm] = []  # noqa: RUF012 - cleared by the fixture

    def __init__(self, **options: Any) -> None:
        self.options, self.calls = options, []  # type: ignore[var-annotated]
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=32))
        FakeLlm.made.append(self)

    def generate(self, prompts: Sequence[Any], params: Any, **options: Any) -> list[Any]:
        self.calls.append((prompts, params, options))
        end = params.stop_token_ids[0]
        return [
            SimpleNamespace(
                outputs=[SimpleNamespace(token_ids=[one["prompt_token_ids"][-1], end, 9])]
            )
            for one in prompts
        ]


@pytest.fixture
def fake_vllm(monkeypatch: pytest.MonkeyPatch) -> type[FakeLlm]:
    """Modules that look like vLLM where it is used."""
    vllm, lora, request = (ModuleType(n) for n in ("vllm", "vllm.lora", "vllm.lora.request"))
    named: dict[str, Any] = {"LLM": FakeLlm, "SamplingParams": SimpleNamespace}
    vars(vllm).update(named, __spec__=ModuleSpec("vllm", None))
    vars(request).update(LoRARequest=lambda *fields: fields)
    for module in (vllm, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    FakeLlm.made.clear()
    return FakeLlm


def test_the_transformers_engine_answers_as_ever(base: BaseRef, held_out: SideRef) -> None:
    """The same texts as `generate_answers`."""
    loaded = load_scored_model(base.as_scored())
    prompts = [row["prompt_ids"] for row in read_rows(held_out.folder / "rows.parquet")[:3]]
    engine: AnswerEngine = TransformersEngine(loaded, batch_size=2)
    found = engine.answer(prompts, max_new_tokens=4)
    expected = generate_answers(loaded, prompts, max_new_tokens=4, batch_size=2)
    assert [one.text for one in found] == expected


def test_vllm_is_asked_for_the_same_thing(base: BaseRef, fake_vllm: type[FakeLlm]) -> None:
    """Greedy, the tokenizer's end tokens, prompts by ids; a prompt over the limit is not sent.

    The limit is 32 with 4 new tokens: 28 tokens fit, 29 do not.
    """
    engine = VllmEngine(base.as_scored())
    seen: list[tuple[int, int]] = []
    prompts = [[5, 311], [5] * 29, [], [5] * 27 + [312]]
    found = engine.answer(prompts, max_new_tokens=4, progress=lambda *at: seen.append(at))
    [made] = fake_vllm.made
    [(sent, params, options)] = made.calls
    assert [one["prompt_token_ids"] for one in sent] == [prompts[0], prompts[3]]
    end_ids = load_scored_model(base.as_scored()).end_ids
    assert vars(params) == {"temperature": 0.0, "max_tokens": 4, "stop_token_ids": end_ids}
    assert options == {"use_tqdm": False, "lora_request": None}
    assert [one.unscored_reason for one in found] == [None, "prompt_too_long", "prompt_empty", None]
    # What stands behind the end token is not part of the answer.
    assert [(one.tokens, one.finished) for one in found if one.text is not None] == [(1, True)] * 2
    assert seen == [(4, 4)]


def test_vllm_serves_an_adapter_over_its_base(
    base: BaseRef, fake_vllm: type[FakeLlm], tmp_path: Any
) -> None:
    """With room for the next rank that vLLM knows: 16 for 12."""
    LoraConfig(r=12).save_pretrained(tmp_path)
    scored = base.as_scored()
    adapted = ScoredModel(
        digest="", weights=scored.weights, tokenizer=scored.tokenizer, adapter=tmp_path
    )
    VllmEngine(adapted).answer([[5]], max_new_tokens=1)
    [made] = fake_vllm.made
    assert (made.options["enable_lora"], made.options["max_lora_rank"]) == (True, 16)
    assert made.calls[0][2]["lora_request"] == ("adapter", 1, str(tmp_path))
    LoraConfig(r=1000).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="rank 1000"):
        VllmEngine(adapted)


@pytest.mark.usefixtures("fake_vllm")
def test_a_stop_is_heard_by_vllm_too(base: BaseRef, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between calls."""
    engine = VllmEngine(base.as_scored())
    monkeypatch.setattr(STOP, "requested", True)
    with pytest.raises(Interrupted):
        engine.answer([[5]], max_new_tokens=1)


@pytest.mark.parametrize(
    ("installed", "gpu", "name"),
    [
        (True, True, "vllm"),
        (True, False, "transformers"),
        (False, True, "transformers"),
        (False, False, "transformers"),
    ],
)
def test_vllm_is_used_where_it_is_installed_and_a_gpu_is_there(
    monkeypatch: pytest.MonkeyPatch, installed: bool, gpu: bool, name: str
) -> None:
    """Else transformers."""
    spec = ModuleSpec("vllm", None) if installed else None
    monkeypatch.setattr(engines, "find_spec", lambda _name: spec)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert choose_engine_name() == name


@pytest.mark.usefixtures("fake_vllm")
def test_an_engine_is_made_by_name(base: BaseRef) -> None:
    """And nobody who does not ask for vLLM imports it."""
    assert make_engine(base.as_scored(), batch_size=2, name="transformers").name == "transformers"
    assert make_engine(base.as_scored(), batch_size=2, name="vllm").name == "vllm"
