"""Prefix tuning, P-tuning and prompt tuning: learned positions before the text, through peft.

Three things are done here and not by peft 0.21. Learned inputs stand right before the text, behind
padding on the left, and positions are counted from the attention mask: peft puts the padding
between the two and counts it in, so that the same text gets another answer beside a longer one, and
where attention looks back a window only, the learned inputs fall out of it. A checkpoint holds the
encoder and not only what comes out of it, so that training resumes. And the first values come from
words of the base without a path of this machine in the adapter's settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from peft import (
    PeftModelForCausalLM,
    PeftModelForSequenceClassification,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptLearningConfig,
    PromptTuningConfig,
    PromptTuningInit,
)
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from retune.errors import StageError

ENCODER_FILE = "prompt_encoder.safetensors"
"""In a checkpoint: the weights that make the learned positions. A finished adapter has none."""


class _Prompted:
    """What stands over peft's classes, for whatever task."""

    # Of peft's classes, which this stands before.
    base_model: PreTrainedModel
    active_peft_config: PromptLearningConfig
    prompt_encoder: nn.ModuleDict
    word_embeddings: nn.Module
    labels_by_position = True

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **options: Any,
    ) -> Any:
        """Run the base with the learned positions before the text.

        Args:
            input_ids: ``(rows, length)``, or None with `inputs_embeds`.
            attention_mask: ``(rows, length)``; padding may stand on either side. None: no padding.
            inputs_embeds: ``(rows, length, width)`` in place of `input_ids`.
            labels: As the base takes them.
            position_ids: Ignored: they follow from the mask.
            options: For the base.

        Returns:
            What the base says; with logits of the learned positions too where these are inputs.
        """
        given = cast(torch.Tensor, input_ids if input_ids is not None else inputs_embeds)
        if attention_mask is None:
            attention_mask = torch.ones(given.shape[:2], dtype=torch.long, device=given.device)
        if labels is not None:
            options["labels"] = self._widen_labels(labels, attention_mask)
        return self.base_model(
            **options, **self._before_text(input_ids, inputs_embeds, attention_mask)
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Return what the base's next forward gets in generation.

        The learned positions go in once, with the first pass; later ones find them in the cache.

        Args:
            input_ids: All tokens so far, ``(rows, length)``.
            attention_mask: Over these tokens; None where no row is padded.
            past_key_values: The cache, empty at first; None where there is none.
            options: Passed on.

        Returns:
            Keyword arguments of the base.
        """
        options.pop("position_ids", None)
        if options.get("use_cache") is False:
            # What a base was given it gives back, though nothing new stands in it.
            past_key_values = None
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        prepared = self.base_model_prepare_inputs_for_generation(  # type: ignore[attr-defined]
            input_ids, attention_mask=attention_mask, past_key_values=past_key_values, **options
        )
        if past_key_values is None or not past_key_values.get_seq_length():
            before = self._before_text(prepared["input_ids"], None, attention_mask)
            if "inputs_embeds" in before:
                prepared["input_ids"] = None
            return {**prepared, **before}
        mask = self._widen_mask(attention_mask)
        width = prepared["input_ids"].shape[1]
        return {**prepared, "attention_mask": mask, "position_ids": _positions(mask)[:, -width:]}

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Write the adapter, and in training what makes it beside it."""
        super().save_pretrained(str(save_directory), **options)  # type: ignore[misc]
        if not self.active_peft_config.inference_mode:
            encoder = self.prompt_encoder["default"].state_dict()
            weights = {name: weight.detach().cpu().contiguous() for name, weight in encoder.items()}
            save_file(weights, Path(save_directory) / ENCODER_FILE, metadata={"format": "pt"})

    def load_adapter(
        self, model_id: str | Path, adapter_name: str, is_trainable: bool = False, **options: Any
    ) -> Any:
        """Read an adapter; to train on, what makes it, which peft cannot."""
        if is_trainable:
            return self.load_encoder(Path(model_id))
        return super().load_adapter(  # type: ignore[misc]
            str(model_id), adapter_name, is_trainable=False, **options
        )

    def load_encoder(self, checkpoint: Path) -> None:
        """Read what makes the learned positions, and the modules that are trained as a whole.

        Args:
            checkpoint: Written by `save_pretrained` in training.

        Raises:
            StageError: A weight is missing there, or of another shape.
        """
        from peft import set_peft_model_state_dict

        try:
            weights = load_file(checkpoint / "adapter_model.safetensors")
            encoder = load_file(checkpoint / ENCODER_FILE)
            # Of these weights, what comes out of the encoder has no place in a network.
            weights["prompt_embeddings"] = encoder["embedding.weight"]
            set_peft_model_state_dict(self, weights)
            self.prompt_encoder["default"].load_state_dict(encoder)
        except (OSError, KeyError, RuntimeError) as error:
            raise StageError(
                f"{checkpoint}: its weights do not fit the model's adapters ({error})."
            ) from error

    def _before_text(
        self, ids: torch.Tensor | None, embeds: torch.Tensor | None, mask: torch.Tensor
    ) -> dict[str, Any]:
        prompt = self.get_prompt(batch_size=mask.shape[0])  # type: ignore[attr-defined]
        wide = self._widen_mask(mask)
        given = {"attention_mask": wide, "position_ids": _positions(wide)}
        if self._is_prefix:
            positions = given["position_ids"][:, -mask.shape[1] :]
            text = {"input_ids": ids, "inputs_embeds": embeds, "past_key_values": prompt}
            return {**given, **text, "position_ids": positions}
        read = self.word_embeddings(ids) if embeds is None else embeds
        inputs = torch.cat((prompt.to(read.dtype), read), dim=1)
        order = self._order(mask).unsqueeze(-1).expand_as(inputs)
        return {**given, "inputs_embeds": inputs.gather(1, order)}

    @property
    def _is_prefix(self) -> bool:
        return isinstance(self.active_peft_config, PrefixTuningConfig)

    def _order(self, mask: torch.Tensor) -> torch.Tensor:
        """Return where each place of the base's input comes from, in learned inputs then text."""
        learned = self.active_peft_config.num_virtual_tokens
        padding = (mask != 0).long().argmax(-1, keepdim=True)
        place = torch.arange(learned + mask.shape[1], device=mask.device).expand(len(mask), -1)
        behind = torch.where(place < padding + learned, place - padding, place)
        return torch.where(place < padding, place + learned, behind)

    def _widen_mask(self, mask: torch.Tensor) -> torch.Tensor:
        learned = mask.new_ones(mask.shape[0], self.active_peft_config.num_virtual_tokens)
        wide = torch.cat((learned, mask), dim=1)
        # Earlier keys and values stand before all inputs, and so before padding.
        return wide if self._is_prefix else wide.gather(1, self._order(mask))

    def _widen_labels(self, labels: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self._is_prefix or not self.labels_by_position:
            return labels
        size = labels.shape[0], self.active_peft_config.num_virtual_tokens
        wide = torch.cat((labels.new_full(size, -100), labels), dim=1)
        return wide.gather(1, self._order(mask))


class PromptedCausalLM(_Prompted, PeftModelForCausalLM):
    """A model that writes, with learned positions before what it reads."""


class PromptedClassifier(_Prompted, PeftModelForSequenceClassification):
    """A classifier with learned positions before what it reads."""

    labels_by_position = False


Prompted = PromptedCausalLM | PromptedClassifier


def prompt_model(model: PreTrainedModel, config: PromptLearningConfig) -> Prompted:
    """Put learned positions before what a model reads.

    Args:
        model: The base; it is frozen.
        config: From `as_prompt`, or read from an adapter's folder.

    Returns:
        The adapted model.
    """
    from peft.utils.other import _prepare_prompt_learning_config

    config = _prepare_prompt_learning_config(config, model.config)
    kind = PromptedClassifier if config.task_type == "SEQ_CLS" else PromptedCausalLM
    # The trainer turns it on after this; peft refuses a base on which it is on already.
    return kind(model, config)


def start_from_words(model: Prompted, ids: Sequence[int]) -> None:
    """Let the learned inputs of prompt tuning start from words.

    Args:
        model: With a prompt that is its own embedding.
        ids: Token ids, at least one; repeated or cut to the number of learned inputs.
    """
    weight = cast(nn.Embedding, _encoder_of(model).embedding).weight
    words = model.word_embeddings
    count = weight.shape[0]
    first = torch.tensor([ids[place % len(ids)] for place in range(count)])
    with torch.no_grad():
        weight.copy_(words(first.to(weight.device)).to(weight.dtype))


def _encoder_of(model: Prompted) -> nn.Module:
    return model.prompt_encoder["default"]


def draw_words(vocabulary: int, count: int) -> list[int]:
    """Return random token ids, the same on every device for a seed."""
    drawn: list[int] = torch.randint(vocabulary, (count,), device="cpu").tolist()
    return drawn


def as_prefix(
    *, virtual_tokens: int, projection: bool, projection_size: int, task_type: str
) -> PrefixTuningConfig:
    """Return peft's form of prefix tuning.

    Args:
        virtual_tokens: Learned positions.
        projection: Whether a network makes them.
        projection_size: Its width.
        task_type: What the model does, as peft names it.

    Returns:
        A configuration.
    """
    return PrefixTuningConfig(
        num_virtual_tokens=virtual_tokens,
        prefix_projection=projection,
        encoder_hidden_size=projection_size if projection else None,
        task_type=task_type,
    )


def as_p_tuning(
    *,
    virtual_tokens: int,
    encoder: str,
    encoder_size: int,
    encoder_layers: int,
    encoder_dropout: float,
    task_type: str,
) -> PromptEncoderConfig:
    """Return peft's form of P-tuning.

    Args:
        virtual_tokens: Learned positions.
        encoder: `mlp` or `lstm`.
        encoder_size: Its width.
        encoder_layers: Layers of an lstm.
        encoder_dropout: Between the layers of an lstm.
        task_type: What the model does, as peft names it.

    Returns:
        A configuration.
    """
    lstm = {"encoder_num_layers": encoder_layers, "encoder_dropout": encoder_dropout}
    return PromptEncoderConfig(
        num_virtual_tokens=virtual_tokens,
        encoder_reparameterization_type=encoder.upper(),
        encoder_hidden_size=encoder_size,
        task_type=task_type,
        **(lstm if encoder == "lstm" else {}),
    )


def as_prompt(*, virtual_tokens: int, task_type: str) -> PromptTuningConfig:
    """Return peft's form of prompt tuning; see `start_from_words` for its first values.

    Args:
        virtual_tokens: Learned positions.
        task_type: What the model does, as peft names it.

    Returns:
        A configuration.
    """
    return PromptTuningConfig(
        num_virtual_tokens=virtual_tokens,
        prompt_tuning_init=PromptTuningInit.RANDOM,
        task_type=task_type,
    )


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return ((mask != 0).long().cumsum(-1) - 1).clamp(min=0)
