"""What MLflow shows of a finished run: its figures and tags, under names that MLflow takes."""

from __future__ import annotations

import re
from collections.abc import Mapping

from retune.model_records import AdapterRef, MergedRef, ModelRef, Role
from retune.modeling.memory.memory_estimate import MemoryEstimate
from retune.records import Record
from retune.release.resources import resource_figures
from retune.release.summary import RunSummary
from retune.score_records import FigureDifference, GateDecision, ModelScores

_LONGEST_PART = 100
"""Characters of a part's name; MLflow takes 250 for all of a figure's."""


def list_run_figures(
    summary: RunSummary,
    models: tuple[ModelRef, AdapterRef, MergedRef],
    scores: Mapping[Role, ModelScores],
    estimated: MemoryEstimate | None,
) -> dict[str, float]:
    """Return all figures of a run: scores, what decided, what training took, stage times.

    Args:
        summary: Says what ran.
        models: Quantized model, adapter, released model.
        scores: Reports by role.
        estimated: Memory that the training was estimated to need; None where it was not.

    Returns:
        Figures by name, such as ``adapter.perplexity.low``, ``guard.flip_rate.high``,
        ``slice.hardness.extra.refuses`` or ``seconds.score_sql.base``.
    """
    figures: dict[str, float] = {}
    for role, each in scores.items():
        for name, metric in each.metrics().items():
            for part in ("value", "low", "high"):
                value = getattr(metric, part)
                if value is not None:
                    end = "" if part == "value" else f".{part}"
                    figures[f"{role}.{name}{end}"] = value
    judge = scores["merged"].judge
    figures |= {f"judge.{name}": value for name, value in (judge.figures if judge else {}).items()}
    for record in models:
        figures |= _numbers(type(record).__name__.removesuffix("Ref").lower(), record)
    figures |= {f"adapter.{name}": value for name, value in models[1].figures.items()}
    figures |= resource_figures(models[1], estimated)
    figures |= list_decided(summary.decision)
    figures |= {f"seconds.{line.label}": line.seconds for line in summary.stages}
    return {entry_name(name): value for name, value in figures.items()}


def list_decided(decision: GateDecision) -> dict[str, float]:
    """Return the paired differences that a decision rests on, challenger minus opponent.

    Args:
        decision: What the gate said.

    Returns:
        Differences and their ends by name; of guards the margin and whether it holds, of parts of
        the rows their number and whether they refuse.
    """
    found: dict[str, float] = {}
    for each in decision.comparisons:
        found |= _difference(f"gain.{each.against}.{each.metric}", each)
    for guard in decision.guards:
        name = f"guard.{guard.metric}"
        found |= _difference(name, guard)
        found |= {f"{name}.margin": guard.margin, f"{name}.holds": float(guard.holds)}
    for part in decision.slices:
        name = f"slice.{part.by}.{part.part:.{_LONGEST_PART}}"
        found |= _difference(name, part)
        found |= {f"{name}.rows": float(part.rows), f"{name}.refuses": float(part.refuses)}
    return found


def _difference(name: str, found: FigureDifference) -> dict[str, float]:
    parts = {name: found.difference, f"{name}.low": found.low, f"{name}.high": found.high}
    return {part: value for part, value in parts.items() if value is not None}


def list_run_tags(summary: RunSummary) -> dict[str, str]:
    """Return what a run is looked for by: its decision, its version, what became of each stage.

    Args:
        summary: The run's.
    """
    return {
        # Not what the gate said: a person may still have to agree, or has withdrawn the model.
        "retune.promoted": str(summary.registered.alias == "champion").lower(),
        "retune.version": f"{summary.registered.model_name}/{summary.registered.version}",
        **{f"stage.{entry_name(line.label)}": line.state for line in summary.stages},
    }


def entry_name(text: str) -> str:
    """Return a name that MLflow takes: it refuses most signs, and a label may hold any.

    >>> entry_name("score_sql (base)")
    'score_sql.base'
    """
    return re.sub(r"[^\w./ -]", "_", text.replace(" (", ".").replace(")", ""))


def _numbers(name: str, record: Record) -> dict[str, float]:
    values = record.model_dump()
    return {
        f"{name}.{field}": float(value)
        for field, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
