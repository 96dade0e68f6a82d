"""Which engine suits a model."""

from __future__ import annotations

import sys
from typing import Literal

from retune.data.chats.tokenizing import tokenize
from retune.inference.jobs import Engine
from retune.inference.loaded_models import LoadedModel
from retune.serving.padded_engine import PaddedEngine
from retune.serving.proof import answer_greedily

_TRIED_TOKENS = 8
_TRIED = "1 2 3 4 5 6 7 8"


def open_engine(
    loaded: LoadedModel, batch: int, context: int
) -> tuple[Engine, Literal["paged", "padded"]]:
    """Open the engine that suits a model: pages where they give the same tokens, else batches.

    Learned positions before the text would be left out of pages. Whether any other model can page
    is found out by letting it.

    Args:
        loaded: The model.
        batch: Most answers at a time.
        context: Most tokens of a prompt with its answer.

    Returns:
        The engine, and which one it is.

    Raises:
        Unproved: Not even padded batches work.
    """
    [(tried, _)] = tokenize(loaded.tokenizer, [_TRIED])
    plain: Engine = PaddedEngine(loaded, batch, context)
    expected = answer_greedily(plain, loaded.end_ids, [tried], _TRIED_TOKENS)
    if getattr(getattr(loaded.model, "active_peft_config", None), "is_prompt_learning", False):
        return plain, "padded"
    attention = loaded.model.config._attn_implementation
    paged: Engine | None = None
    try:
        from retune.serving.paged_engine import PagedEngine

        paged = PagedEngine(loaded, batch, context)
        if answer_greedily(paged, loaded.end_ids, [tried], _TRIED_TOKENS) == expected:
            plain.close()
            return paged, "paged"
        why = "pages give other tokens"
    except Exception as error:  # noqa: BLE001 - whatever a model's code raises, batches remain
        why = f"{type(error).__name__}: {error!s:.200}"
    if paged is not None:
        paged.close()
    if loaded.model.config._attn_implementation != attention:
        loaded.model.set_attn_implementation(attention)
    sys.stderr.write(f"the model cannot page ({why}); it is served in padded batches\n")
    return plain, "padded"
