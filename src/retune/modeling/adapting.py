"""Adaptation methods as peft sees them."""

from __future__ import annotations

from collections.abc import Sequence

from peft import LoraConfig as PeftLoraConfig
from transformers import PreTrainedModel

from retune.errors import ConfigError


def as_peft(
    *,
    r: int,
    alpha: int,
    dropout: float,
    target_modules: str | Sequence[str],
    rslora: bool,
) -> PeftLoraConfig:
    """Return peft's form of the LoRA settings.

    Args:
        r: Rank of the update.
        alpha: Scale; the update is multiplied by ``alpha / r`` (``alpha / sqrt(r)`` with rslora).
        dropout: On the adapter's input, from 0 to 1.
        target_modules: Name endings of the layers to adapt, or ``all-linear``.
        rslora: Whether the scale is rank-stabilised.

    Returns:
        A configuration for causal language models.
    """
    targets = target_modules if isinstance(target_modules, str) else list(target_modules)
    return PeftLoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=targets,
        use_rslora=rslora,
        task_type="CAUSAL_LM",
    )


def check_target_modules(model: PreTrainedModel, target_modules: str | Sequence[str]) -> None:
    """Refuse target names that match no layer.

    Args:
        model: The model to adapt.
        target_modules: As in the recipe.

    Raises:
        ConfigError: A name matches nothing; the message lists what there is.
    """
    if isinstance(target_modules, str):
        return
    endings = {name.rsplit(".", 1)[-1] for name, m in model.named_modules() if _adaptable(m)}
    names = [name for name, module in model.named_modules() if _adaptable(module)]
    unknown = [t for t in target_modules if not any(f".{n}".endswith(f".{t}") for n in names)]
    if unknown:
        raise ConfigError(
            f"method.target_modules: {', '.join(unknown)} match no layer of this model. "
            f"It has: {', '.join(sorted(endings))}; or use all-linear."
        )


def _adaptable(module: object) -> bool:
    # By name, since Conv1D and the 4-bit layers are no torch.nn.Linear everywhere.
    return type(module).__name__ in {"Linear", "Linear4bit", "Linear8bitLt", "Conv1D", "Embedding"}
