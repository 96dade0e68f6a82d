"""Connecting to an engine of one's own, and trying whether it can be asked as it will be.

Nothing here loads torch: the model is elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from retune.data.chats.tokenizers import Tokenizer, end_token_ids, load_tokenizer
from retune.data.chats.tokenizing import tokenize
from retune.errors import ConfigError
from retune.inference.engine_address import read_engine_key
from retune.inference.remote_engine import RemoteEngine, try_protocol
from retune.modeling.head_files import has_head
from retune.serving.messages import RemoteSettings, ServedModel

_TRIED = "1"


class Linked(NamedTuple):
    """An engine that has a model, and what stays here (`proof.Spoken`).

    Attributes:
        tokenizer: The model's own.
        end_ids: Ids that end an answer.
        engine: The engine; whoever asked for it closes it.
    """

    tokenizer: Tokenizer
    end_ids: Sequence[int]
    engine: RemoteEngine


def connect(served: ServedModel, remote: RemoteSettings, batch: int) -> Linked:
    """Connect to an engine that has a model, and let it write a token.

    Args:
        served: The model.
        remote: Where the engine is, and what it calls the model.
        batch: Most answers asked for at a time.

    Raises:
        ConfigError: The model has a head, which no engine elsewhere has.
        EngineAway: The engine cannot be asked.
    """
    scored = served.scored
    if has_head(scored):
        raise ConfigError(
            f"{served.address}: it has a head and names classes, and an engine (--engine) writes "
            "text. Ask it without --engine."
        )
    tokenizer = load_tokenizer(scored.tokenizer)
    end_ids = end_token_ids(tokenizer, scored.tokenizer)
    engine = RemoteEngine(
        remote.address,
        served.name_at_engine(remote),
        end_ids,
        batch=batch,
        seconds=remote.seconds,
        key=read_engine_key(os.environ),
    )
    try:
        [(tried, _)] = tokenize(tokenizer, [_TRIED])
        try_protocol(engine, tried)
    except BaseException:
        engine.close()
        raise
    return Linked(tokenizer, end_ids, engine)
