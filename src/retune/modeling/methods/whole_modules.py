"""Modules that are trained as a whole beside an adapter: their names, and which cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from bitsandbytes.nn import Linear4bit, Linear8bitLt
from torch import nn
from transformers import PreTrainedModel

from retune.errors import ConfigError
from retune.modeling.methods.module_names import ends, list_endings


def name_modules(model: PreTrainedModel, endings: Sequence[str] | None) -> tuple[str, ...]:
    """Return the full names of the modules that are trained as a whole.

    peft matches in the middle of a word: its `norm` would be every `input_layernorm` too. Where the
    two ends of a model share their weights, the embedding's name stands for both.

    Args:
        model: The model to adapt.
        endings: Ends of names as in the recipe, whole words.

    Returns:
        Names, in the order of the model.

    Raises:
        ConfigError: One matches nothing, is quantized, or shares its weights in a way that peft
            would not keep.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    for ending in endings or ():
        if not any(ends(name, ending) for name in modules):
            # Without the modules that only hold others, such as the list of blocks.
            own = [n for n, m in modules.items() if any(True for _ in m.parameters(False))]
            raise ConfigError(
                f"method.modules_to_save: {ending} matches no module of this model. "
                f"It has: {list_endings(own)}."
            )
    found = [name for name in modules if any(ends(name, ending) for ending in endings or ())]
    for name in found:
        _check_whole(name, modules[name], model)
    return _both_ends(model, found)


def is_tied(model: PreTrainedModel) -> bool:
    """Say whether a model's output head and its embeddings are the same weights.

    Args:
        model: Before it is adapted.
    """
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and head.weight is embedding.weight


def ties_whole(model: PreTrainedModel, names: Sequence[str]) -> bool:
    """Say whether peft has to keep both ends of a model tied while they are trained as a whole.

    Args:
        model: Before it is adapted.
        names: From `name_modules`.
    """
    return is_tied(model) and any(model.get_submodule(name) in _ends_of(model) for name in names)


def _check_whole(name: str, module: nn.Module, model: PreTrainedModel) -> None:
    if any(isinstance(part, Linear4bit | Linear8bitLt) for part in module.modules()):
        raise ConfigError(
            f"method.modules_to_save: {name} is quantized, and cannot be trained as a whole. "
            "Adapt it (method.target_modules), or write quantization.kind: none."
        )
    shared = [part for part in module.modules() if is_tied(model) and part in _ends_of(model)]
    if shared and (shared != [module] or not _known_to_peft(model)):
        # peft ties again what it loads only where the embedding has the name that it knows.
        raise ConfigError(
            f"method.modules_to_save: {name} shares its weights with the other end of this model "
            "(tie_word_embeddings), and this family's names do not tell so to peft: trained apart, "
            "the two could not be saved as one model. Train single tokens "
            "(method.trainable_tokens), leave it out, or train with method.kind: full."
        )


def _both_ends(model: PreTrainedModel, names: list[str]) -> tuple[str, ...]:
    """Return names with those of tied ends, of which one was asked for, in one: the embedding's."""
    if not ties_whole(model, names):
        return tuple(names)
    kept = [name for name in names if model.get_submodule(name) not in _ends_of(model)]
    return (name_of(model, model.get_input_embeddings()), *kept)


def _ends_of(model: PreTrainedModel) -> tuple[nn.Module, ...]:
    return model.get_input_embeddings(), model.get_output_embeddings()


def _known_to_peft(model: PreTrainedModel) -> bool:
    return ends(name_of(model, model.get_input_embeddings()), "embed_tokens")


def name_of(model: PreTrainedModel, wanted: nn.Module) -> str:
    """Return a module's full name in a model.

    Args:
        model: Holds it.
        wanted: A module of it.
    """
    return next(str(name) for name, module in model.named_modules() if module is wanted)
