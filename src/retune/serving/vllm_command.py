"""The command line that serves a model by vLLM as retune asks it, computed from the model's files.

vLLM stands in an environment or a container of its own: its pins cannot be installed here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retune.errors import ConfigError
from retune.modeling.architectures import plain_config
from retune.modeling.context import read_context
from retune.modeling.head_files import has_head
from retune.serving.messages import EngineSettings, ServedModel
from retune.text_files import read_json_object

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for."""
_BEYOND_LORA = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters")
_MOST_LOGPROBS = 20
"""As many as retune's server tells."""
_MADE_IN = re.compile(r"(?P<device>\S+) (?P<dtype>float32|float16|bfloat16)")


def vllm_words(
    models: Sequence[ServedModel], settings: EngineSettings, host: str, port: int
) -> list[str]:
    """Return the command that serves a model, or several adapters over one base, as words.

    Args:
        models: At least one.
        settings: How they are asked; the name that vLLM serves one under is part of that.
        host: Address that vLLM listens on.
        port: Its port.

    Returns:
        ``vllm serve`` with its arguments.

    Raises:
        ConfigError: vLLM cannot serve it: it has a head, or an adapter of another kind than LoRA;
            or several are no adapters over one base.
    """
    for each in models:
        if has_head(each.scored):
            raise ConfigError(
                f"{each.address}: it has a head and names classes; retune serve does that itself."
            )
    served, *further = models
    _refuse_apart(served, further)
    scored = served.scored
    name = served.name_at_engine(settings.remote)
    config = plain_config(scored.weights)
    limits = [settings.context, read_context(config)]
    words = ["vllm", "serve", str(scored.weights), "--tokenizer", str(scored.tokenizer)]
    if scored.adapter is None:
        words += ["--served-model-name", name]
    else:
        adapters = [
            (each.name_at_engine(settings.remote), each.scored.adapter)
            for each in models
            if each.scored.adapter is not None
        ]
        rank = max(_read_rank(adapter) for _, adapter in adapters)
        words += ["--served-model-name", f"{name}-base"]
        words += ["--enable-lora", "--max-lora-rank", str(rank)]
        # In one batch; one alone unless it is said.
        words += ["--max-loras", str(len(adapters))] if further else []
        words += ["--lora-modules", *(f"{each}={adapter}" for each, adapter in adapters)]
    words += ["--dtype", _dtype(served, config)]
    words += ["--max-model-len", str(min(each for each in limits if each is not None))]
    words += ["--max-logprobs", str(_MOST_LOGPROBS)]
    # Not what the model's own files say of sampling: each request says all of it.
    words += ["--generation-config", "vllm"]
    return [*words, "--host", host, "--port", str(port)]


def _refuse_apart(first: ServedModel, further: Sequence[ServedModel]) -> None:
    for each in further:
        if first.scored.adapter is None or each.scored.adapter is None:
            whole = first if first.scored.adapter is None else each
            raise ConfigError(
                f"{whole.address}: is no adapter, and one vLLM serves several adapters over one "
                "base, or one whole model. Print a command for each."
            )
        if each.scored.weights != first.scored.weights:
            raise ConfigError(
                f"{each.address}: stands on {each.scored.weights}, and {first.address} on "
                f"{first.scored.weights}; one vLLM has one base. Print a command for each."
            )


def _dtype(served: ServedModel, config: Any) -> str:
    """Return the dtype in which the stored answers were made, else that of the weights."""
    made = _MADE_IN.fullmatch(served.answers.made_on) if served.answers is not None else None
    if made is not None:
        return made["dtype"]
    return str(getattr(config, "dtype", None) or "auto").removeprefix("torch.")


def _read_rank(adapter: Path) -> int:
    """Return the rank that vLLM has to make room for."""
    path = adapter / "adapter_config.json"
    found = read_json_object(path, ConfigError)
    if found.get("peft_type") != "LORA":
        raise ConfigError(
            f"{path}: vLLM serves LoRA over a base, and this is {found.get('peft_type')!r}. "
            "Serve it without --engine."
        )
    odd = [name for name in _BEYOND_LORA if found.get(name)]
    if found.get("bias", "none") != "none":
        odd.append("bias")
    if odd:
        raise ConfigError(
            f"{path}: vLLM serves plain LoRA over a base, and this one has {', '.join(odd)}. "
            "Release it merged, or serve it without --engine."
        )
    rank = max([int(found["r"]), *map(int, (found.get("rank_pattern") or {}).values())])
    for room in _RANKS:
        if rank <= room:
            return room
    raise ConfigError(f"{path}: the rank is {rank}, and vLLM has room for {_RANKS[-1]} at most.")
