"""The records of models: base, quantized, trained, released, registered, and what scorers load."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from retune.digests import digest_folder, digest_json
from retune.recipe.sections.method import MERGEABLE, MethodKind
from retune.recipe.sections.scoring import Form
from retune.records import ArtifactRecord, ContentRecord, Record

Role = Literal["base", "adapter", "merged", "champion"]
Placement = Literal["device", "offloaded", "cpu"]
"""Where a model is held: whole on the device; layers that do not fit on the disk; whole on the CPU,
and computed there."""


def digest_snapshot(folder: Path) -> str:
    """Return the digest of a snapshot of this machine: of all that a model is loaded from."""
    return digest_folder(folder, without=("README.md", ".git", ".cache"))


class BaseRef(ArtifactRecord):
    """An unquantized snapshot: a local folder or a downloaded hub revision."""

    model_id: str
    revision: str | None
    tokenizer_digest: str
    weight_bytes: int = 0
    """Size of the weight files, here or on the hub."""
    local: bool = False
    """Whether it is a folder that anybody may write to, whose digest is that of its files."""

    def find_changed(self) -> Path | None:
        """Return the folder where its content has changed; what the hub gave has a commit."""
        changed = self.local and digest_snapshot(self.folder) != self.digest
        return self.folder if changed else None

    def as_scored(self) -> ScoredModel:
        """Return what scorers load."""
        return ScoredModel(digest=self.digest, weights=self.folder, tokenizer=self.folder)


class ModelRef(ArtifactRecord):
    """The model that training starts from, quantized or not."""

    quantization: Literal["none", "nf4"]
    parameters: int
    footprint_bytes: int
    base_footprint_bytes: int
    reference_perplexity: float
    """Perplexity of the quantized model on the reference text."""
    base_reference_perplexity: float

    def weights(self, base: BaseRef) -> Path:
        """Return the folder to train over: the quantized checkpoint, or the base itself."""
        return base.folder if self.quantization == "none" else self.folder


class MethodFit(ContentRecord):
    """That a method fits a model, and what it would train; a head counts as one of two labels."""

    trainable_parameters: int
    total_parameters: int


class AdapterRef(ArtifactRecord):
    """What was trained, and its figures.

    An adapter (`adapter_model.safetensors`), or with kind `full` a snapshot folder whose weights
    are in float32, as they were trained.
    """

    kind: MethodKind = "lora"
    trainable_parameters: int
    total_parameters: int
    steps: int
    """Optimizer steps that were taken."""
    stopped_early: bool = False
    """Whether training ended before its planned steps, since it no longer gained."""
    best_step: int
    best_score: float | None = None
    """The watched score of the kept weights, where a task is watched and not the loss."""
    resumed_from_step: int
    memory_rung: str | None = None
    """Settings that were changed since memory ran out, for the same steps; None: none was."""
    skipped_batches: int = 0
    """Steps left out because a loss or gradient was not finite."""
    train_loss: float
    validation_loss: float | None
    """Held-out loss in nats per answer token; None when the recipe asks for no evaluation."""
    base_validation_loss: float | None
    started_from: str | None = None
    """Digest of the adapter whose weights training went on from; None for new ones."""
    figures: dict[str, float] = Field(default_factory=dict)
    """What only this kind of training has: preference accuracy, mean reward."""

    @property
    def mergeable(self) -> bool:
        """Whether the result is plain weights of the base's own shape."""
        return self.kind in MERGEABLE

    def as_scored(self, model: ModelRef, base: BaseRef) -> ScoredModel:
        """Return what scorers load: the model it was trained over, with this adapter on top.

        Weights that were trained as a whole are loaded without another model under them.
        """
        if self.kind == "full":
            digest = digest_json({"weights": self.digest, "tokenizer": base.tokenizer_digest})
            return ScoredModel(digest=digest, weights=self.folder, tokenizer=base.folder)
        return ScoredModel(
            digest=digest_json({"adapter": self.digest, "model": model.digest}),
            weights=model.weights(base),
            adapter=self.folder,
            tokenizer=base.folder,
        )


