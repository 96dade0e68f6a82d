"""A model's blocks and their sub-layers, found by what they are made of and not by family."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from retune.errors import ConfigError


def find_sub_layers(
    model: PreTrainedModel, *, attention: bool, feed_forward: bool
) -> tuple[str, ...]:
    """Return the names of the sub-layers of each block.

    A block's sub-layers are its children that hold matrices; norms hold none. The one that is
    called attention is that, and what is left is the feed-forward: one network, or one with its
    router and experts.

    Args:
        model: Any decoder, plain or quantized, with a head or without.
        attention: Whether attention is looked for.
        feed_forward: Whether the feed-forward is.

    Returns:
        Full names, in the order of the model.

    Raises:
        ConfigError: Nothing is looked for, or a block has not one of each; the message says what
            there is.
    """
    if not attention and not feed_forward:
        raise ConfigError(
            "method: after_attention and after_feed_forward are both false, so that no block would "
            "have an adapter. Write true for one of them."
        )
    found: list[str] = []
    for name, block in find_blocks(model):
        layers = [child for child, module in block.named_children() if _has_matrices(module)]
        attending = [child for child in layers if _attends(child, block.get_submodule(child))]
        feeding = [child for child in layers if child not in attending]
        if (attention and len(attending) != 1) or (feed_forward and len(feeding) != 1):
            raise ConfigError(
                f"method: expected one attention and one feed-forward layer in each block, but "
                f"{name} of this model has: {', '.join(layers) or 'no layers with matrices'}. "
                "Adapt its linear layers instead: method.kind: lora."
            )
        wanted = [*(attending if attention else []), *(feeding if feed_forward else [])]
        found += [f"{name}.{child}" for child in wanted]
    return tuple(found)


def find_blocks(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """Return the blocks of a model's text decoder with their names.

    Args:
        model: Any decoder; of a model that reads images too, the part that reads text.

    Returns:
        As many as its configuration has hidden layers.

    Raises:
        ConfigError: There is no such list; the message says which lists there are.
    """
    config = model.config.get_text_config()
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module)
    }
    width = config.hidden_size
    for name, blocks in lists.items():
        fits = len(blocks) == config.num_hidden_layers and _is_wide(blocks[0], width)
        if fits and any(_attends(child, module) for child, module in blocks[0].named_children()):
            return [(f"{name}.{place}", block) for place, block in enumerate(blocks)]
    raise ConfigError(
        f"method: found no list of {config.num_hidden_layers} blocks with attention in this model. "
        f"Its lists are: {', '.join(lists) or 'none'}. Adapt its linear layers instead: "
        "method.kind: lora."
    )


def _is_wide(block: nn.Module, width: int) -> bool:
    # The norms of a block are as wide as the model; an image tower has another width as a rule.
    return any(
        weight.shape == (width,)
        for child in block.children()
        if not _has_matrices(child)
        for weight in child.parameters()
    )


def _attends(name: str, module: nn.Module) -> bool:
    names = f"{name} {type(module).__name__}".lower()
    return _has_matrices(module) and any(word in names for word in ("attn", "attention"))


def _has_matrices(module: nn.Module) -> bool:
    return any(weight.dim() > 1 for weight in module.parameters())
