"""A run's report: Markdown, one self-contained page, and the picture of its curves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from pydantic import Field

from retune.data.prepared import PreparedData
from retune.gate.power import DetectableGain
from retune.gate.requirements import describe_power
from retune.model_records import AdapterRef, MergedRef, ModelRef, Role
from retune.modeling.memory.memory_estimate import MemoryEstimate
from retune.pages.numbers import ABSENT, show_bytes
from retune.pages.templates import page_templates, policy_source
from retune.recipe.sections.scoring import Form, SamplingConfig
from retune.records import Record
from retune.release.curves import CurvePoint, draw_png, draw_svg
from retune.release.error_budget import ErrorBudget
from retune.release.explorer import Exploration
from retune.release.resources import describe_resources
from retune.release.samples import Sample, ShownQuestion
from retune.release.summary import RunSummary
from retune.score_records import GateDecision, Metric, RegisteredRef
from retune.scoring import showing
from retune.scoring.figures import headline_of
from retune.spine.provenance import library_versions, machine_provenance
from retune.text_files import read_text_file
from retune.training.metrics import read_metrics
from retune.watching import StageLine

if TYPE_CHECKING:
    from jinja2 import Environment

_LIBRARIES = ("bitsandbytes", "mlflow", "peft", "prefect", "torch", "transformers", "trl")
_DIGITS_SHOWN = 16
_TEMPLATES = Path(__file__).parent / "templates"


class RunReport(Record):
    """Everything that a report shows; plain values, so that it can be made without a run."""

    recipe_name: str
    made_at: str
    """Date and time, UTC."""
    decision: GateDecision
    budget: ErrorBudget | None = None
    """What the held-out rows could still be asked; None where that is not known."""
    registered: RegisteredRef | None
    models: dict[Role, dict[str, Metric]]
    baselines: dict[str, dict[str, Metric]] = Field(default_factory=dict)
    """What plain classifiers reach on the same rows; empty where rows have no labels."""
    samples: tuple[Sample, ...]
    exploration: Exploration | None = None
    """Rows to look through in the page; None: the samples alone."""
    shown: tuple[ShownQuestion, ...] = ()
    """What the models say to questions of the recipe."""
    sampling: SamplingConfig | None = None
    """How second answers to these were drawn; None: there are none."""
    stages: tuple[StageLine, ...]
    curves: tuple[CurvePoint, ...]
    dataset: dict[str, str]
    """Label and text, in the order shown; so are the following two."""
    figures: dict[str, str]
    environment: dict[str, str]


def write_report(
    summary: RunSummary,
    curves: Path,
    *,
    data: PreparedData,
    models: tuple[ModelRef, AdapterRef, MergedRef],
    estimated: MemoryEstimate | None,
    power: DetectableGain | None = None,
    exploration: Exploration | None = None,
    shown: tuple[ShownQuestion, ...] = (),
    sampling: SamplingConfig | None = None,
    folder: Path,
) -> None:
    """Write the report of a run from its records.

    Args:
        summary: What the run found.
        curves: `metrics.jsonl` of the training; need not exist.
        data: Rows from their sources to chats.
        models: Quantized model, adapter, released model.
        estimated: Memory that the training was estimated to need; None where it was not.
        power: Smallest gain that the held-out rows can show; None where it is not known.
        exploration: Rows to look through in the page; None: the summary's samples alone.
        shown: What the models say to questions of the recipe.
        sampling: How second answers to these were drawn; None: there are none.
        folder: Where `report.md`, `report.html` and `curves.png` go; made when missing.
    """
    power_shown = {} if power is None else {"Power": describe_power(power)}
    write_pages(
        folder,
        RunReport(
            recipe_name=summary.recipe,
            made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            decision=summary.decision,
            budget=summary.budget,
            registered=summary.registered,
            models=summary.models,
            baselines=summary.baselines,
            samples=summary.samples,
            exploration=exploration,
            shown=shown,
            sampling=sampling,
            stages=summary.stages,
            curves=tuple(CurvePoint.model_validate(point) for point in read_metrics(curves)),
            dataset=describe_data(data) | power_shown,
            figures={**describe_models(*models, estimated), "Scored": describe_form(summary.form)},
            environment=describe_environment(),
        ),
    )


def write_pages(folder: Path, report: RunReport) -> None:
    """Write `report.md`, `report.html` and `curves.png`.

    Args:
        folder: Where they go; made when missing.
        report: What they show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "curves.png").write_bytes(draw_png(report.curves))
    for name in ("report.md", "report.html"):
        (folder / name).write_text(render(name, report), encoding="utf-8")


def render(name: str, report: RunReport) -> str:
    """Render one of the pages.

    Args:
        name: ``report.md`` or ``report.html``.
        report: What it shows.

    Returns:
        The page's text.
    """
    metrics = _metrics_of(report.models)
    fields: dict[str, Any] = {
        "report": report,
        "metrics": metrics,
        "baseline_metrics": headline_of(_metrics_of(report.baselines)),
    }
    if name.endswith(".html"):
        fields["curves_svg"] = draw_svg(report.curves)
        fields["script"] = _explorer_script()
        fields["script_source"] = policy_source(fields["script"])
        fields["lines"] = [(each, showing.label_of(each)) for each in metrics]
        fields["columns"] = [
            (showing.ROLE_LABELS[role], figures, role == "merged")
            for role, figures in report.models.items()
        ]
    return templates().get_template(f"{name}.j2").render(fields)


