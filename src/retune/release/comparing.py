"""Several models side by side on the same rows: figures, paired comparisons, answers, pages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from retune.model_records import EngineRef
from retune.modeling.tokenizer_identity import Likeness
from retune.recipe.sections.prompt import Effort
from retune.records import Record
from retune.release.effort import measure_effort
from retune.release.report import describe_environment, templates
from retune.release.samples import SideBySide, choose_side_by_side
from retune.release.side_by_side import PairedComparison, compare_with_first
from retune.score_records import Metric, ModelScores
from retune.scoring import showing
from retune.scoring.figures import all_figures, figure_of, is_own

JSON_FILE = "comparison.json"
PAGES = ("comparison.md", "comparison.html")
_SHOWN_FILES = (".jsonl", ".json", ".png", ".svg")


@dataclass(frozen=True)
class ScoredCandidate:
    """A model and its scores.

    Attributes:
        name: Its column.
        kind: What it is: base, snapshot, adapter, registered.
        place: Where it lies.
        digest: Of its content.
        likeness: How alike the tokenizers of the recipe's base and of it are.
        scores: Its reports.
        effort: How much it was asked to think, where efforts are compared.
        engine: Who wrote its answers; None for this machine.
    """

    name: str
    kind: str
    place: str
    digest: str
    likeness: Likeness
    scores: ModelScores
    effort: Effort | None = None
    engine: EngineRef | None = None


class Figure(Metric):
    """A metric, and how many rows it could not be scored on."""

    unscored: int = 0


class ComparedModel(Record):
    """One column."""

    name: str
    kind: str
    place: str
    digest: str
    likeness: Likeness
    effort: Effort | None = None
    """How much it was asked to think, where efforts are compared."""
    metrics: dict[str, Figure]
    unscored: dict[str, dict[str, int]]
    """Rows by reason, by report."""
    files: dict[str, str]
    """Files of its reports, as paths from the page's folder."""


class ModelComparison(Record):
    """Everything that the pages show; plain values, so that it can be made without a run."""

    recipe: str
    made_at: str
    """Date and time, UTC."""
    rows: int
    """Held-out rows that all models were scored on."""
    comparable_tokens: bool
    """False where a figure per token cannot be compared, since a model has other tokens."""
    models: tuple[ComparedModel, ...]
    comparisons: tuple[PairedComparison, ...]
    samples: tuple[SideBySide, ...]
    notes: tuple[str, ...]
    environment: dict[str, str]
    folder: Path
    """Where the pages and this record as JSON lie."""


def compare_models(
    candidates: Sequence[ScoredCandidate],
    *,
    recipe: str,
    folder: Path,
    resamples: int,
    samples: int,
    prompts: Mapping[str, str] | None = None,
) -> ModelComparison:
    """Put models side by side; each is compared with the first.

    Args:
        candidates: At least one, each with another name.
        recipe: Name of the recipe whose rows they were scored on.
        folder: Where the pages will lie; paths to files start there.
        resamples: Bootstrap draws.
        samples: Rows to show in full.
        prompts: The whole prompts by row, as the recipe's base reads them.

    Returns:
        What the pages show.
    """
    scores = {each.name: each.scores for each in candidates}
    comparable = all(each.likeness != "other_tokens" for each in candidates)
    shared = compare_with_first(scores, resamples, comparable_tokens=comparable)
    rows = {name: each.over_rows().rows for name, each in scores.items()}
    return ModelComparison(
        recipe=recipe,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        rows=shared.rows,
        comparable_tokens=comparable,
        models=tuple(_describe(each, folder, resamples) for each in candidates),
        comparisons=shared.comparisons,
        samples=choose_side_by_side(scores, samples, prompts or {}),
        notes=(
            *_note_tokenizers(candidates),
            *_note_rows(rows, shared.rows),
            *_note_groups(candidates),
            *_note_engines(candidates),
        ),
        environment=describe_environment(),
        folder=folder,
    )


