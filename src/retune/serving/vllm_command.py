"""The command line that serves a model by vLLM as retune asks it, computed from the model's files.

vLLM stands in an environment or a container of its own: its pins cannot be installed here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from retune.errors import ConfigError
from retune.modeling.architectures import plain_config
from retune.modeling.context import read_context
from retune.modeling.head_files import has_head
from retune.serving.engine_address import name_at_engine
from retune.serving.messages import EngineSettings, ServedModel
from retune.text_files import read_json_object

_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM makes room for."""
_BEYOND_LORA = ("use_dora", "modules_to_save", "trainable_token_indices", "target_parameters")
_MOST_LOGPROBS = 20
"""As many as retune's server tells."""
_MADE_IN = re.compile(r"(?P<device>\S+) (?P<dtype>float32|float16|bfloat16)")


def vllm_words(served: ServedModel, settings: EngineSettings, host: str, port: int) -> list[str]:
    """Return the command that serves a model, as words.

    Args:
        served: The model.
        settings: How it is asked; the name that vLLM serves it under is part of that.
        host: Address that vLLM listens on.
        port: Its port.

    Returns:
        ``vllm serve`` with its arguments.

    Raises:
        ConfigError: vLLM cannot serve it: it has a head, or an adapter of another kind than LoRA.
    """
    scored = served.scored
    if has_head(scored):
        raise ConfigError(
            f"{served.address}: it has a head and names classes; retune serve does that itself."
        )
    name = name_at_engine(served, settings.remote)
    config = plain_config(scored.weights)
    limits = [settings.context, read_context(config)]
    words = ["vllm", "serve", str(scored.weights), "--tokenizer", str(scored.tokenizer)]
    if scored.adapter is None:
        words += ["--served-model-name", name]
    else:
        rank = _read_rank(scored.adapter)
        words += ["--served-model-name", f"{name}-base"]
        words += ["--enable-lora", "--max-lora-rank", str(rank)]
        words += ["--lora-modules", f"{name}={scored.adapter}"]
    words += ["--dtype", _dtype(served, config)]
    words += ["--max-model-len", str(min(each for each in limits if each is not None))]
    words += ["--max-logprobs", str(_MOST_LOGPROBS)]
    # Not what the model's own files say of sampling: each request says all of it.
    words += ["--generation-config", "vllm"]
    return [*words, "--host", host, "--port", str(port)]


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
