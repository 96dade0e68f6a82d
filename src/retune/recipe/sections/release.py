"""Sections on what happens to a trained model: gate, registry, tracking, store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from retune.recipe.sections.base import (
    Count,
    FolderOrAddress,
    RecipePath,
    Section,
    Share,
    Text,
    conflict,
)
from retune.recipe.sections.rubrics import PREFIX as RUBRIC

Metric = Literal[
    "sql_execution_match",
    "sql_exact_match",
    "macro_f1",
    "accuracy",
    "perplexity",
    "bits_per_byte",
    "probe_pass_rate",
    "exact_match",
    "token_f1",
    "rouge_l",
    "chrf",
    "bleu",
    "judge_win_rate",
]
OwnFigure = Annotated[
    str, Field(pattern=r"^own_(metric|error)\..+$", examples=["own_metric.house_style"])
]
"""A metric of the team (`scoring.text_metrics`), such as `own_metric.house_style`."""
RubricFigure = Annotated[
    str, Field(pattern=rf"^{RUBRIC}[a-z][a-z0-9_]*$", examples=["rubric_json"])
]
"""A rule that answers are checked by (`scoring.rubrics`), such as `rubric_json`."""

_GUARDED = (
    "sql_execution_match",
    "sql_exact_match",
    "macro_f1",
    "accuracy",
    "perplexity",
    "bits_per_byte",
    "general_text_bits_per_byte",
    "probe_pass_rate",
    "exact_match",
    "token_f1",
    "rouge_l",
    "chrf",
    "bleu",
    "judge_win_rate",
    "flip_rate",
    "unscored_rate",
    "seconds_per_answer",
    "release_bytes",
)
_CATEGORY = "probe_pass_rate."
_OWN = ("own_metric.", "own_error.")
_FAMILIES = (_CATEGORY, *_OWN, RUBRIC)
_KINDS = "|".join(map(re.escape, _FAMILIES))
Guarded = str
"""Figures that two models can be compared by, and the pass rate of one category of probes, such as
`probe_pass_rate.refusals`."""

_SMALLEST_SHARE = 1e-5

SliceName = Literal["group", "kind", "hardness", "language", "label"]


class GateConfig(Section):
    """What a tuned model must show to become champion."""

    metric: Metric | OwnFigure | RubricFigure | None = None
    """Figure that decides. perplexity, bits_per_byte and own_error.NAME are better when lower, the
    others when higher. exact_match, token_f1, rouge_l, chrf, bleu, own_metric.NAME and
    own_error.NAME are those of `scoring.text_metrics`, rubric_NAME of `scoring.rubrics`,
    judge_win_rate is that of `judge`. null: sql_execution_match where the rows are text-to-SQL,
    macro_f1 where they have labels, else perplexity (bits_per_byte where the champion has other
    tokens)."""

    min_gain: float = 0.0
    """The lower bound of the paired interval of the gain must exceed this; in units of the metric
    (0.02 is two percentage points of a match rate). Below 0: a small loss is accepted."""

    min_value: Share | None = None
    """Smallest acceptable value of the metric itself, 0 to 1; not for perplexity and
    bits_per_byte. null: any."""

    max_unscored_fraction: Share = 0.05
    """Largest part of the rows that may have gone without a score, 0 to 1; of other figures and
    guards, the largest part of what the opponent was scored on."""

    min_probe_pass_rate: Share | None = None
    """Smallest part of the probes that must pass, 0 to 1, whatever the metric. null: any."""

    max_forgetting_bits: Annotated[float, Field(ge=0)] | None = None
    """Most bits per byte of general text (`scoring.general_text`) that the tuned model may have
    lost against the base, by the worse end of the paired interval. null: any."""

    guards: dict[Guarded, Annotated[float, Field(ge=0)]] = Field(
        default_factory=dict,
        # Not a pattern of the type, whose error would not name the choices.
        json_schema_extra={"propertyNames": {"pattern": rf"^({'|'.join(_GUARDED)}|({_KINDS}).+)$"}},
    )
    """Other figures that must be shown not to have become worse than the champion (or the base,
    where there is none) by more than a margin: each figure with its margin, in the figure's own
    units, by the worse end of the paired interval. A test set too small to show it refuses. Also
    flip_rate, unscored_rate, seconds_per_answer, release_bytes, probe_pass_rate.CATEGORY and
    rubric_NAME."""

    slices: Annotated[tuple[SliceName, ...], Field(strict=False)] = ()
    """What rows are parted by, so that a part that is shown to be worse refuses: group, kind,
    hardness, language, label. The intervals are widened for the number of parts."""

    min_slice_rows: Annotated[int, Field(ge=2)] = 20
    """Parts with fewer rows refuse nothing and are named as too small."""

    min_rows: Count = 1
    """Fewest held-out rows that the deciding figure must have been scored on."""

    detectable_gain: Annotated[float, Field(gt=0)] | None = None
    """Gain of the metric that the held-out rows must be able to show in four of five tries, in its
    own units; `retune check` refuses a test set that is too small for it. null: any."""

    error: Annotated[float, Field(gt=0, le=0.2)] = 0.05
    """Largest chance that a model which is no better is promoted, over all decisions on one set of
    held-out rows (of cases of probes, where these decide). At least a hundred-thousandth for each
    of `decisions_per_test_set`."""

    decisions_per_test_set: Annotated[int, Field(ge=1, le=1000)] = 20
    """How many decisions without a promotion one set of held-out rows lasts: each takes an equal
    part of `error`; one that promotes gets its part back. Then the gate asks for new rows. Fewer
    decisions show smaller gains."""

    @model_validator(mode="after")
    def _bounds_fit_the_metric(self) -> GateConfig:
        found = []
        for name in self.guards:
            if name not in _GUARDED and not (name.startswith(_FAMILIES) and name not in _FAMILIES):
                expected = (
                    f"{', '.join(_GUARDED)}, {_CATEGORY}CATEGORY, {_OWN[0]}NAME, {RUBRIC}NAME"
                )
                found.append(("guards", f"{name} is no figure; expected one of {expected}"))
        if self.error / self.decisions_per_test_set < _SMALLEST_SHARE * (1 - 1e-9):
            reason = (
                f"{self.error:g} in {self.decisions_per_test_set} parts is under "
                f"{_SMALLEST_SHARE:g} for each, which no sampled test shows"
            )
            found.append(("error", f"{reason}; expected more, or fewer decisions_per_test_set"))
        named = str(self.metric)
        own = named.startswith(_OWN)
        falls = named in ("perplexity", "bits_per_byte") or named.startswith(_OWN[1])
        if falls and self.min_value is not None:
            reason = f"cannot bound {self.metric}, which is better when lower"
            found.append(("min_value", f"{reason}; remove it and use min_gain"))
        if not falls and not own and not -1 <= self.min_gain < 1:
            reason = f"{self.min_gain:g} is out of reach: {self.metric} lies between 0 and 1"
            found.append(("min_gain", f"{reason}; expected -1 to under 1 (0.02 is two points)"))
        if found:
            raise conflict(*found)
        return self


class RegistryConfig(Section):
    """Where accepted models are kept."""

    # MLflow refuses "/" and ":" in names, because they part a model's address.
    model_name: Annotated[
        Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", examples=["text-to-sql-pt"])
    ]
    """Name of the model in the MLflow registry; its aliases are champion and challenger."""

    check_rows: Count = 8
    """Held-out rows answered once more after the model is reloaded by its alias; the answers must
    be the same."""

    approval: Literal["none", "required"] = "none"
    """Whether a person has to agree before a challenger that the gate would promote becomes
    champion. required: the flow run waits in Prefect, or for the tag `retune.approval` of the
    version in MLflow."""

    approval_hours: Annotated[float, Field(gt=0, le=24 * 90)] = 72.0
    """How long that is waited for; afterwards the champion stays."""


class TrackingConfig(Section):
    """Where MLflow writes runs, and what a run does without Prefect."""

    uri: Text | None = None
    """Address of the MLflow server or database, without password; the path in `sqlite:///PATH` is
    relative to the project's root. null: MLFLOW_TRACKING_URI, else SQLite in the store folder."""

    experiment: Text | None = None
    """Name of the MLflow experiment. null: MLFLOW_EXPERIMENT_NAME, else the recipe's name."""

    on_prefect_lost: Literal["stop", "continue"] = "stop"
    """What a run does when Prefect's API stops answering and does not come back. stop: it finishes
    the stage at hand and ends with exit code 7; running again takes up there. continue: it goes on
    to its end, which Prefect's pages then do not show."""

    prefect_patience_seconds: Annotated[float, Field(ge=0)] = 30.0
    """Seconds that it is waited for before that; a server that restarts is back by then."""


