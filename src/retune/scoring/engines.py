"""Who writes the answers: transformers anywhere, vLLM where it is installed and a GPU is there.

Both decode greedily, stop at the same end tokens, and decode new tokens with the same tokenizer
function, so that they differ in near ties only. A scorer is given an `AnswerEngine` and does not
know which.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from retune.data.tokenizers import Tokenizer, end_token_ids, load_tokenizer
from retune.errors import ConfigError
from retune.modeling.loading import SLOT, LoadedModel
from retune.records import ScoredModel
from retune.scoring.generation import (
    Answer,
    Progress,
    read_answer,
    set_unfit_aside,
    write_answers,
)
from retune.stopping import STOP

EngineName = Literal["transformers", "vllm"]
_PROMPTS_AT_ONCE = 2048  # vLLM batches by itself; this is how often progress and a stop are heard


class AnswerEngine(Protocol):
    """Continues prompts."""

    name: EngineName
    tokenizer: Tokenizer

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """Continue prompts greedily.

        Args:
            prompts: Token ids per prompt.
            max_new_tokens: Most tokens written per prompt.
            progress: Told how many prompts are done, and of how many.

        Returns:
            One answer per prompt, in their order; a prompt that does not fit has a reason instead.
        """
        ...


class TransformersEngine:
    """Batched `generate` of transformers.

    Args:
        loaded: Model and tokenizer.
        batch_size: Prompts per batch; halved for a batch that runs out of memory.
    """

    name: EngineName = "transformers"

    def __init__(self, loaded: LoadedModel, batch_size: int) -> None:
        self._loaded, self._batch_size = loaded, batch_size
        self.tokenizer = loaded.tokenizer

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """Continue prompts greedily; see `AnswerEngine`."""
        return write_answers(
            self._loaded,
            prompts,
            max_new_tokens=max_new_tokens,
            batch_size=self._batch_size,
            progress=progress,
        )


class VllmEngine:
    """vLLM's offline `LLM`; an adapter is served over its base, not merged.

    Args:
        scored: Weights, tokenizer and adapter.
        memory_share: Share of the GPU's memory that vLLM may take.
    """

    name: EngineName = "vllm"

    def __init__(self, scored: ScoredModel, memory_share: float = 0.85) -> None:
        # Not installed by this project, and seconds to import: only whoever makes one loads it.
        vllm = import_module("vllm")
        self._params = vllm.SamplingParams
        self.tokenizer = load_tokenizer(scored.tokenizer)
        self._end_ids = end_token_ids(self.tokenizer, scored.tokenizer)
        options: dict[str, Any] = {}
        self._adapter = None
        if scored.adapter is not None:
            options = {"enable_lora": True, "max_lora_rank": _read_rank(scored)}
            request = import_module("vllm.lora.request").LoRARequest
            self._adapter = request("adapter", 1, str(scored.adapter))
        self._llm = vllm.LLM(
            model=str(scored.weights),
            tokenizer=str(scored.tokenizer),
            gpu_memory_utilization=memory_share,
            seed=0,
            **options,
        )

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """Continue prompts greedily; see `AnswerEngine`."""
        # vLLM refuses a whole call for one prompt over its limit.
        limit = self._llm.llm_engine.model_config.max_model_len
        answers, order = set_unfit_aside(prompts, limit, max_new_tokens)
        params = self._params(
            temperature=0.0, max_tokens=max_new_tokens, stop_token_ids=list(self._end_ids)
        )
        done = len(prompts) - len(order)
        for start in range(0, len(order), _PROMPTS_AT_ONCE):
            STOP.raise_if_requested()
            batch = order[start : start + _PROMPTS_AT_ONCE]
            outputs = self._llm.generate(
                [{"prompt_token_ids": list(prompts[index])} for index in batch],
                params,
                use_tqdm=False,
                lora_request=self._adapter,
            )
            for index, output in zip(batch, outputs, strict=True):
                written = output.outputs[0].token_ids
                answers[index] = read_answer(self.tokenizer, self._end_ids, written)
            done += len(batch)
            if progress is not None:
                progress(done, len(prompts))
        return answers


def _read_rank(scored: ScoredModel) -> int:
    from peft import PeftConfig

    # vLLM makes room for ranks of these sizes only.
    rank = int(getattr(PeftConfig.from_pretrained(scored.adapter), "r", 0))
    fitting = [size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank > 0]
    if not fitting:
        raise ConfigError(
            f"{scored.adapter}: vLLM serves LoRA adapters of rank 1 to 512, found rank {rank}. "
            "Score it with the transformers engine, or merge it first."
        )
    return fitting[0]


def choose_engine_name(scored: ScoredModel | None = None) -> EngineName:
    """Return `vllm` when it is installed, a GPU is there and it can serve the model.

    Args:
        scored: What is to answer; None for plain weights. Of adapters, vLLM knows LoRA's only.

    Returns:
        The engine's name; `transformers` serves everything.
    """
    has_vllm = find_spec("vllm") is not None
    fits = scored is None or scored.adapter is None or _is_lora(scored.adapter)
    return "vllm" if has_vllm and torch.cuda.is_available() and fits else "transformers"


def _is_lora(adapter: Path) -> bool:
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    return bool(config.get("peft_type") == "LORA")


def make_engine(
    scored: ScoredModel, *, batch_size: int, name: EngineName | None = None
) -> AnswerEngine:
    """Make the engine that answers for a model.

    Args:
        scored: Weights, tokenizer and adapter.
        batch_size: Prompts per batch of the transformers engine.
        name: Which engine; the best one here when left out.

    Returns:
        The engine. transformers' shares the process's loaded model; vLLM's holds its own, and the
        loaded one is let go first, since the device seldom holds two.
    """
    if (name or choose_engine_name(scored)) == "vllm":
        SLOT.clear()
        return VllmEngine(scored)
    return TransformersEngine(SLOT.get(scored), batch_size)
