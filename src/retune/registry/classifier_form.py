"""Plain weights of a model with a classification head, in MLflow's transformers flavour.

Its task there is ``text-classification``: a served version answers a rendered prompt with the name
of a class and its probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
from retune.modeling.head_files import is_classifier_snapshot
from retune.registry.forms import Parts
from retune.registry.interface import pin_requirements
from retune.registry.writer_form import WEIGHTS, WriterForm, complete

if TYPE_CHECKING:
    from mlflow.models import Model as MLmodel
    from mlflow.models import ModelSignature

    from retune.inference.loaded_models import LoadedModel

_NEEDED_TO_SERVE = ("accelerate", "mlflow", "torch", "transformers")
_CHECK_BATCH = 8


class ClassifierForm:
    """A snapshot folder with a head; see `ReleaseForm`."""

    def fits(self, release: Path) -> bool:
        """Tell whether the weights have a classification head."""
        return is_classifier_snapshot(release)

    def save(self, release: Path, target: Path, description: MLmodel, example: str) -> None:
        """Write a snapshot in the transformers flavour."""
        import mlflow.transformers
        from transformers import AutoModelForSequenceClassification

        # The weights' own dtype: what scorers compute in depends on the device.
        model = AutoModelForSequenceClassification.from_pretrained(
            release, dtype="auto", local_files_only=True
        )
        mlflow.transformers.save_model(
            {"model": model, "tokenizer": load_tokenizer(release)},
            path=str(target),
            task="text-classification",
            mlflow_model=description,
            signature=class_signature(),
            input_example=[example],
            # Without them MLflow infers some, which asks for torchvision.
            pip_requirements=pin_requirements(_NEEDED_TO_SERVE),
        )
        complete(target, release)

    def locate(self, version: Path) -> Parts | None:
        """Return weights and tokenizer."""
        return WriterForm().locate(version) if is_classifier_snapshot(version / WEIGHTS) else None

    def reload(self, address: str) -> LoadedModel:
        """Load a version through the transformers flavour."""
        import mlflow.transformers

        from retune.inference.loaded_models import LoadedModel
        from retune.modeling.devices import choose_device, choose_dtype
        from retune.modeling.heads import pool_last_real_token

        device = choose_device()
        parts = mlflow.transformers.load_model(
            address, return_type="components", dtype=choose_dtype("auto", device)
        )
        model, tokenizer = parts["model"].to(device).eval(), parts["tokenizer"]
        names = model.config.id2label
        return LoadedModel(
            pool_last_real_token(model),
            tokenizer,
            end_token_ids(tokenizer, Path(tokenizer.name_or_path)),
            tuple(names[place] for place in sorted(names)),
        )

    def answer(self, loaded: LoadedModel, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the predicted classes."""
        return name_classes(loaded, rows)


def name_classes(loaded: LoadedModel, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the class that a head finds likeliest for each row.

    Args:
        loaded: A model with a head.
        rows: Chats, with `prompt_ids`.
    """
    from retune.inference.head_predictions import class_figures

    figures = class_figures(
        loaded.model,
        [row["prompt_ids"] for row in rows],
        batch_size=_CHECK_BATCH,
        pad_id=int(loaded.tokenizer.pad_token_id),
    )
    labels = loaded.labels or ()
    return [labels[int(place)] for place in figures.argmax(axis=-1)] if len(rows) else []


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
