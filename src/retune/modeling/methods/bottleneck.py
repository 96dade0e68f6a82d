"""Bottleneck adapters: a narrow two-layer network behind attention and behind the feed-forward.

``h + U act(D h)``, where h is what a sub-layer gives out, before the block adds it to its input
(Houlsby et al., https://arxiv.org/abs/1902.00751; after the feed-forward alone it is the form of
Pfeiffer et al., https://arxiv.org/abs/2005.00247). D and U have biases and start near zero.

peft has no such method. It gets one here, by the way that its own methods take: a configuration, a
layer around each sub-layer and a tuner that puts them there. So saving, loading, resuming, modules
that are trained as a whole, a reference without the adapter and generation are peft's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn
from transformers.activations import ACT2FN

from retune.errors import ConfigError

PEFT_TYPE = "BOTTLENECK"
"""What `adapter_config.json` has as `peft_type`."""

NOT_MERGEABLE = (
    "bottleneck adapters cannot be merged: what they add is no linear function of what they read, "
    "so that no weights of the base can do the same. Release the adapter beside its base."
)


@dataclass
class BottleneckSettings(PeftConfig):
    """What an adapter's `adapter_config.json` holds.

    Attributes:
        target_modules: Full names of the sub-layers that have an adapter behind them.
        hidden_size: Width of the model.
        size: Width of the bottleneck.
        activation: Name of the function between the two layers.
        residual: Whether an adapter's input is added to its output.
        init_std: Standard deviation of the first weights.
        dropout: Part of the bottleneck's activations that is zeroed in training.
        modules_to_save: Names of modules that are trained as a whole.
    """

    target_modules: list[str] | None = field(default=None)
    hidden_size: int = field(default=0)
    size: int = field(default=64)
    activation: str = field(default="gelu")
    residual: bool = field(default=True)
    init_std: float = field(default=1e-3)
    dropout: float = field(default=0.0)
    modules_to_save: list[str] | None = field(default=None)

    def __post_init__(self) -> None:
        """Say which method it is, in the way of peft's own."""
        super().__post_init__()
        self.peft_type = PEFT_TYPE


class Bottleneck(nn.Module):
    """Down, activation, dropout, up; ``(..., hidden_size)`` to the same."""

    def __init__(self, settings: BottleneckSettings) -> None:
        """Make the two layers, with weights near zero and biases of zero."""
        super().__init__()
        self.down = nn.Linear(settings.hidden_size, settings.size)
        self.activation: nn.Module = ACT2FN[settings.activation]
        self.dropout = nn.Dropout(settings.dropout)
        self.up = nn.Linear(settings.size, settings.hidden_size)
        for layer in (self.down, self.up):
            nn.init.normal_(layer.weight, std=settings.init_std)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Compute in the adapter's own dtype, or autocast's, and give the model back its own."""
        narrow = self.activation(self.down(hidden.to(self.down.weight.dtype)))
        wide: torch.Tensor = self.up(self.dropout(narrow))
        return wide.to(hidden.dtype)


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """A sub-layer with a bottleneck behind it."""

    adapter_layer_names = ("bottleneck",)

    def __init__(self, base_layer: nn.Module, name: str, settings: BottleneckSettings) -> None:
        """Stand in for a sub-layer.

        Args:
            base_layer: Attention or feed-forward; gives hidden states, or a tuple of which they
                are the first.
            name: Of the adapter.
            settings: Of the adapter.
        """
        super().__init__()
        self.base_layer = base_layer
        self.residual = settings.residual
        self.bottleneck = nn.ModuleDict({name: Bottleneck(settings)})
        weight = next(base_layer.parameters())
        # Beside 16-bit or packed weights it stays in float32, where no small step is lost.
        self.bottleneck.to(weight.device)
        BaseTunerLayer.set_adapter(self, [name], inference_mode=settings.inference_mode)

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """Run the sub-layer, then the bottleneck over its hidden states."""
        output = self.base_layer(*arguments, **options)
        if self.disable_adapters:
            return output
        if isinstance(output, tuple):
            return (self._behind(output[0]), *output[1:])
        return self._behind(output)

    def _behind(self, hidden: torch.Tensor) -> torch.Tensor:
        for name in list(self.active_adapters):  # type: ignore[arg-type]
            added = cast(Bottleneck, self.bottleneck[name])(hidden)
            hidden = hidden + added if self.residual else added
        return hidden

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refuse.

        Raises:
            ConfigError: Always; the message says why.
        """
        raise ConfigError(NOT_MERGEABLE)


class BottleneckTuner(BaseTuner):
    """Puts a `BottleneckLayer` around each sub-layer that the settings name."""

    prefix = "bottleneck"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping: ClassVar[dict[str, list[str]]] = {}

    def _create_and_replace(
        self,
        settings: BottleneckSettings,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
    ) -> None:
        setattr(parent, target_name, BottleneckLayer(target, adapter_name, settings))

    def _check_merge_allowed(self) -> None:
        raise ConfigError(NOT_MERGEABLE)


def register_bottleneck() -> None:
    """Make the method known to peft.

    `peft.utils.register_peft_method` takes only names that peft's own list has.
    """
    PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = BottleneckSettings
    PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = BottleneckTuner
    PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = BottleneckTuner.prefix


def as_bottleneck(
    *,
    hidden_size: int,
    size: int,
    activation: str,
    residual: bool,
    init_std: float,
    dropout: float,
    sub_layers: Sequence[str],
    modules_to_save: Sequence[str] = (),
    task_type: str = "CAUSAL_LM",
) -> BottleneckSettings:
    """Return the settings as peft takes them.

    Args:
        hidden_size: Width of the model.
        size: Width of the bottleneck.
        activation: Name of the function between the two layers.
        residual: Whether an adapter's input is added to its output.
        init_std: Standard deviation of the first weights.
        dropout: From 0 to under 1.
        sub_layers: Full names of the sub-layers; see `retune.modeling.methods.blocks`.
        modules_to_save: Full names of the modules that are trained as a whole.
        task_type: What the model does, as peft names it.

    Returns:
        A configuration.

    Raises:
        ConfigError: The bottleneck is no narrower than the model.
    """
    if size >= hidden_size:
        raise ConfigError(
            f"method.size: {size} is no bottleneck in a model that is {hidden_size} wide. "
            f"Write at most {hidden_size - 1}; a quarter or less is usual."
        )
    return BottleneckSettings(
        target_modules=list(sub_layers),
        hidden_size=hidden_size,
        size=size,
        activation=activation,
        residual=residual,
        init_std=init_std,
        dropout=dropout,
        modules_to_save=list(modules_to_save) or None,
        task_type=task_type,
    )