class MergedRef(ArtifactRecord):
    """What is released, checked against what was trained.

    Merged weights in a plain snapshot folder; or, where a method's result cannot be merged, a
    bundle: the base's weights and the adapter in folders beside each other.
    """

    bundled: bool = False
    """Whether the adapter lies beside the weights."""
    rows_checked: int
    max_logit_difference: float
    """Largest ``|released - adapter|`` over the checked answer positions."""
    logit_spread: float
    """Standard deviation of the adapter's logits there: the scale of the difference."""
    divergence_nats: float | None = None
    """How much more surprised the released model is by what the adapter expects there than the
    adapter, in nats per token (Kullback-Leibler); None where it was not measured."""
    answers_equal: int
    """Checked rows whose greedy answer is the same text; where layers were offloaded, whose
    likeliest token is the same at each position of the answer, since writing would read all layers
    again for each token."""

    def as_scored(self) -> ScoredModel:
        """Return what scorers load."""
        weights, adapter = locate_bundle(self.folder) if self.bundled else (self.folder, None)
        return ScoredModel(digest=self.digest, weights=weights, tokenizer=weights, adapter=adapter)


def locate_bundle(folder: Path) -> tuple[Path, Path]:
    """Return where the weights (with their tokenizer) and the adapter of a bundle lie.

    Args:
        folder: The bundle. It has no weights itself: loaded as a model it is an error, and never
            the base without its adapter.
    """
    return folder / "weights", folder / "adapter"


def is_bundle(folder: Path) -> bool:
    """Tell whether a folder holds weights with an adapter beside them."""
    weights, adapter = locate_bundle(folder)
    return (weights / "config.json").is_file() and (adapter / "adapter_config.json").is_file()


class ChampionRef(ContentRecord):
    """The registered version that a challenger has to beat."""

    version: int
    weights: Path
    tokenizer: Path
    adapter: Path | None = None
    """What is put over the weights; None where they are the whole model."""

    def as_scored(self) -> ScoredModel:
        """Return what scorers load."""
        return ScoredModel(
            digest=self.digest,
            weights=self.weights,
            tokenizer=self.tokenizer,
            adapter=self.adapter,
        )


class StagePlace(Record):
    """Where a stage holds its model. It is no part of what the model says."""

    placement: Placement = "device"
    resident_bytes: int = 0
    """With ``offloaded``: weights that stay on the device."""
    exact_heap: bool = False
    """Of a training on a CPU: whether what is freed goes back to the system at once, which is
    slower."""


WHOLE = StagePlace()
"""The whole model on the device."""


class EngineRef(Record):
    """A server that writes a model's answers, in place of a process of this machine."""

    address: str
    """Of its API, ``http://HOST:PORT/v1``; no part of what it says."""
    model: str
    """What it calls the model."""
    software: str | None = None
    """What it says it is, such as ``0.11.0``; None where it does not say."""


class ScoredModel(ContentRecord):
    """Where a model's parts lie; its role is not part of it, so equal weights score once."""

    weights: Path
    tokenizer: Path
    adapter: Path | None = None
    form: Form = "plain"
    """A part of the digest: in 4 bits a model says other things."""
    place: StagePlace = WHOLE
    """No part of the digest."""
    engine: EngineRef | None = None
    """Who writes its answers; None for this machine, where its weights are loaded."""

    def asked_at(self, engine: EngineRef) -> ScoredModel:
        """Return the model as a server answers for it; what that says is its own.

        Args:
            engine: The server, which holds these very weights.
        """
        said = engine.model_dump(mode="json", exclude={"address"})
        digest = digest_json({"model": self.digest, "engine": said})
        return self.model_copy(update={"engine": engine, "digest": digest})

    def held(self, form: Form, place: StagePlace) -> ScoredModel:
        """Return the model in a form, and where it is held.

        Args:
            form: What it is scored in; the digest of another than ``plain`` is its own.
            place: Where to.
        """
        changed = {} if form == self.form else {"form": form, "digest": self._digest_in(form)}
        return self.model_copy(update={**changed, "place": place})

    def _digest_in(self, form: Form) -> str:
        return digest_json({"model": self.digest, "form": form})
