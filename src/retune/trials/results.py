"""What came of each trial, and of all together: plain records, from which pages are made."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from retune.digests import digest_json
from retune.model_records import AdapterRef
from retune.recipe.recipe import Recipe
from retune.records import Record
from retune.release.side_by_side import PairedComparison, compare_with_first
from retune.score_records import Metric, ModelScores
from retune.scoring.figures import figure_of
from retune.training.resource_record import read_measured
from retune.trials.pareto import pareto_set
from retune.trials.pruning import Curve

TrialState = Literal["finished", "stopped", "failed"]


class Cost(Record):
    """What one training took."""

    seconds: float
    """Wall time of all its steps."""
    estimated: bool
    """Whether part of the time was not measured: the training was resumed, and the steps before
    are counted at the pace of those after."""
    memory_bytes: int | None
    """Most memory that training held at once beside what the libraries held before."""
    peak_bytes: int | None
    """The same with it: of the process on a CPU, of the allocator on a GPU."""
    tokens: int | None
    """Real tokens that were learned from; None for a training of which only a part was measured."""
    device: str | None
    """cpu or cuda; None where it was not measured."""


class TrialResult(Record):
    """What came of one trial."""

    name: str
    overrides: tuple[str, ...]
    state: TrialState
    reason: str = ""
    """Why it was stopped, or failed; empty for a finished one."""
    error: str = ""
    """Class of the error of a failed one, as `retune.errors` names it."""
    method: str
    learning_rate: float
    quantization: str
    reused: bool = False
    """Whether its training was found in the store: its costs are of when it was computed."""
    computed_at: str = ""
    """When its training was sealed, UTC."""
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    steps: int | None = None
    cost: Cost | None = None
    validation_loss: float | None = None
    loss_scope: str = ""
    curve: Curve = ()
    scores: ModelScores | None = None
    training_key: str = ""

    @property
    def trainable_share(self) -> float | None:
        """Return the part of all parameters that was trained."""
        if not self.trainable_parameters or not self.total_parameters:
            return None
        return self.trainable_parameters / self.total_parameters


class ComparedTrial(Record):
    """One line of the table."""

    result: TrialResult
    metrics: dict[str, Metric]
    price: float | None
    """What its training cost, by `device.price_per_hour`."""
    pareto: bool
    against_best: PairedComparison | None = None
    """This trial minus the best one on the figure that decides; None for the best itself."""


class TrialComparison(Record):
    """Everything that the pages show; plain values, so that it can be made without a run."""

    recipe: str
    kind: Literal["comparison", "sweep"]
    made_at: str
    """Date and time, UTC."""
    metric: str
    """The figure that decides."""
    rows: int
    """Held-out rows."""
    currency: str
    counts: tuple[str, ...]
    """What the Pareto set is over."""
    trials: tuple[ComparedTrial, ...]
    """Best first, then what was stopped, then what failed."""
    notes: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    """Where the pages and this record as JSON lie."""

    @property
    def best(self) -> ComparedTrial:
        """Return the trial with the best figure."""
        return self.trials[0]


def read_cost(adapter: AdapterRef, provenance: Mapping[str, Any]) -> Cost:
    """Read what a training took.

    Args:
        adapter: What was trained.
        provenance: Of its artifact, for one that was trained before costs were measured.

    Returns:
        Its cost; the time of a resumed training is that of all its steps.
    """
    found = read_measured(adapter.folder)
    if found is None:
        return Cost(
            seconds=float(provenance.get("seconds", 0.0)),
            estimated=adapter.resumed_from_step > 0,
            **dict.fromkeys(("memory_bytes", "peak_bytes", "tokens", "device")),
        )
    scale = adapter.steps / found.steps if found.resumed and found.steps else 1.0
    return Cost(
        seconds=found.seconds * scale,
        estimated=found.resumed,
        memory_bytes=found.training_bytes,
        peak_bytes=found.peak_memory_bytes,
        tokens=None if found.resumed else found.tokens,
        device=found.device,
    )


def add_costs(costs: Sequence[Cost]) -> Cost:
    """Add what one training after the other took: times and tokens add up, memory does not.

    Args:
        costs: At least one.
    """
    return Cost(
        seconds=sum(each.seconds for each in costs),
        estimated=any(each.estimated for each in costs),
        memory_bytes=_combined([each.memory_bytes for each in costs], max),
        peak_bytes=_combined([each.peak_bytes for each in costs], max),
        tokens=_combined([each.tokens for each in costs], sum),
        device=costs[-1].device,
    )


def _combined(values: Sequence[int | None], combine: Callable[[Sequence[int]], int]) -> int | None:
    known = [value for value in values if value is not None]
    return combine(known) if len(known) == len(values) else None


def find_loss_scope(recipe: Recipe, validation: str) -> str:
    """Return the digest of what a held-out loss is over; only equal ones are compared.

    Args:
        recipe: The trial's.
        validation: Digest of the validation rows as the model reads them.
    """
    return digest_json([validation, recipe.training.evaluation_rows, recipe.head is not None])


def order_results(metric: str, results: Sequence[TrialResult]) -> list[TrialResult]:
    """Put the best first, then what could not be scored, was stopped, failed.

    Of equal figures the lower held-out loss stands first.
    """
    sign = 1.0 if figure_of(metric).lower_is_better else -1.0
    places = {"finished": 0, "stopped": 2, "failed": 3}

    def place(result: TrialResult) -> tuple[int, float, float]:
        value, loss = value_of(metric, result), result.validation_loss
        unscored = result.state == "finished" and value is None
        first = 1 if unscored else places[result.state]
        return first, sign * (value or 0.0), math.inf if loss is None else loss

    return sorted(results, key=place)


def value_of(metric: str, result: TrialResult) -> float | None:
    """Return a trial's value of a metric; None where it has none."""
    found = result.scores.metrics().get(metric) if result.scores else None
    return None if found is None else found.value


