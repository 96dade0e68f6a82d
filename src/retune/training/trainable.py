"""What a training changes: an adapter over a frozen base, or all weights; how each is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import PreTrainedModel

from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import StageError
from retune.inference.loaded_models import load_causal_model
from retune.modeling.architectures import plain_config, read_architecture
from retune.modeling.attention import choose_attention
from retune.modeling.devices import choose_compute_dtype, choose_device, choose_dtype
from retune.modeling.four_bit import use_plain_4bit_kernels
from retune.modeling.methods.apply import apply_method
from retune.modeling.methods.lora import Weights, fit_to_base, initial_update
from retune.modeling.methods.prompt_checks import VirtualTokensConfig, check_room
from retune.modeling.methods.prompt_learning import ENCODER_FILE, Prompted
from retune.preflight.devices import share_rows
from retune.recipe.sections import FullConfig
from retune.training.distributed.ranks import find_ranks
from retune.training.stages import StartInputs, StartSettings, TrainInputs


class Trainable(Protocol):
    """A model in training, and how what it learned is written and read."""

    @property
    def model(self) -> PreTrainedModel | PeftModel:
        """What the trainer is given."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was trained as the stage's artifact holds it."""
        ...

    def load(self, checkpoint: Path) -> None:
        """Read the weights of a checkpoint.

        Raises:
            RetuneError: A trained weight is missing there.
        """
        ...

    def count(self) -> tuple[int, int]:
        """Return the trainable parameters and all of them."""
        ...


@dataclass(frozen=True)
class TrainedAdapter:
    """An adapter over a frozen base.

    Attributes:
        model: peft's model.
        model_id: Name of the base as the recipe has it.
        initial: First values that were taken out of the base; None where it is as it was.
    """

    model: PeftModel
    model_id: str
    initial: Weights | None

    def save(self, folder: Path) -> None:
        """Write an adapter that fits the base as it was."""
        self.model.save_pretrained(folder)
        (folder / ENCODER_FILE).unlink(missing_ok=True)
        if self.initial is not None:
            fit_to_base(folder, self.initial)
        _name_base(folder / "adapter_config.json", self.model_id)

    def load(self, checkpoint: Path) -> None:
        """Read the adapter of a checkpoint."""
        load_adapter(self.model, checkpoint)

    def count(self) -> tuple[int, int]:
        """Return the adapter's parameters, and those of both."""
        trainable, total = self.model.get_nb_trainable_parameters()
        return trainable, total


@dataclass(frozen=True)
class TrainedWeights:
    """All weights of a model, in float32.

    Attributes:
        model: transformers' model.
        base: Folder of the snapshot that the training started from.
    """

    model: PreTrainedModel
    base: Path

    def save(self, folder: Path) -> None:
        """Write a snapshot whose settings are those of the base, whatever the trainer set."""
        self.model.save_pretrained(folder)
        config = plain_config(self.base)
        config.dtype = torch.float32
        config.save_pretrained(folder)
        generation = self.base / "generation_config.json"
        (folder / generation.name).unlink(missing_ok=True)
        if generation.is_file():
            shutil.copyfile(generation, folder / generation.name)
        load_tokenizer(self.base).save_pretrained(folder)

    def load(self, checkpoint: Path) -> None:
        """Read the weights of a checkpoint, the way that finds a missing one."""
        # Beside the model on its device there may be no room for a second one.
        cpu = torch.device("cpu")
        saved = load_causal_model(checkpoint, dtype=torch.float32, device=cpu)
        self.model.load_state_dict(saved.state_dict())

    def count(self) -> tuple[int, int]:
        """Return all parameters twice; what is shared counts once."""
        weights = list(self.model.parameters())
        learned = sum(weight.numel() for weight in weights if weight.requires_grad)
        return learned, sum(weight.numel() for weight in weights)


@dataclass(frozen=True)
class ModelKind:
    """What kind of model is trained.

    Attributes:
        load: Loads a snapshot folder, given `dtype`, `device` and options of `from_pretrained`.
        task_type: As peft names it.
        whole: Ends of names of modules that are trained as a whole under every method.
    """

    load: Callable[..., PreTrainedModel]
    task_type: str
    whole: tuple[str, ...] = ()


CAUSAL = ModelKind(load_causal_model, "CAUSAL_LM")
"""A model that writes."""


def learn_in_float32(model: torch.nn.Module) -> None:
    """Keep all that is trained in float32, where no small update is lost."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def prepare_model(
    inputs: StartInputs, settings: StartSettings, kind: ModelKind = CAUSAL
) -> Trainable:
    """Load the model that training starts from, and make what is trained.

    Args:
        inputs: The base, quantized or not.
        settings: Method, dtypes and attention.
        kind: What kind of model it is.

    Returns:
        The model with what is trainable.

    Raises:
        ConfigError: The method does not fit the model.
    """
    whole_model = isinstance(settings.method, FullConfig)
    # Steps are smaller than what 16 bits can add to a weight, on every device.
    dtype = torch.float32 if whole_model else choose_dtype(settings.dtype, choose_device())
    model = _load(inputs, settings, dtype, kind)
    if isinstance(settings.method, VirtualTokensConfig) and isinstance(inputs, TrainInputs):
        columns = ["prompt_ids", *(["answer_ids"] if kind is CAUSAL else [])]
        check_room(model, settings.method, inputs.train.folder / "rows.parquet", *columns)
    adapted = apply_method(
        model,
        settings.method,
        task_type=kind.task_type,
        whole=kind.whole,
        tokenizer=inputs.base.folder,
        gradient_checkpointing=settings.training.gradient_checkpointing,
    )
    if isinstance(adapted, PeftModel):
        return TrainedAdapter(adapted, inputs.base.model_id, initial_update(adapted))
    return TrainedWeights(adapted, inputs.base.folder)


def _load(
    inputs: StartInputs, settings: StartSettings, dtype: torch.dtype, kind: ModelKind
) -> PreTrainedModel:
    device, folder = choose_device(), inputs.model.weights(inputs.base)
    place = device
    if share_rows(settings.training, find_ranks().count, kind=device.type).sharded:
        # Whole it may fit no device: its parts go there, block by block.
        place = torch.device("cpu")
    family = read_architecture(folder).model_class
    attention = choose_attention(settings.attention, family, dtype=dtype, device=device)
    model = kind.load(folder, dtype=dtype, device=place, attn_implementation=attention)
    compute = choose_compute_dtype(settings.compute_dtype, device)
    use_plain_4bit_kernels(model, compute)
    return model


def load_adapter(model: PeftModel, folder: Path) -> None:
    """Put a saved adapter's weights into a model that has an adapter of the same form.

    Args:
        model: With freshly made adapters.
        folder: Holds `adapter_model.safetensors`.

    Raises:
        StageError: A weight of the adapter is missing there.
    """
    if isinstance(model, Prompted):
        model.load_encoder(folder)
        return
    result = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    learned = {name for name, weight in model.named_parameters() if weight.requires_grad}
    missing = [name for name in result.missing_keys if name in learned]
    if missing or result.unexpected_keys:
        raise StageError(f"{folder}: its weights do not fit the model's adapters ({missing[:3]}).")


def _name_base(path: Path, model_id: str) -> None:
    """Write the base's name as the recipe has it over the folder that peft loaded it from.

    A folder of this machine is no part of the result, nor is the order of peft's sets of modules,
    which differs from process to process: both would change the adapter's digest.
    """
    config = json.loads(path.read_text("utf-8"))
    for key in ("target_modules", "target_parameters", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key].sort()
    config["base_model_name_or_path"] = model_id
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
