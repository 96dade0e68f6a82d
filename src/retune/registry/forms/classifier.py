"""Plain weights of a model with a classification head, in MLflow's transformers flavour.

Its task there is ``text-classification``: a served version answers a rendered prompt with the name
of a class and its probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retune.data.chats.tokenizers import end_token_ids
from retune.modeling.head_files import is_classifier_snapshot
from retune.registry.forms.release_form import Parts, Reply
from retune.registry.forms.transformers_flavour import (
    WEIGHTS,
    load_snapshot,
    locate_snapshot,
    save_snapshot,
)

if TYPE_CHECKING:
    from mlflow.models import Model as MLmodel
    from mlflow.models import ModelSignature

    from retune.inference.loaded_models import LoadedModel

_CHECK_BATCH = 8


class ClassifierForm:
    """A snapshot folder with a head; see `ReleaseForm`."""

    def fits(self, release: Path) -> bool:
        """Tell whether the weights have a classification head."""
        return is_classifier_snapshot(release)

    def save(self, release: Path, target: Path, description: MLmodel, example: str) -> None:
        """Write a snapshot in the transformers flavour."""
        from transformers import AutoModelForSequenceClassification

        save_snapshot(
            release,
            target,
            description,
            loader=AutoModelForSequenceClassification,
            task="text-classification",
            signature=class_signature(),
            example=example,
        )

    def locate(self, version: Path) -> Parts | None:
        """Return weights and tokenizer."""
        return locate_snapshot(version) if is_classifier_snapshot(version / WEIGHTS) else None

    def reload(self, address: str) -> LoadedModel:
        """Load a version through the transformers flavour."""
        from retune.inference.loaded_models import LoadedModel
        from retune.modeling.heads import pool_last_real_token

        model, tokenizer = load_snapshot(address)
        names = model.config.id2label
        return LoadedModel(
            pool_last_real_token(model),
            tokenizer,
            end_token_ids(tokenizer, Path(tokenizer.name_or_path)),
            tuple(names[place] for place in sorted(names)),
        )

    def answer(
        self, loaded: LoadedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
    ) -> list[Reply]:
        """Return the predicted classes."""
        return name_classes(loaded, prompts)


def name_classes(loaded: LoadedModel, prompts: Sequence[Sequence[int]]) -> list[Reply]:
    """Return the class that a head finds likeliest for each prompt.

    Args:
        loaded: A model with a head.
        prompts: Token ids per prompt.
    """
    from retune.inference.head_predictions import class_figures

    if not prompts:
        return []
    figures = class_figures(
        loaded.model,
        prompts,
        batch_size=_CHECK_BATCH,
        pad_id=int(loaded.tokenizer.pad_token_id),
    )
    labels = loaded.labels or ()
    return [labels[int(place)] for place in figures.argmax(axis=-1)]


def class_signature() -> ModelSignature:
    """Return the signature of a model that names classes: text in, a name and a probability out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string)]),
        outputs=Schema([ColSpec(DataType.string, "label"), ColSpec(DataType.double, "score")]),
        # A rendered chat has its begin token; a second one would be another prompt.
        params=ParamSchema([ParamSpec("add_special_tokens", DataType.boolean, False)]),
    )
