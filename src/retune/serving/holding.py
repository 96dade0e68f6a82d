"""What answers are made with: the model of this process, or an engine of one's own over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from retune.data.chats.tokenizers import Tokenizer
from retune.inference.jobs import Engine
from retune.inference.loaded_models import LoadedModel, load_scored_model
from retune.inference.token_losses import context_limit
from retune.modeling.architectures import plain_config
from retune.modeling.context import read_context
from retune.serving.connecting import connect
from retune.serving.engines import open_engine
from retune.serving.messages import EngineSettings, ServedModel


@dataclass(frozen=True)
class Held:
    """What answers are made with.

    Attributes:
        tokenizer: The model's own.
        end_ids: Ids that end an answer.
        context: Most tokens of a prompt with its answer.
        engine: What continues prompts; None for a model with a head.
        engine_name: Which one that is.
        loaded: The model; None where an engine elsewhere holds it.
    """

    tokenizer: Tokenizer
    end_ids: Sequence[int]
    context: int
    engine: Engine | None
    engine_name: Literal["paged", "padded", "head", "remote"]
    loaded: LoadedModel | None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Classes of a model with a head."""
        return self.loaded.labels if self.loaded is not None else None


def hold_model(served: ServedModel, settings: EngineSettings) -> Held:
    """Load a model, or connect to the engine that has it.

    Args:
        served: The model.
        settings: How answers are computed.

    Returns:
        What answers are made with.

    Raises:
        RetuneError: The model cannot be loaded, or has a head that no engine elsewhere has.
        EngineAway: The engine cannot be asked.
        Unproved: Not even padded batches work.
    """
    if settings.remote is not None:
        linked = connect(served, settings.remote, settings.batch)
        own = read_context(plain_config(served.scored.weights))
        context = _least(settings.context, own, linked.engine.card.context)
        return Held(linked.tokenizer, linked.end_ids, context, linked.engine, "remote", None)
    loaded = load_scored_model(served.scored)
    context = _least(settings.context, context_limit(loaded.model))
    engine: Engine | None = None
    name: Literal["paged", "padded", "head"] = "head"
    if loaded.labels is None:
        engine, name = open_engine(loaded, settings.batch, context)
    return Held(loaded.tokenizer, loaded.end_ids, context, engine, name, loaded)


def _least(wanted: int, *limits: int | None) -> int:
    return min(wanted, *(each for each in limits if each is not None), wanted)