def write_comparison(comparison: ModelComparison) -> None:
    """Write the pages and the JSON to the comparison's folder, which is made when missing."""
    folder = comparison.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON_FILE).write_text(comparison.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for name in PAGES:
        (folder / name).write_text(render_comparison(name, comparison), encoding="utf-8")


def render_comparison(name: str, comparison: ModelComparison) -> str:
    """Render one of the pages.

    Args:
        name: ``comparison.md`` or ``comparison.html``.
        comparison: What it shows.

    Returns:
        The page's text.
    """
    figures, further = (
        [(each, showing.label_of(each)) for each in names] for names in metric_names(comparison)
    )
    parts = group_parts(comparison.models)
    return (
        templates()
        .get_template(f"{name}.j2")
        .render(
            comparison=comparison,
            columns=[
                (each.name, each.metrics, place == 0)
                for place, each in enumerate(comparison.models)
            ],
            lines=figures,
            parts={**parts, "Further figures": further} if further else parts,
        )
    )


def metric_names(comparison: ModelComparison) -> tuple[list[str], list[str]]:
    """Name the metrics over all rows: those of a report's headline, then the others.

    Those that count tokens are left out where models have other tokens.
    """
    names = dict.fromkeys(name for model in comparison.models for name in model.metrics)
    whole = [name for name in names if "." not in name or is_own(name)]
    if not comparison.comparable_tokens:
        whole = [name for name in whole if not figure_of(name).per_token]
    figures = [
        each.name for each in all_figures(whole) if _is_shown(each.name) and each.name in whole
    ]
    return figures, [name for name in whole if name not in figures]


def _is_shown(name: str) -> bool:
    return figure_of(name).shown != "further"


def group_parts(models: Sequence[ComparedModel]) -> dict[str, list[tuple[str, str]]]:
    """Gather metrics over parts of the rows into tables.

    Args:
        models: All columns.

    Returns:
        By title, the metric's name and what its line is called.
    """
    tables: dict[str, list[tuple[str, str]]] = {}
    for name in dict.fromkeys(name for model in models for name in model.metrics):
        kind, dot, rest = name.partition(".")
        if dot and not is_own(name):
            figure = figure_of(kind)
            title = f"{figure.label} by {figure.parts}" if kind != "label" else "Figures by class"
            part, _, last = rest.rpartition(".")
            line = f"{part}: {last.replace('_', ' ')}" if part else last.replace("_", " ")
            tables.setdefault(title, []).append((name, line))
    return tables


def _describe(candidate: ScoredCandidate, folder: Path, resamples: int) -> ComparedModel:
    reports = candidate.scores.reports
    metrics: dict[str, Figure] = {}
    for report in reports.values():
        for name, metric in report.metrics.items():
            # Some other figures are over pairs or conditions, whose number is not that of rows.
            missing = report.rows - metric.n if _is_shown(name) else 0
            metrics[name] = Figure(**metric.model_dump(), unscored=max(0, missing))
    if candidate.effort is not None:
        measured = measure_effort(candidate.scores, resamples)
        metrics |= {name: Figure(**metric.model_dump()) for name, metric in measured.items()}
    return ComparedModel(
        name=candidate.name,
        kind=candidate.kind,
        place=candidate.place,
        digest=candidate.digest,
        likeness=candidate.likeness,
        effort=candidate.effort,
        metrics=metrics,
        unscored={name: report.unscored for name, report in reports.items() if report.unscored},
        files={
            f"{name}/{path.name}": Path(os.path.relpath(path, folder)).as_posix()
            for name, report in reports.items()
            for path in sorted(report.folder.glob("*"))
            if path.suffix in _SHOWN_FILES and path.name != "manifest.json"
        },
    )


def _note_tokenizers(candidates: Sequence[ScoredCandidate]) -> list[str]:
    other = [each.name for each in candidates if each.likeness == "other_tokens"]
    template = [each.name for each in candidates if each.likeness == "other_template"]
    notes = []
    if other:
        notes.append(
            f"Another tokenizer than the recipe's base: {', '.join(other)}. The same rows were "
            "tokenized anew for it. Perplexity counts tokens and is not shown, since tokens "
            "differ; bits per byte of the same answers can be compared."
        )
    if template:
        notes.append(
            f"Another chat template than the recipe's base: {', '.join(template)}. The same rows "
            "were asked in its own form; set prompt.template to ask all models alike."
        )
    return notes


def _note_rows(rows: Mapping[str, int], shared: int) -> list[str]:
    if set(rows.values()) == {shared}:
        return []
    counts = ", ".join(f"{name} {count}" for name, count in rows.items())
    return [
        f"Not all models could be given all rows (too long in their tokens, for example): {counts}."
        f" Figures are over each model's own rows, comparisons over the {shared} that all share."
    ]


def _note_groups(candidates: Sequence[ScoredCandidate]) -> list[str]:
    found = showing.warn_of_few_groups(
        metric.groups
        for each in candidates
        for name, metric in each.scores.metrics().items()
        if _is_shown(name)
    )
    return [found] if found else []


def _note_engines(candidates: Sequence[ScoredCandidate]) -> list[str]:
    asked = [
        f"{each.name} ({each.engine.model}, version {each.engine.software or 'not told'})"
        for each in candidates
        if each.engine is not None
    ]
    if not asked:
        return []
    return [
        f"An engine elsewhere wrote the answers of: {', '.join(asked)}. It tells no likelihoods: "
        "perplexity, forgetting and counterfactuals are not measured through it."
    ]
