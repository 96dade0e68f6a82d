"""Loading a model of which a part stays on the disk, in its snapshot's own safetensors.

accelerate's hooks read each linear layer before its forward pass and let go of it behind it. What
transformers has to convert while it loads, such as the experts of a mixture or MXFP4 blocks, is
written once to a temporary folder (`TMPDIR`) that goes with the model.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from retune.model_records import StagePlace

DISK = "disk"


def offload_options(model: nn.Module, device: torch.device, place: StagePlace) -> dict[str, Any]:
    """Return what `from_pretrained` is given to leave a part of a model on the disk.

    Args:
        model: Of the same classes, on the meta device.
        device: That computes.
        place: How many bytes of the weights stay on the device.

    Returns:
        The options: whole decoder blocks on the device, as many as fit, and the rest on the disk.
    """
    return {
        "device_map": _map_modules(model, device, place.resident_bytes),
        "offload_folder": tempfile.mkdtemp(prefix="retune-offload-"),
    }


@contextmanager
def removed_on_error(folder: str) -> Iterator[None]:
    """Remove the folder of what was converted where no model is made that it would go with."""
    try:
        yield
    except BaseException:
        _remove(folder)
        raise


def _map_modules(model: nn.Module, device: torch.device, room: int) -> dict[str, Any]:
    blocks = _find_blocks(model)
    found: dict[str, Any] = {}
    for name, block in _cut(model, blocks):
        size = sum(weight.nbytes for weight in block.parameters())
        stays = not size or (name.rpartition(".")[0] == blocks and size <= room)
        room -= size if stays else 0
        found[name] = _name(device) if stays else DISK
    return found


def _name(device: torch.device) -> str | int:
    # safetensors takes no torch.device.
    return device.type if device.type == "cpu" else device.index or 0


def _find_blocks(model: nn.Module) -> str:
    """Return the name of the list of decoder blocks: the one with the most weights."""
    lists = {
        name: sum(weight.nbytes for weight in module.parameters())
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
    }
    return max(lists, key=lambda name: lists[name], default="")


def _cut(model: nn.Module, blocks: str) -> list[tuple[str, nn.Module]]:
    """Return the modules that are placed as a whole: blocks, and all that stands beside them."""
    found: list[tuple[str, nn.Module]] = []
    ahead: list[tuple[str, nn.Module]] = list(model.named_children())
    while ahead:
        name, module = ahead.pop(0)
        if name == blocks or blocks.startswith(f"{name}."):
            ahead = [(f"{name}.{own}", child) for own, child in module.named_children()] + ahead
        else:
            found.append((name, module))
    return found


def settle_offloaded(model: PreTrainedModel, device: torch.device, folder: str) -> None:
    """Make a model with a part on the disk look like one on its device to whoever asks it.

    Args:
        model: Just loaded with `offload_options`.
        device: That computes; `model.device` says it, where weights on the disk have none.
        folder: Of what was converted; it is removed with the model.
    """
    kind = type(model)
    model.__class__ = type(kind.__name__, (kind,), {"device": property(lambda _: device)})
    # peft and generate would plan their own places by it; the hooks are all that is needed.
    del model.hf_device_map
    weakref.finalize(model, _remove, folder)


def _remove(folder: str) -> None:
    shutil.rmtree(Path(folder), ignore_errors=True)
