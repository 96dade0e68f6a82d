"""Plain weights of a model that writes, in MLflow's transformers flavour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.data.chats.tokenizers import end_token_ids
from retune.registry.forms.release_form import Parts, Reply
from retune.registry.forms.signature import text_signature
from retune.registry.forms.transformers_flavour import load_snapshot, locate_snapshot, save_snapshot

if TYPE_CHECKING:
    from mlflow.models import Model as MLmodel

    from retune.inference.loaded_models import LoadedModel

_CHECK_BATCH = 8


class WriterForm:
    """A snapshot folder; see `ReleaseForm`."""

    def fits(self, release: Path) -> bool:
        """Tell whether there are weights."""
        return (release / "config.json").is_file()

    def save(self, release: Path, target: Path, description: MLmodel, example: str) -> None:
        """Write a snapshot for text generation."""
        from transformers import AutoModelForCausalLM

        save_snapshot(
            release,
            target,
            description,
            loader=AutoModelForCausalLM,
            task="text-generation",
            signature=text_signature(),
            example=example,
            card=_model_card(release),
        )

    def locate(self, version: Path) -> Parts | None:
        """Return weights and tokenizer."""
        return locate_snapshot(version)

    def reload(self, address: str) -> LoadedModel:
        """Load a version through the transformers flavour."""
        from retune.inference.loaded_models import LoadedModel

        model, tokenizer = load_snapshot(address)
        return LoadedModel(model, tokenizer, end_token_ids(tokenizer, Path(tokenizer.name_or_path)))

    def answer(
        self, loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
    ) -> list[Reply]:
        """Return greedy answers as token ids."""
        return write_greedily(loaded, prompts, max_new_tokens)


def write_greedily(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[Reply]:
    """Return the tokens of a model's greedy answers.

    Args:
        loaded: A model that writes.
        prompts: Token ids per prompt.
        max_new_tokens: Most tokens written per prompt.

    Raises:
        ScoringError: A prompt is empty, or with its answer longer than the model's context.
    """
    from retune.inference.generation import answer_all

    answers = answer_all(loaded, prompts, max_new_tokens=max_new_tokens, batch_size=_CHECK_BATCH)
    return [list(answer.ids) for answer in answers]


def _model_card(release: Path) -> Any:
    from huggingface_hub import ModelCard

    path = release / "README.md"
    return ModelCard.load(path) if path.is_file() else None