def find_pareto(metric: str, results: Sequence[TrialResult]) -> tuple[set[str], tuple[str, ...]]:
    """Find the trials that no other one beats on every count.

    Args:
        metric: The figure that decides.
        results: Trials; those without the figure are in no set.

    Returns:
        Names of the trials, and the counts: quality, and of memory, time and parameters those that
        are known of every trial.
    """
    scored = [each for each in results if value_of(metric, each) is not None]
    counts: dict[str, list[float | None]] = {
        "memory": [_memory(each) for each in scored],
        "time": [each.cost.seconds if each.cost else None for each in scored],
        "trainable parameters": [_as_float(each.trainable_parameters) for each in scored],
    }
    known = {name: found for name, found in counts.items() if None not in found}
    sign = 1.0 if figure_of(metric).lower_is_better else -1.0
    points = {
        each.name: [
            sign * (value_of(metric, each) or 0.0),
            *(found[place] or 0.0 for found in known.values()),
        ]
        for place, each in enumerate(scored)
    }
    return pareto_set(points), ("quality", *known)


def pair_with_best(
    metric: str, results: Sequence[TrialResult], resamples: int
) -> dict[str, PairedComparison]:
    """Compare every trial with the best one on the same validation rows.

    Args:
        metric: The figure that decides.
        results: Trials, the best first.
        resamples: Bootstrap draws.

    Returns:
        The paired difference by trial, the best left out.
    """
    scores = {
        each.name: each.scores
        for each in results
        if each.scores is not None and each.scores.report_of(metric) is not None
    }
    if len(scores) < 2:
        return {}
    # Reports of other figures would be compared too, and take their time.
    lean = {name: _only(metric, each) for name, each in scores.items()}
    shared = compare_with_first(lean, resamples, comparable_tokens=True)
    return {each.model: each for each in shared.comparisons if each.metric == metric}


def _only(metric: str, scores: ModelScores) -> ModelScores:
    holder = scores.report_of(metric)
    kept = {
        name: report
        for name, report in scores.reports.items()
        if name == "perplexity" or report == holder
    }
    return scores.model_copy(update={"reports": kept})


def _memory(result: TrialResult) -> float | None:
    return _as_float(result.cost.memory_bytes) if result.cost else None


def _as_float(value: int | None) -> float | None:
    return None if value is None else float(value)
