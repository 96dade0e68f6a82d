"""The recipe as a whole: its sections, and the checks that look across them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from retune.recipe.sections import (
    BottleneckConfig,
    DataConfig,
    DeviceConfig,
    DpoConfig,
    GateConfig,
    GrpoConfig,
    HeadConfig,
    JudgeConfig,
    LimitsConfig,
    LoraConfig,
    LowRankConfig,
    MergeConfig,
    MethodConfig,
    ModelConfig,
    PrefixConfig,
    ProbesConfig,
    PromptConfig,
    QualityConfig,
    QuantizationConfig,
    RegistryConfig,
    RetrainConfig,
    RunnerConfig,
    ScoringConfig,
    Section,
    SplitConfig,
    StoreConfig,
    TrackingConfig,
    TrainingConfig,
    conflict,
)
from retune.recipe.sections.base import Seed, Text
from retune.recipe.sections.judge import judge_conflicts
from retune.recipe.sections.method import CONTINUABLE, SHARDED
from retune.recipe.sections.optimizers import SHARDED_OPTIMIZERS

Conflicts = list[tuple[str, str]]


class Recipe(Section):
    """What to train, on what, how to measure it, and when to let it out."""

    name: Annotated[
        Text, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$", examples=["text_to_sql_demo"])
    ]
    """Short name of runs, experiment and artifacts: small letters, digits, `_` and `-`."""

    seed: Seed = 7
    """Number that all chance in training is drawn from: weights, order, dropout."""

    data: DataConfig
    """The rows to learn from and to be measured on."""

    quality: QualityConfig = Field(default_factory=QualityConfig)
    """What is dropped from the rows before they are used."""

    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    """Largest shares of rows that may have a fault before the run stops."""

    split: SplitConfig = Field(default_factory=SplitConfig)
    """How rows are divided into training, validation and test."""

    prompt: PromptConfig = Field(default_factory=PromptConfig)
    """What the model reads before it answers."""

    model: ModelConfig
    """The base model."""

    quantization: QuantizationConfig = Field(default_factory=QuantizationConfig)
    """How the frozen base is compressed while adapters are trained."""

    method: MethodConfig = Field(default_factory=LoraConfig)
    """How the model is adapted; `kind` says which method."""

    head: HeadConfig | None = None
    """A classification head instead of the language model's. null: the model writes."""

    training: TrainingConfig = Field(default_factory=TrainingConfig)
    """Supervised fine-tuning."""

    dpo: DpoConfig | None = None
    """Preferences, learned after supervised fine-tuning. null: none."""

    grpo: GrpoConfig | None = None
    """Rewards, learned after that. null: none."""

    merge: MergeConfig = Field(default_factory=MergeConfig)
    """Merging the adapter into the base."""

    scoring: ScoringConfig = Field(default_factory=ScoringConfig)
    """Generation and metrics on the held-out rows."""

    probes: ProbesConfig | None = None
    """Fixed questions whose answers must or must not hold certain words. null: none are asked."""

    judge: JudgeConfig | None = None
    """A model that compares the released model's answers with the champion's. null: none is."""

    gate: GateConfig = Field(default_factory=GateConfig)
    """What a tuned model must show to become champion."""

    registry: RegistryConfig
    """Where accepted models are kept."""

    retrain: RetrainConfig = Field(default_factory=RetrainConfig)
    """When the flow `retrain` trains a challenger, and where it starts."""

    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    """Where MLflow writes runs, and what a run does without Prefect."""

    store: StoreConfig = Field(default_factory=StoreConfig)
    """Where finished stages are kept."""

    runner: RunnerConfig = Field(default_factory=RunnerConfig)
    """Where trials run, and one training on several devices: here, or on a cluster."""

    device: DeviceConfig = Field(default_factory=DeviceConfig)
    """The device that the recipe is meant for: what it holds, and what it costs."""

    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Named sets of overrides, each dotted path with its value, such as ``tiny`` for a small
    machine: ``--set variant=tiny`` applies one, ``--set variant=[tiny,prefix]`` several."""

    variant: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """Names of the variants that are applied, in this order; ``--set`` wins over them."""

    @property
    def training_cluster(self) -> str | None:
        """Address of the cluster of Ray whose devices `training.devices` counts.

        None where the training stays on one machine: without such a cluster, with one device, and
        with `auto`.
        """
        if self.runner.kind != "ray" or self.training.devices in ("auto", 1):
            return None
        return self.runner.address

    @model_validator(mode="after")
    def _sections_fit(self) -> Recipe:
        found = [
            *_split_conflicts(self),
            *_quality_conflicts(self),
            *_method_conflicts(self),
            *_head_conflicts(self),
            *_further_conflicts(self),
            *_probe_conflicts(self),
            *judge_conflicts(self.judge, self.gate, bool(self.scoring.text_metrics)),
            *_training_conflicts(self),
            *_retrain_conflicts(self),
        ]
        if found:
            raise conflict(*found)
        return self


def _split_conflicts(recipe: Recipe) -> Conflicts:
    split = recipe.split
    held_back = split.validation_fraction + split.test_fraction
    if recipe.data.test is None and held_back >= 1:
        reason = (
            f"validation_fraction + test_fraction is {held_back:g}: nothing is left to train on"
        )
        return [("split.validation_fraction", f"{reason}; expected a sum under 1")]
    return []


def _quality_conflicts(recipe: Recipe) -> Conflicts:
    if recipe.limits.other_languages is None or recipe.quality.languages is not None:
        return []
    reason = "is set, but quality.languages does not say which languages are expected"
    return [("limits.other_languages", f"{reason}; name them, or remove the limit")]


def _method_conflicts(recipe: Recipe) -> Conflicts:
    method, quantized = recipe.method, recipe.quantization.kind != "none"
    if method.kind == "full" and quantized:
        reason = "is full, but weights in 4 bits cannot be trained: quantization.kind is nf4"
        return [("method.kind", f"{reason}; write quantization.kind: none, or choose qlora")]
    if method.kind == "qlora" and not quantized:
        reason = "is qlora, which is LoRA over a quantized base, but quantization.kind is none"
        return [("method.kind", f"{reason}; write quantization.kind: nf4, or choose lora")]
    if isinstance(method, LowRankConfig) and method.init not in (True, "gaussian") and quantized:
        reason = f"is {method.init}, which is computed from weights that are not quantized, but"
        instead = "write quantization.kind: none, or init: true or gaussian"
        return [("method.init", f"{reason} quantization.kind is nf4; {instead}")]
    if isinstance(method, LowRankConfig) and method.init == "orthogonal" and method.r % 2:
        return [("method.r", f"{method.r} is odd, but init: orthogonal needs an even rank")]
    return [
        *_stacked_conflicts(method),
        *_added_layer_conflicts(recipe),
        *_start_conflicts(recipe),
    ]


def _start_conflicts(recipe: Recipe) -> Conflicts:
    """Refuse to go on from an adapter where it would not be what is trained."""
    if recipe.training.start_from is None:
        return []
    method, key = recipe.method, "training.start_from"
    if not isinstance(method, LowRankConfig):
        reason = f"is set, but method.kind is {method.kind}, which does not go on from an adapter"
        return [(key, f"{reason}; choose lora or qlora, or remove it")]
    if recipe.head is not None:
        reason = "is set, but the recipe has a head, which would be new beside old weights"
        return [(key, f"{reason}; remove one of the two")]
    if method.init is not True:
        reason = f"is set, but method.init is {method.init}: first values come from the adapter"
        return [(key, f"{reason}; write method.init: true")]
    return []


def _stacked_conflicts(method: MethodConfig) -> Conflicts:
    """Refuse what peft cannot do on stacked weights, which are adapted as a sum W + s B A."""
    if not isinstance(method, LowRankConfig) or method.target_parameters is None:
        return []
    found: Conflicts = []
    beside = "but method.target_parameters adapts stacked weights"
    if method.dropout:
        reason = f"is {method.dropout:g}, {beside}, whose inputs cannot be zeroed apart"
        found.append(("method.dropout", f"{reason}; write dropout: 0"))
    if method.dora:
        reason = f"is true, {beside}, which DoRA is not defined for"
        found.append(("method.dora", f"{reason}; write dora: false"))
    if method.init not in (True, "gaussian"):
        reason = f"is {method.init}, which is computed from a layer's weights, {beside}"
        found.append(("method.init", f"{reason}; write init: true or gaussian"))
    return found


def _added_layer_conflicts(recipe: Recipe) -> Conflicts:
    """Refuse adapters that stand nowhere, and what a prefix does not go with."""
    method, found = recipe.method, list[tuple[str, str]]()
    if isinstance(method, BottleneckConfig):
        if not method.after_attention and not method.after_feed_forward:
            reason = "is false, and after_feed_forward too, so that no block has an adapter"
            found.append(("method.after_attention", f"{reason}; write true for one of them"))
        return found
    if isinstance(method, PrefixConfig) and recipe.training.gradient_checkpointing:
        reason = "is true, but method.kind is prefix: blocks that are computed again would not see"
        instead = "write false, or choose p_tuning or prompt"
        found.append(
            ("training.gradient_checkpointing", f"{reason} learned keys and values; {instead}")
        )
    return found


def _head_conflicts(recipe: Recipe) -> Conflicts:
    if recipe.head is None:
        if recipe.method.kind != "frozen":
            return []
        reason = "is frozen, which trains a classification head alone, but the recipe has no head"
        return [("method.kind", f"{reason}; add head: {{}}, or choose another method")]
    found: Conflicts = []
    for name in ("dpo", "grpo"):
        if getattr(recipe, name) is not None:
            reason = "trains a model that writes, and a classification head does not"
            found.append((name, f"{reason}; remove it, or head"))
    if recipe.gate.metric not in (None, "macro_f1", "accuracy"):
        reason = f"is {recipe.gate.metric}, which a classification head does not have"
        found.append(("gate.metric", f"{reason}; choose macro_f1 or accuracy"))
    if recipe.method.kind == "frozen" and recipe.quantization.kind != "none":
        reason = "is frozen, which trains no adapter over the 4-bit weights that quantization makes"
        found.append(("method.kind", f"{reason}; write quantization.kind: none, or choose qlora"))
    return found + _written_conflicts(recipe)


def _written_conflicts(recipe: Recipe) -> Conflicts:
    """Name what asks a model for text, which one with a classification head does not write."""
    asked = {
        "probes.file": recipe.probes is not None and recipe.probes.file is not None,
        "probes.counterfactuals": recipe.probes is not None
        and recipe.probes.counterfactuals is not None,
        "probes.show": recipe.probes is not None and bool(recipe.probes.show),
        "gate.max_forgetting_bits": recipe.gate.max_forgetting_bits is not None,
    }
    return [
        (name, "is set, but the recipe has a head, which writes no text; remove one of the two")
        for name, is_asked in asked.items()
        if is_asked
    ]


def _further_conflicts(recipe: Recipe) -> Conflicts:
    """Refuse methods that preferences and rewards cannot go on from."""
    if recipe.head is not None or (recipe.dpo is None and recipe.grpo is None):
        return []
    method, names = recipe.method, "dpo" if recipe.grpo is None else "grpo"
    if method.kind not in CONTINUABLE:
        reason = f"is {method.kind}, whose result {names} cannot train further"
        known = ", ".join(sorted(CONTINUABLE))
        return [("method.kind", f"{reason}; choose one of {known}, or remove {names}")]
    targets = method.target_modules if isinstance(method, LowRankConfig) else ()
    if not isinstance(targets, str) and any(name.endswith("lm_head") for name in targets):
        reason = f"has lm_head, whose adapter {names} would not train"
        return [("method.target_modules", f"{reason}; take it out, or remove {names}")]
    return []


def _probe_conflicts(recipe: Recipe) -> Conflicts:
    if recipe.probes is not None and recipe.probes.file is not None:
        return []
    found: Conflicts = []
    if recipe.gate.metric == "probe_pass_rate":
        reason = "is probe_pass_rate, but the recipe has no probes.file"
        found.append(("gate.metric", f"{reason}; add probes.file, or choose another metric"))
    if recipe.gate.min_probe_pass_rate is not None:
        reason = "is set, but the recipe has no probes.file"
        found.append(("gate.min_probe_pass_rate", f"{reason}; add probes.file, or remove it"))
    return found


def _training_conflicts(recipe: Recipe) -> Conflicts:
    training, found = recipe.training, []
    if training.packing and recipe.method.kind in ("prefix", "p_tuning", "prompt"):
        reason = f"is true, but {recipe.method.kind} puts learned inputs before a sequence, not"
        instead = "before each of its rows; write packing: false"
        found.append(("training.packing", f"{reason} {instead}"))
    if recipe.head is not None:
        if training.packing:
            reason = "is true, but a classification head reads one token of a sequence"
            found.append(("training.packing", f"{reason}; write packing: false"))
        if training.watch not in ("loss", "macro_f1", "accuracy"):
            reason = f"is {training.watch}, which a classification head does not have"
            found.append(("training.watch", f"{reason}; choose loss, macro_f1 or accuracy"))
    if training.torch_compile and recipe.quantization.kind != "none":
        reason = "is true, but a quantized base is not compiled: its kernels are not torch's"
        instead = "write quantization.kind: none, or torch_compile: false"
        found.append(("training.torch_compile", f"{reason}; {instead}"))
    return [*found, *_device_conflicts(recipe)]


def _device_conflicts(recipe: Recipe) -> Conflicts:
    training, found = recipe.training, list[tuple[str, str]]()
    folder = recipe.store.folder
    if recipe.training_cluster is not None and isinstance(folder, str):
        reason = f"is {folder}, but training.devices is {training.devices}, of the cluster at"
        needs = "runner.address, whose nodes need a folder that all of them mount"
        instead = "name one, or write training.devices: auto to train on one machine"
        found.append(("store.folder", f"{reason} {needs}; {instead}"))
    if training.sharding == "none":
        return found
    key = "training.sharding"
    if recipe.method.kind not in SHARDED:
        reason = f"is fsdp, but method.kind is {recipe.method.kind}"
        found.append((key, f"{reason}; choose one of {', '.join(sorted(SHARDED))}, or write none"))
    for name in ("head", "dpo", "grpo"):
        if getattr(recipe, name) is not None:
            reason = f"is fsdp, but {name} is trained with the whole model on each device"
            found.append((key, f"{reason}; remove {name}, or write sharding: none"))
    if training.torch_compile:
        found.append((key, "is fsdp, which does not go with torch_compile; write one of the two"))
    if training.optimizer not in SHARDED_OPTIMIZERS:
        fit = ", ".join(SHARDED_OPTIMIZERS)
        reason = f"is {training.optimizer}, which cannot hold the state of a part of a weight"
        found.append(("training.optimizer", f"{reason}; choose one of {fit}, or sharding: none"))
    if getattr(recipe.method, "target_parameters", None):
        reason = "names stacked weights, which training.sharding: fsdp would cut through"
        found.append(("method.target_parameters", f"{reason}; write null, or sharding: none"))
    return found


def _retrain_conflicts(recipe: Recipe) -> Conflicts:
    retrain, found = recipe.retrain, list[tuple[str, str]]()
    if retrain.max_cost is not None and recipe.device.price_per_hour is None:
        reason = "is set, but device.price_per_hour is null, so that no training has a cost"
        found.append(("retrain.max_cost", f"{reason}; give the price, or use retrain.max_hours"))
    if retrain.start_from != "champion":
        return found
    key, method = "retrain.start_from", recipe.method
    if recipe.training.start_from is not None:
        reason = "is champion, and training.start_from names an adapter as well"
        found.append((key, f"{reason}; remove training.start_from, or write start_from: base"))
    if recipe.head is not None:
        reason = "is champion, but the recipe has a head, which would be new beside old weights"
        found.append((key, f"{reason}; write start_from: base, or remove head"))
    if not isinstance(method, LowRankConfig):
        reason = f"is champion, but method.kind is {method.kind}, which does not go on from an"
        found.append((key, f"{reason} adapter; choose lora or qlora, or write start_from: base"))
    elif method.init is not True:
        reason = f"is champion, but method.init is {method.init}: first values come from the"
        found.append((key, f"{reason} adapter; write method.init: true"))
    if recipe.head is not None:
        reason = "is champion, but the recipe has a head, which would be new beside old weights"
        found.append((key, f"{reason}; write start_from: base"))
    if recipe.training.start_from is not None:
        reason = "is champion, and training.start_from names an adapter too; remove one of the two"
        found.append((key, reason))
    return found