def describe_data(data: PreparedData) -> dict[str, str]:
    """Say what the run was trained and scored on."""
    chat = data.chat
    read = sum(source.rows + source.bad_rows for source in data.rows)
    counts = {
        f"{side.capitalize()} rows": f"{getattr(chat, side):,} (sha256 {_digits(digest)})"
        for side, digest in chat.side_digests.items()
    }
    return {
        "Rows read": f"{read:,} from {len(data.rows)} source{'s' * (len(data.rows) != 1)}",
        "Rows kept": f"{data.clean.rows:,} (sha256 {_digits(data.clean.digest)})",
        **counts,
        "Groups on two sides": f"{data.split.groups_shared:,}",
        "Training tokens": f"{chat.train_tokens:,}, of which {chat.answer_tokens:,} carry loss",
        "Longest row": f"{chat.longest_tokens:,} tokens",
        **({"Prompts": " ".join(chat.prompts)} if chat.prompts else {}),
    }


def describe_models(
    model: ModelRef, adapter: AdapterRef, merged: MergedRef, estimated: MemoryEstimate | None
) -> dict[str, str]:
    """Say how the model was quantized, trained and released."""
    share = adapter.trainable_parameters / max(1, adapter.total_parameters)
    form = "Released" if merged.bundled else "Merged"
    return {
        "Parameters": f"{model.parameters:,}",
        "Quantization": f"{model.quantization}, {show_bytes(model.footprint_bytes)} "
        f"instead of {show_bytes(model.base_footprint_bytes)}",
        "Perplexity on the reference text": f"{model.reference_perplexity:.3f} quantized, "
        f"{model.base_reference_perplexity:.3f} not",
        "Trainable parameters": f"{adapter.trainable_parameters:,} ({100 * share:.2f} %)",
        "Steps": f"{adapter.steps:,}, best at {adapter.best_step:,}"
        + (f", resumed from {adapter.resumed_from_step:,}" if adapter.resumed_from_step else ""),
        **(
            {"Memory ran out": f"trained with {adapter.memory_rung}"} if adapter.memory_rung else {}
        ),
        **(
            {"Steps left out": f"{adapter.skipped_batches:,}, whose loss was not a number"}
            if adapter.skipped_batches
            else {}
        ),
        **(
            {"Started from": f"adapter {adapter.started_from[:12]}"} if adapter.started_from else {}
        ),
        "Training loss": _loss(adapter.train_loss),
        "Validation loss": f"{_loss(adapter.validation_loss)} "
        f"(before training {_loss(adapter.base_validation_loss)})",
        **describe_figures(adapter),
        **describe_resources(adapter, estimated),
        f"{form} against adapter": f"{merged.answers_equal} of {merged.rows_checked} answers "
        f"equal, {_apart(merged)}largest logit difference {merged.max_logit_difference:.2g} "
        f"where logits spread {merged.logit_spread:.2g}",
    }


def describe_form(form: Form) -> str:
    """Say in which form base, released model and champion were scored."""
    if form == "nf4":
        return "base, released model and champion in 4 bits (NF4), to which the figures belong"
    return "base, released model and champion as they are stored, not quantized"


def _apart(merged: MergedRef) -> str:
    nats = merged.divergence_nats
    return "" if nats is None else f"{nats:.2g} nats a token apart, "


def describe_figures(adapter: AdapterRef) -> dict[str, str]:
    """Say what preferences and rewards changed, where they were trained last."""
    found = adapter.figures
    described: dict[str, str] = {}
    if "preference_accuracy" in found:
        described["Chosen answer likelier"] = (
            f"{100 * found['preference_accuracy']:.1f} % of {found['pairs_held_back']:.0f} pairs "
            f"held back (before {100 * found['preference_accuracy_before']:.1f} %); it gained more "
            f"in {100 * found['reward_accuracy']:.1f} %, by {found['reward_margin']:.3f} on average"
        )
    if "reward_last" in found:
        described["Reward of drawn answers"] = (
            f"{found['reward_first']:.3f} in the first quarter of the steps, "
            f"{found['reward_last']:.3f} in the last; answers of a prompt differed in "
            f"{100 * found['groups_with_signal']:.1f} % of groups"
        )
    return described


def describe_environment() -> dict[str, str]:
    """Say what computed the run."""
    machine = {name: str(value) for name, value in machine_provenance().items() if value}
    return {**machine, **library_versions(_LIBRARIES)}


@lru_cache
def _explorer_script() -> Markup:
    """Return the script by which rows are looked through, as it stands in the page."""
    return Markup(read_text_file(_TEMPLATES / "explorer.js"))


@lru_cache
def templates() -> Environment:
    """Return the templates of this room."""
    return page_templates(_TEMPLATES, show=showing)


def _metrics_of(models: Mapping[Any, Mapping[str, Metric]]) -> list[str]:
    return list(dict.fromkeys(name for metrics in models.values() for name in metrics))


def _digits(digest: str) -> str:
    return digest[:_DIGITS_SHOWN]


def _loss(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.4f}"
