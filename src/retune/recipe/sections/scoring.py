"""Sections on measuring a model: scores on held-out rows, and probes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from retune.recipe.sections.base import (
    Count,
    CountOrZero,
    Devices,
    RecipePath,
    Section,
    Seed,
    Text,
    conflict,
)

PerturbationKind = Literal[
    "upper", "lower", "title", "no_accents", "typos", "double_space", "paraphrase", "injection"
]
ClassifyBy = Literal["likelihood", "generation"]
Form = Literal["plain", "nf4"]
"""In which form a model is scored: ``plain`` as it is stored, MXFP4 dequantized; ``nf4`` in 4 bits
by bitsandbytes, where plain weights are quantized while they are loaded."""


class ScoringRuntime(Section):
    """What cannot change a score; no part of the stage key."""

    batch_size: Count = 32
    """Rows that go through the model at once; lower it where memory is short. A batch that does not
    fit is halved by itself."""

    devices: Devices = "auto"
    """Devices that share the batches, each with the whole model. auto: all GPUs that the scoring
    may see; a CPU is one. On a CPU, a number is that of its processes. Batches and their order are
    those of one device."""


class ScoringConfig(Section):
    """Generation and metrics on the held-out rows."""

    max_new_tokens: Count = 128
    """Most tokens of one answer; what a model would write after them is not seen."""

    sql_dialect: Annotated[Text, Field(pattern=r"^[a-z0-9]+$", examples=["sqlite", "postgres"])] = (
        "sqlite"
    )
    """SQL dialect of the answers, as sqlglot names it."""

    sql_timeout_seconds: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Processor time that one query may take before its process is killed, however busy the machine
    is: a prediction that takes longer is wrong, a reference that does leaves its row unscored."""

    classify_by: ClassifyBy = "likelihood"
    """How a model names a class. likelihood: the label whose tokens it finds most likely, which
    also gives probabilities. generation: it writes, and a label is looked for in its text."""

    general_text: RecipePath | None = None
    """File of texts, one JSON object with "text" per line, on which every model's bits per byte are
    measured: what fine-tuning made it forget. null: a few paragraphs in Portuguese and English that
    come with retune."""

    form: Literal["auto", "plain", "nf4"] = "auto"
    """Form that base, released model and champion are scored in, all in the same. plain: as stored.
    nf4: in 4 bits. auto: plain, or nf4 where quantization.kind is nf4 and the plain model does not
    fit the device. An adapter is scored over the weights that it was trained over; with nf4, plain
    ones are quantized under it, too."""

    samples: CountOrZero = 3
    """Rows that the report shows in full: question, reference, answers of base and tuned model."""

    resamples: Annotated[int, Field(ge=100)] = 10_000
    """Bootstrap draws behind the 95 % intervals of perplexity and of differences."""

    runtime: ScoringRuntime = Field(default_factory=ScoringRuntime)
    """What cannot change a score."""


class RobustnessConfig(Section):
    """The held-out questions again, perturbed on purpose: how often is the outcome another?"""

    kinds: Annotated[tuple[PerturbationKind, ...], Field(strict=False, min_length=1)] = (
        "upper",
        "no_accents",
        "typos",
        "double_space",
        "injection",
    )
    """What is done to the questions, one at a time. paraphrase needs `paraphrases`."""

    rows: Count = 100
    """Most held-out rows that are asked again, drawn by `seed`."""

    seed: Seed = 7
    """Number that rows and typos are drawn from."""

    typo_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Part of the letters that a typo falls on, above 0 to 1."""

    paraphrases: RecipePath | None = None
    """File (.yaml) of questions in other words. null: none."""

    @model_validator(mode="after")
    def _paraphrases_are_there(self) -> RobustnessConfig:
        if "paraphrase" in self.kinds and self.paraphrases is None:
            reason = "is null, but kinds has paraphrase: nothing says the questions in other words"
            raise conflict(("paraphrases", f"{reason}; name a file, or remove the kind"))
        return self


class ProbesConfig(Section):
    """Fixed questions whose answers are judged, and the same questions in other clothes."""

    file: RecipePath | None = None
    """File of probe cases (.yaml), or a folder of them: answers must or must not hold certain
    words. null: none."""

    counterfactuals: RecipePath | None = None
    """File of counterfactual pairs (.yaml), or a folder of them: the same sentence for two groups.
    null: none."""

    robustness: RobustnessConfig | None = None
    """The held-out questions again, perturbed on purpose. null: not asked."""

    max_new_tokens: Count = 96
    """Most tokens of one answer."""

    @model_validator(mode="after")
    def _asks_something(self) -> ProbesConfig:
        if self.file is None and self.counterfactuals is None and self.robustness is None:
            reason = "is null, and so are counterfactuals and robustness: nothing would be asked"
            raise conflict(("file", f"{reason}; name cases, or remove the section (probes: null)"))
        return self
