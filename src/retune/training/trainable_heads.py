"""What the training of a classification head changes, and how it is kept with its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import PreTrainedModel

from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import StageError
from retune.modeling.architectures import plain_config
from retune.modeling.head_files import write_head
from retune.modeling.heads import HEAD, add_head, load_classifier, save_head
from retune.training.stages import ClassifierInputs, ClassifierSettings
from retune.training.trainable import ModelKind, Trainable, prepare_model


@dataclass(frozen=True)
class AdapterWithHead:
    """A head and an adapter of any method over a frozen base.

    Attributes:
        adapter: The adapter, which keeps the head's weights with its own.
        labels: In the order of the head's figures.
    """

    adapter: Trainable
    labels: tuple[str, ...]

    @property
    def model(self) -> PreTrainedModel | PeftModel:
        """What the trainer is given."""
        return self.adapter.model

    def save(self, folder: Path) -> None:
        """Write the adapter and the labels."""
        self.adapter.save(folder)
        write_head(folder, self.labels)

    def load(self, checkpoint: Path) -> None:
        """Read the weights of a checkpoint."""
        self.adapter.load(checkpoint)

    def count(self) -> tuple[int, int]:
        """Return the trainable parameters and all of them."""
        return self.adapter.count()


@dataclass(frozen=True)
class HeadAlone:
    """A head over a base that stays as it is.

    Attributes:
        model: The classifier, of which the head alone is trained.
        labels: In the order of the head's figures.
    """

    model: PreTrainedModel
    labels: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write the head's weights and the labels."""
        save_head(self.model, folder)
        write_head(folder, self.labels)

    def load(self, checkpoint: Path) -> None:
        """Read the head of a checkpoint.

        Raises:
            StageError: It is not there.
        """
        name = f"{HEAD}.weight"
        for path in sorted(checkpoint.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                if name in file.keys():  # noqa: SIM118
                    self.model.get_submodule(HEAD).load_state_dict(
                        {"weight": file.get_tensor(name)}
                    )
                    return
        raise StageError(f"{checkpoint}: holds no {name}. Remove the folder to train anew.")

    def count(self) -> tuple[int, int]:
        """Return the head's parameters, and those of all."""
        return (
            sum(weight.numel() for weight in self.model.get_submodule(HEAD).parameters()),
            sum(weight.numel() for weight in self.model.parameters()),
        )


@dataclass(frozen=True)
class WholeClassifier:
    """All weights of a classifier, in float32.

    Attributes:
        model: The classifier.
        base: Folder of the snapshot that the training started from.
    """

    model: PreTrainedModel
    base: Path

    def save(self, folder: Path) -> None:
        """Write a plain snapshot with the base's settings and the labels."""
        self.model.save_pretrained(folder)
        write_config(self.model, self.base, folder, torch.float32)
        load_tokenizer(self.base).save_pretrained(folder)

    def load(self, checkpoint: Path) -> None:
        """Read the weights of a checkpoint, the way that finds a missing one."""
        cpu = torch.device("cpu")
        saved = load_classifier(checkpoint, dtype=torch.float32, device=cpu)
        self.model.load_state_dict(saved.state_dict())

    def count(self) -> tuple[int, int]:
        """Return all parameters twice; what is shared counts once."""
        total = sum(weight.numel() for weight in self.model.parameters())
        return total, total


def write_config(model: PreTrainedModel, base: Path, folder: Path, dtype: torch.dtype) -> None:
    """Write a classifier's configuration: the base's, whatever a trainer set, and the labels.

    Args:
        model: The classifier.
        base: Folder of the snapshot that it was made of.
        folder: Where to.
        dtype: Of the saved weights.
    """
    config = plain_config(base)
    config.id2label, config.label2id = model.config.id2label, model.config.label2id
    config.pad_token_id = model.config.pad_token_id
    config.architectures = [type(model).__name__]
    config.dtype = dtype
    config.save_pretrained(folder)


def prepare_classifier(inputs: ClassifierInputs, settings: ClassifierSettings) -> Trainable:
    """Load the model that training starts from with a new head, and make what is trained.

    Args:
        inputs: The base, quantized or not, and the labels.
        settings: Method, dtypes, dropout of the head.

    Returns:
        The model with what is trainable.

    Raises:
        ConfigError: The method or the head does not fit the model.
    """
    labels = tuple(sorted(inputs.labels))
    kind = ModelKind(
        load=partial(
            add_head,
            labels=labels,
            pad_token_id=int(load_tokenizer(inputs.base.folder).pad_token_id),
            seed=settings.seed,
            dropout=settings.head.dropout,
        ),
        task_type="SEQ_CLS",
        whole=(HEAD,),
    )
    trained = prepare_model(inputs, settings, kind)
    return _with_labels(trained, settings.method.kind, labels, inputs.base.folder)


def _with_labels(trained: Trainable, method: str, labels: Sequence[str], base: Path) -> Trainable:
    model = trained.model
    if method == "full" and isinstance(model, PreTrainedModel):
        return WholeClassifier(model, base)
    if method == "frozen" and isinstance(model, PreTrainedModel):
        model.requires_grad_(False)
        model.get_submodule(HEAD).requires_grad_(True)
        return HeadAlone(model, tuple(labels))
    return AdapterWithHead(trained, tuple(labels))
