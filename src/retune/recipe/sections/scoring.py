"""Sections on measuring a model: scores on held-out rows, and probes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

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
from retune.recipe.sections.rubrics import RubricConfig, figure_name, name_of

PerturbationKind = Literal[
    "upper", "lower", "title", "no_accents", "typos", "double_space", "paraphrase", "injection"
]
TextMetricName = Literal["exact_match", "token_f1", "rouge_l", "chrf", "bleu"]
TextNormaliser = Literal["case", "numbers", "accents", "punctuation", "articles_pt", "articles_en"]
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


class OwnMetricConfig(Section):
    """A metric of the team: an `evaluate.Metric` in a folder of this machine, or on the hub."""

    folder: RecipePath | None = None
    """Folder NAME with NAME.py, whose class derives from `evaluate.Metric`. null: it is on the
    hub."""

    hub: Text | None = None
    """Id of a space on the hub that holds a metric, such as `evaluate-metric/wer`; its code is run.
    null: it is in a folder."""

    revision: Text | None = None
    """Commit of the space, needed with `hub`: other code would give other figures."""

    result: Text | None = None
    """Which of the numbers that it returns is the figure. null: the one of its own name, or the
    only one."""

    lower_is_better: bool = False
    """Whether a smaller value is the better one, as of an error rate."""

    @property
    def name(self) -> str:
        """What it is called: its folder's name, or the last part of its id."""
        return (self.folder.name if self.folder else str(self.hub)).rpartition("/")[2]

    @property
    def figure(self) -> str:
        """The name of its figure, which `gate` may name."""
        return f"{'own_error' if self.lower_is_better else 'own_metric'}.{self.name}"

    @model_validator(mode="after")
    def _one_place(self) -> OwnMetricConfig:
        if (self.folder is None) == (self.hub is None):
            found = "both" if self.folder else "neither"
            reason = f"expected either folder or hub, found {found}"
            raise conflict(("folder", reason))
        if self.hub is not None and self.revision is None:
            reason = f"is null, but {self.hub} may change; name the commit whose code is meant"
            raise conflict(("revision", reason))
        if not self.name.isidentifier():
            reason = f"{self.name} is no name of a Python module; expected letters, digits and _"
            raise conflict(("folder" if self.folder else "hub", reason))
        return self


def _kind_of_metric(value: object) -> str:
    return OWN_METRIC if isinstance(value, dict | OwnMetricConfig) else "name"


OWN_METRIC = "own_metric"
"""Tag of a team's metric in the locations of errors, which no file has."""
TextMetric = Annotated[
    Annotated[TextMetricName, Tag("name")] | Annotated[OwnMetricConfig, Tag(OWN_METRIC)],
    Discriminator(_kind_of_metric),
]


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

    text_metrics: Annotated[tuple[TextMetric, ...], Field(strict=False)] = ()
    """Figures of answers in free text (neither queries nor classes) against their references:
    exact_match, token_f1, rouge_l, chrf, bleu, or a metric of the team ({folder: ...} or {hub: ...,
    revision: ...}). Every held-out row is answered for them."""

    text_normalisers: Annotated[tuple[TextNormaliser, ...], Field(strict=False)] = (
        "case",
        "punctuation",
    )
    """What exact_match and token_f1 do not look at: case, numbers (1.234,50 is 1234.5), accents,
    punctuation, articles_pt (o, a, os, as, um, uma, uns, umas), articles_en (a, an, the). The
    other metrics are as their papers have them."""

    rubrics: Annotated[tuple[RubricConfig, ...], Field(strict=False)] = ()
    """Rules that answers in free text are checked by, each a figure rubric_NAME (part of the rows
    that keep to it): {kind: json}, regex, length, language, refusal, python or citations. Every
    held-out row is answered for them."""

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

    @property
    def text_figures(self) -> tuple[str, ...]:
        """The names of the figures that `text_metrics` and `rubrics` ask for."""
        metrics = (one if isinstance(one, str) else one.figure for one in self.text_metrics)
        return (*metrics, *map(figure_name, self.rubrics))

    @property
    def own_metrics(self) -> tuple[OwnMetricConfig, ...]:
        """The metrics of the team among `text_metrics`."""
        return tuple(one for one in self.text_metrics if isinstance(one, OwnMetricConfig))

    @model_validator(mode="after")
    def _names_once(self) -> ScoringConfig:
        names = [one if isinstance(one, str) else one.name for one in self.text_metrics]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise conflict(("text_metrics", f"names {', '.join(twice)} twice; expected each once"))
        called = [name_of(one) for one in self.rubrics]
        if twice := sorted({name for name in called if called.count(name) > 1}):
            reason = f"has {', '.join(twice)} twice; give each a name of its own"
            raise conflict(("rubrics", reason))
        return self


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


class SamplingConfig(Section):
    """How the tokens of an answer are drawn that a person is shown; never of one that is scored."""

    temperature: Annotated[float, Field(gt=0, le=2)] = 0.7
    """Divides the logits: under 1 likely tokens come more often, over 1 less."""

    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Only the likeliest tokens are drawn that have this much of the probability together."""

    repetition_penalty: Annotated[float, Field(ge=1, le=2)] = 1.0
    """Divides what a token that stands in the prompt or answer already is worth. 1: nothing."""

    seed: Seed = 7
    """Number that tokens are drawn from, anew for each question."""


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

    show: Annotated[tuple[Text, ...], Field(strict=False, max_length=100)] = ()
    """Questions that base, released model and champion answer in the report, for a person to read;
    nothing of it is scored."""

    sampling: SamplingConfig | None = None
    """How a second answer to each of `show` is drawn, beside the greedy one. null: greedy alone."""

    max_new_tokens: Count = 96
    """Most tokens of one answer."""

    @model_validator(mode="after")
    def _asks_something(self) -> ProbesConfig:
        if self.sampling is not None and not self.show:
            reason = "is set, but show has no questions, and nothing else is drawn"
            raise conflict(("sampling", f"{reason}; name questions, or remove it"))
        if not (self.file or self.counterfactuals or self.robustness or self.show):
            reason = "is null, and so are counterfactuals, robustness and show: nothing would be"
            raise conflict(
                ("file", f"{reason} asked; name cases, or remove the section (probes: null)")
            )
        return self