class RunnerConfig(Section):
    """Where trials run, and one training on several devices; no part of results."""

    kind: Literal["dask", "ray"] | None = None
    """Engine that spreads them: `dask` or `ray` (`pip install 'retune[ray]'`); `--runner` wins over
    it. null: one after the other, here."""

    address: Text | None = None
    """Cluster that is there already: `HOST:6379` or `ray://HOST:10001` for Ray, `tcp://HOST:8786`
    for Dask. null: workers of this machine, for the length of the comparison. A number of
    `training.devices` counts the devices of such a cluster of Ray, whose nodes mount the store."""

    workers: Count | None = None
    """Trials at once; `--workers` wins over it. null: one per accelerator of this machine, at
    least 2."""

    @model_validator(mode="after")
    def _belongs_to_an_engine(self) -> RunnerConfig:
        given = [name for name in ("address", "workers") if getattr(self, name) is not None]
        if self.kind is None and given:
            raise conflict(*((f"runner.{name}", "needs runner.kind") for name in given))
        return self


class StoreConfig(Section):
    """Where finished stages are kept."""

    folder: FolderOrAddress = Path(".retune")
    """Folder of artifacts; stages found in it are reused. Machines that share their work name an
    address of shared storage, such as `s3://bucket/prefix` (`pip install 'retune[s3]'`)."""

    cache: RecipePath | None = None
    """Folder of this machine's copies of what lies at such an address, verified when read. null:
    `retune/stores` in the user's cache folder."""
