"""One optimizer step of the pretraining, and the checkpoints that it resumes from."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM

from generator.base_model import answer_loss
from generator.batches import Batch

_BETAS = (0.9, 0.95)
_WEIGHT_DECAY = 0.01
_LARGEST_GRADIENT_NORM = 1.0


@dataclass
class Progress:
    """Where a training stands: ``loss`` is the mean over the last reported steps, in nats."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = 0.0


class BaseTrainer:
    """A bf16 model that computes, and a 32-bit copy of its weights that AdamW updates.

    On CPUs with bf16 instructions this is faster than autocast, which converts every weight at
    every use; the 32-bit copy keeps updates that are too small for bf16 to hold.

    Args:
        model: The model in 32-bit floats; its weights become bf16.
    """

    def __init__(self, model: LlamaForCausalLM) -> None:
        self.masters = [weight.detach().clone().requires_grad_() for weight in model.parameters()]
        self.model = model
        # The weights only: rounding the rotary frequencies too, as ``model.to`` does, would train
        # another model than the one that a later load computes with.
        for weight in model.parameters():
            weight.data = weight.data.bfloat16()
        matrices = [master for master in self.masters if master.dim() > 1]
        vectors = [master for master in self.masters if master.dim() == 1]
        groups = [
            {"params": matrices, "weight_decay": _WEIGHT_DECAY},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(groups, betas=_BETAS, fused=True)

    def learn(self, batch: Batch, learning_rate: float) -> torch.Tensor:
        """Take one optimizer step.

        Args:
            batch: Rows to learn from.
            learning_rate: The learning rate of this step.

        Returns:
            The mean loss of the batch before the step, in nats; a scalar.
        """
        loss = answer_loss(self.model, batch)
        loss.backward()
        for master, weight in zip(self.masters, self.model.parameters(), strict=True):
            master.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters, _LARGEST_GRADIENT_NORM)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._optimizer.step()
        self._copy_masters()
        return loss.detach()

    def save(self, progress: Progress, checkpoint: Path) -> None:
        """Write a checkpoint that is there in full or not at all.

        Args:
            progress: Where the training stands.
            checkpoint: The file; an older one is replaced.
        """
        state = {
            "weights": [master.detach() for master in self.masters],
            "optimizer": self._optimizer.state_dict(),
            "progress": asdict(progress),
        }
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        unfinished = checkpoint.with_suffix(".partial")
        with unfinished.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(checkpoint)

    def resume(self, checkpoint: Path) -> Progress:
        """Continue from a checkpoint if there is one.

        Args:
            checkpoint: A file that ``save`` wrote, or that does not exist yet.

        Returns:
            Where the training stands.
        """
        if not checkpoint.exists():
            return Progress()
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        with torch.no_grad():
            for master, weight in zip(self.masters, state["weights"], strict=True):
                master.copy_(weight)
        self._optimizer.load_state_dict(state["optimizer"])
        self._copy_masters()
        return Progress(**state["progress"])

    def _copy_masters(self) -> None:
        with torch.no_grad():
            for master, weight in zip(self.masters, self.model.parameters(), strict=True):
                weight.copy_(master)
