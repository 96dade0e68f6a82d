"""Plain weights in MLflow's transformers flavour: saved without being copied, and loaded again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.data.chats.tokenizers import load_tokenizer
from retune.hard_links import link_tree
from retune.registry.forms.release_form import Parts
from retune.registry.forms.signature import pin_requirements

if TYPE_CHECKING:
    from mlflow.models import Model as MLmodel
    from mlflow.models import ModelSignature
    from transformers import PreTrainedModel

    from retune.data.chats.tokenizers import Tokenizer

WEIGHTS = "model"
TOKENIZER = Path("components", "tokenizer")
"""Where MLflow's transformers flavour puts the parts."""

_NEEDED_TO_SERVE = ("accelerate", "mlflow", "torch", "transformers")


def save_snapshot(
    release: Path,
    target: Path,
    description: MLmodel,
    *,
    loader: Any,
    task: str,
    signature: ModelSignature,
    example: str,
    card: Any = None,
) -> None:
    """Write a snapshot in the transformers flavour.

    Args:
        release: The snapshot: weights with their tokenizer.
        target: Where to; does not exist yet.
        description: The model's identity in MLflow.
        loader: Class of transformers that loads the weights.
        task: What the flavour's pipeline does with it.
        signature: What goes in and out of a served version.
        example: A prompt as the model reads it.
        card: Its model card, if it has one.
    """
    import mlflow.transformers

    # A path instead of a model would be saved, but not loaded again by transformers 5.
    model = _sketch(release, loader)
    model.save_pretrained = lambda save_directory, **_: _link_weights(release, Path(save_directory))
    mlflow.transformers.save_model(
        {"model": model, "tokenizer": load_tokenizer(release)},
        path=str(target),
        task=task,
        mlflow_model=description,
        signature=signature,
        input_example=[example],
        model_card=card,
        # Without them MLflow infers some, which asks for torchvision.
        pip_requirements=pin_requirements(_NEEDED_TO_SERVE),
    )
    _complete(target, release)


def locate_snapshot(version: Path) -> Parts | None:
    """Return weights and tokenizer of a version's folder; None where one of them is not there."""
    if not (version / WEIGHTS / "config.json").is_file() or not (version / TOKENIZER).is_dir():
        return None
    return Parts(weights=version / WEIGHTS, tokenizer=version / TOKENIZER)


def load_snapshot(address: str) -> tuple[PreTrainedModel, Tokenizer]:
    """Load a version through the transformers flavour.

    Args:
        address: ``models:/name/version``.

    Returns:
        The model in evaluation mode, on the device and in the dtype that scorers use, and its
        tokenizer.

    Raises:
        MlflowException: MLflow does not answer, or cannot load it.
    """
    import mlflow.transformers

    from retune.modeling.devices import choose_device, choose_dtype

    device = choose_device()
    parts = mlflow.transformers.load_model(
        address, return_type="components", dtype=choose_dtype("auto", device)
    )
    return parts["model"].to(device).eval(), parts["tokenizer"]


def _sketch(release: Path, loader: Any) -> Any:
    """Return the model without its weights: MLflow notes its class and its dtype, no more.

    The weights' own dtype: what scorers compute in depends on the device.
    """
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(release, local_files_only=True)
    with torch.device("meta"):
        model = loader.from_config(config, dtype=config.dtype)
    # MLflow's pipeline would bring it onto the device, and there is nothing to bring.
    model.to = lambda *_, **__: model
    return model


def _link_weights(release: Path, target: Path) -> None:
    """Put what `save_pretrained` would write into a folder; what is large is linked."""
    beside = [path.name for path in release.iterdir() if not _is_of_model(path.name)]
    link_tree(release, target, without=beside)


def _is_of_model(name: str) -> bool:
    return name in ("config.json", "generation_config.json") or ".safetensors" in name


def _complete(target: Path, release: Path) -> None:
    """Add what the transformers flavour leaves out, and remove what it makes up."""
    # A scorer looks for the end tokens of a generation config next to the tokenizer.
    config = release / "generation_config.json"
    if config.is_file():
        shutil.copyfile(config, target / TOKENIZER / config.name)
    # MLflow writes a licence text that points to the hub page of a model that is not there.
    (target / "LICENSE.txt").unlink(missing_ok=True)
