"""A model parted over ranks by torch's FSDP2, block by block, and its weights as a whole again.

The Trainer's own `fsdp=True` parts nothing on a CPU and says nothing, and its checkpoints can be
read by as many ranks alone. So the model is parted here, before the trainer prepares it, and every
checkpoint holds whole weights and a whole optimizer state, in the form of one device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from retune.errors import StageError

Tensors = dict[str, torch.Tensor]


def shard_model(model: nn.Module, device: str) -> None:
    """Part a model over all ranks: each block by itself, and what stands around them.

    Args:
        model: Whole, on the CPU; an adapter over it is parted with it.
        device: cpu or cuda; where the parts go, one block after the other.

    Raises:
        StageError: The model does not say what its blocks are, or a parameter was left whole.
    """
    mesh = init_device_mesh(device, (torch.distributed.get_world_size(),))
    blocks = find_blocks(model)
    if not blocks:
        raise StageError(
            f"training.sharding: {type(model).__name__} does not name its blocks "
            "(_no_split_modules), so all of it would be whole on each device at once. Write "
            "sharding: none for this model."
        )
    for block in blocks:
        fully_shard(block, mesh=mesh)
    # By default what stands around the blocks stays whole after a pass: an optimizer made then
    # would hold those weights, and what it does to them would be lost.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    whole = [name for name, weight in model.named_parameters() if not isinstance(weight, DTensor)]
    if whole:
        raise StageError(
            f"training.sharding: {len(whole)} weights were left whole ({', '.join(whole[:3])}). "
            "Write sharding: none for this model."
        )


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a model, as its class names those that are not to be cut through."""
    names = {
        name
        for module in model.modules()
        for name in getattr(module, "_no_split_modules", None) or ()
    }
    blocks = [module for module in model.modules() if type(module).__name__ in names]
    inner = {id(part) for block in blocks for part in block.modules() if part is not block}
    return [block for block in blocks if id(block) not in inner]


def is_sharded(model: nn.Module) -> bool:
    """Say whether a model is parted."""
    return isinstance(model, FSDPModule)


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this rank holds of a tensor; all of one that is not parted."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_weights(model: nn.Module) -> Tensors:
    """Gather what is trained, on the CPU; every rank has to call it."""
    return {
        name: cast(DTensor, weight.detach()).full_tensor().cpu()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


@contextmanager
def saving_whole(model: Any) -> Iterator[None]:
    """Let `save_pretrained` of a parted model write whole weights; every rank has to call it."""
    if not is_sharded(model):
        yield
        return
    weights = whole_weights(model)
    model.save_pretrained = partial(type(model).save_pretrained, model, state_dict=weights)
    try:
        yield
    finally:
        del model.save_pretrained


def whole_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's state in the form that it has on one device; every rank calls it."""
    found = optimizer.state_dict()
    # The state dict holds the optimizer's own mappings, which must stay in parts.
    whole = {
        place: {
            name: value.full_tensor().cpu() if isinstance(value, DTensor) else value
            for name, value in state.items()
        }
        for place, state in found["state"].items()
    }
    return {**found, "state": whole}


def part_state(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """Return this rank's part of an optimizer's state that was saved whole.

    Args:
        optimizer: Of the parted model.
        saved: From `whole_state`, or from a training on one device.

    Returns:
        What `load_state_dict` takes.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for place, state in saved["state"].items():
        weight = weights[int(place)]
        for name, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                state[name] = distribute_tensor(
                    value.to(weight.device),
                    weight.device_mesh,
                    weight.placements,
                    src_data_rank=None,
                )
    return saved
