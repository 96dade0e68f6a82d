"""Proving an export: loaded again, it answers prompts like what it was made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import ArtifactError
from retune.model_records import ScoredModel
from retune.modeling.reference import REFERENCE_TEXT, read_references
from retune.publishing.records import ExportProof

if TYPE_CHECKING:
    from retune.inference.loaded_models import LoadedModel

Loader = Callable[[], "LoadedModel"]

_MOST_PROMPTS = 8
_PROMPT_TOKENS = 48
_NEW_TOKENS = 24


def prove_export(
    original: ScoredModel,
    load_exported: Loader,
    prompts: Sequence[str],
    compared_with: str,
    *,
    exact: bool = True,
    max_weight_difference: float | None = None,
) -> ExportProof:
    """Load two models one after the other, and compare what they answer.

    Args:
        original: What was exported.
        load_exported: Loads the export.
        prompts: Prompts of the version, as the model reads them; a few general ones are added.
        compared_with: The original, in words.
        exact: Whether one answer that differs refuses the export; else it is counted.
        max_weight_difference: As in `ExportProof`.

    Returns:
        How many prompts both answered alike.

    Raises:
        ArtifactError: One answer differs, and none may.
        ConfigError: The export cannot be loaded.
    """
    ids = encode_prompts(original.tokenizer, prompts)
    expected = _answer(loading(original), ids)
    # The first model is free by now: two of this size need not be held at once.
    found = _answer(load_exported, ids)
    equal = sum(one == other for one, other in zip(expected, found, strict=True))
    if exact and equal < len(ids):
        raise ArtifactError(
            f"loaded again, the export answers {len(ids) - equal} of {len(ids)} prompts otherwise "
            f"than {compared_with}, expected none. Nothing was exported. Look at the disk and "
            "export again; if it stays so, report it."
        )
    return ExportProof(
        prompts=len(ids),
        answers_equal=equal,
        compared_with=compared_with,
        max_weight_difference=max_weight_difference,
    )


def loading(model: ScoredModel) -> Loader:
    """Return what loads a model from its parts, as scorers do."""

    def load() -> LoadedModel:
        from retune.inference.loaded_models import load_scored_model

        return load_scored_model(model)

    return load


def encode_prompts(tokenizer: Path, prompts: Sequence[str]) -> list[list[int]]:
    """Return the ids of prompts: the given ones and then general texts, each cut to a few tokens.

    Args:
        tokenizer: The snapshot whose tokenizer reads them.
        prompts: As the model reads them, special tokens written out.
    """
    loaded = load_tokenizer(tokenizer)
    texts = [*prompts, *(each.text for each in read_references(REFERENCE_TEXT))][:_MOST_PROMPTS]
    ids = [loaded(text, add_special_tokens=False)["input_ids"] for text in texts]
    # The end of a prompt says what is to be answered.
    return [each[-_PROMPT_TOKENS:] for each in ids if each]


def _answer(load: Loader, prompts: Sequence[Sequence[int]]) -> list[str]:
    """Return greedy answers to prompts, or the classes that a head names."""
    from retune.inference.generation import generate_answers
    from retune.inference.head_predictions import class_figures

    loaded = load()
    if loaded.labels is None:
        return generate_answers(
            loaded, prompts, max_new_tokens=_NEW_TOKENS, batch_size=_MOST_PROMPTS
        )
    pad_id = int(loaded.tokenizer.pad_token_id)
    figures = class_figures(loaded.model, prompts, batch_size=_MOST_PROMPTS, pad_id=pad_id)
    return [loaded.labels[int(place)] for place in figures.argmax(axis=-1)]
