"""Plain weights of a model that writes, in MLflow's transformers flavour."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.data.chats.tokenizers import end_token_ids, load_tokenizer
from retune.registry.forms import Parts
from retune.registry.interface import pin_requirements, text_signature

if TYPE_CHECKING:
    from mlflow.models import Model as MLmodel

    from retune.inference.loaded_models import LoadedModel

WEIGHTS = "model"
TOKENIZER = Path("components", "tokenizer")
"""Where MLflow's transformers flavour puts the parts."""

_NEEDED_TO_SERVE = ("accelerate", "mlflow", "torch", "transformers")
_CHECK_BATCH = 8


class WriterForm:
    """A snapshot folder; see `ReleaseForm`."""

    def fits(self, release: Path) -> bool:
        """Tell whether there are weights."""
        return (release / "config.json").is_file()

    def save(self, release: Path, target: Path, description: MLmodel, example: str) -> None:
        """Write a snapshot in the transformers flavour."""
        import mlflow.transformers
        from transformers import AutoModelForCausalLM

        # The weights' own dtype: what scorers compute in depends on the device. A path instead of
        # the loaded model would be saved, but not loaded again by transformers 5.
        model = AutoModelForCausalLM.from_pretrained(release, dtype="auto", local_files_only=True)
        mlflow.transformers.save_model(
            {"model": model, "tokenizer": load_tokenizer(release)},
            path=str(target),
            task="text-generation",
            mlflow_model=description,
            signature=text_signature(),
            input_example=[example],
            model_card=_model_card(release),
            # Without them MLflow infers some, which asks for torchvision.
            pip_requirements=pin_requirements(_NEEDED_TO_SERVE),
        )
        complete(target, release)

    def locate(self, version: Path) -> Parts | None:
        """Return weights and tokenizer."""
        if not (version / WEIGHTS / "config.json").is_file() or not (version / TOKENIZER).is_dir():
            return None
        return Parts(weights=version / WEIGHTS, tokenizer=version / TOKENIZER)

    def reload(self, address: str) -> LoadedModel:
        """Load a version through the transformers flavour."""
        import mlflow.transformers

        from retune.inference.loaded_models import LoadedModel
        from retune.modeling.devices import choose_device, choose_dtype

        device = choose_device()
        parts = mlflow.transformers.load_model(
            address, return_type="components", dtype=choose_dtype("auto", device)
        )
        model, tokenizer = parts["model"].to(device).eval(), parts["tokenizer"]
        return LoadedModel(model, tokenizer, end_token_ids(tokenizer, Path(tokenizer.name_or_path)))

    def answer(self, loaded: LoadedModel, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return greedy answers."""
        return write_greedily(loaded, rows)


def write_greedily(loaded: LoadedModel, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a model's greedy answers to chats, as long as the reference answers may be.

    Args:
        loaded: A model that writes.
        rows: Chats, with `prompt_ids` and `answer_ids`.
    """
    from retune.inference.generation import generate_answers

    return generate_answers(
        loaded,
        [row["prompt_ids"] for row in rows],
        max_new_tokens=max((len(row["answer_ids"]) for row in rows), default=1),
        batch_size=_CHECK_BATCH,
    )


def complete(target: Path, release: Path) -> None:
    """Add what the transformers flavour leaves out, and remove what it makes up.

    Args:
        target: The saved MLflow model.
        release: The snapshot that it was saved from.
    """
    # A scorer looks for the end tokens of a generation config next to the tokenizer.
    config = release / "generation_config.json"
    if config.is_file():
        shutil.copyfile(config, target / TOKENIZER / config.name)
    # MLflow writes a licence text that points to the hub page of a model that is not there.
    (target / "LICENSE.txt").unlink(missing_ok=True)


def _model_card(release: Path) -> Any:
    from huggingface_hub import ModelCard

    path = release / "README.md"
    return ModelCard.load(path) if path.is_file() else None
