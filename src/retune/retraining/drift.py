"""The trigger `drift`: requests that differ from the training rows by more than chance.

It fires where an index is at least `stability_index` and above what chance gives as well, or where
the champion is more surprised by the requests than chance gives and its losses prompt by prompt
differ just so. Either alone is no reason: an index of few requests is large by chance, and one of
many is shown to be other than 0 however small it is.
"""

from __future__ import annotations

from retune.recipe.sections.retrain import DriftConfig
from retune.retraining.drift_records import DriftIndex, DriftReport, PromptLosses, RequestsRef
from retune.retraining.findings import TriggerFinding

NAME = "drift"


def judge_no_requests(config: DriftConfig) -> TriggerFinding:
    """Answer where nothing was served yet.

    Args:
        config: Names the log.
    """
    reason = f"no requests yet: nothing is logged in {config.log.as_posix()}"
    return TriggerFinding(trigger=NAME, fires=False, reason=reason, figures={"requests": 0.0})


def judge_too_few(config: DriftConfig, requests: RequestsRef, written: int) -> TriggerFinding:
    """Answer where there are fewer requests than anything is concluded from.

    Args:
        config: The fewest.
        requests: The requests.
        written: How many of them can be compared.
    """
    unwritten = requests.rows - written
    told = f", and {unwritten:,} more that the chat template cannot write" if unwritten else ""
    reason = (
        f"{written:,} requests in {config.log.as_posix()}{told}, fewer than min_rows "
        f"{config.min_rows:,}{_tell_bad(requests)}"
    )
    figures = {"requests": float(written), "bad_lines": float(requests.bad_lines)}
    return TriggerFinding(trigger=NAME, fires=False, reason=reason, figures=figures)


def judge_drift(
    config: DriftConfig,
    requests: RequestsRef,
    report: DriftReport,
    losses: PromptLosses | None = None,
) -> TriggerFinding:
    """Answer the trigger `drift`.

    Args:
        config: From which index on something counts as drifted.
        requests: What was read of the log.
        report: Lengths, tokens and classes compared.
        losses: The champion's losses compared; None where they were not measured.

    Returns:
        Whether it fires, and why. Figures: per index its value and, behind a dot, `chance`.
    """
    if not report.indices:
        return judge_too_few(config, requests, report.requests)
    drifted = [each for each in report.indices if has_drifted(each, config.stability_index)]
    reasons = [tell_index(each) for each in drifted]
    if losses is not None and is_surprised(losses, config.stability_index):
        reasons.append(_tell_losses(losses))
    reason = "; ".join(reasons) or _tell_calm(config, report, losses)
    return TriggerFinding(
        trigger=NAME,
        fires=bool(reasons),
        reason=reason + _tell_bad(requests),
        figures=_figures(requests, report, losses),
    )


def has_drifted(index: DriftIndex, least: float) -> bool:
    """Say whether an index is large enough to matter, and larger than chance gives.

    Args:
        index: The index.
        least: From which value on it matters.
    """
    return index.value >= least and index.value > index.chance


def is_surprised(losses: PromptLosses, least: float) -> bool:
    """Say whether a model is more surprised by requests, by more than chance and enough to matter.

    Args:
        losses: Compared.
        least: From which index on their difference prompt by prompt matters.
    """
    rise = losses.requests_loss - losses.rows_loss
    return rise > losses.chance and has_drifted(losses.index, least)


def tell_index(index: DriftIndex) -> str:
    """Return an index in words, with what chance gives."""
    return (
        f"{index.label}: PSI {index.value:.2f}, chance gives up to {index.chance:.2f} for "
        f"{index.requests:,} requests"
    )


def _tell_losses(losses: PromptLosses) -> str:
    return (
        f"the champion's loss on prompts: {losses.requests_loss:.2f} nats per token, "
        f"{losses.rows_loss:.2f} on those that it knows, chance gives up to {losses.chance:.2f} "
        f"more for {losses.requests:,} requests; {tell_index(losses.index)}"
    )


def _tell_calm(config: DriftConfig, report: DriftReport, losses: PromptLosses | None) -> str:
    indices = [*report.indices, *([losses.index] if losses else [])]
    # Nearest to firing: above both is what fires.
    nearest = max(indices, key=lambda each: min(each.value / config.stability_index, _over(each)))
    return (
        f"{report.requests:,} requests are like the training rows: {tell_index(nearest)}, and "
        f"{config.stability_index:g} counts as drifted"
    )


def _over(index: DriftIndex) -> float:
    return index.value / index.chance if index.chance else 1.0


def _tell_bad(requests: RequestsRef) -> str:
    if not requests.bad_lines:
        return ""
    of = requests.rows + requests.bad_lines
    return f" ({requests.bad_lines:,} of {of:,} lines of the log cannot be read)"


def _figures(
    requests: RequestsRef, report: DriftReport, losses: PromptLosses | None
) -> dict[str, float]:
    figures = {"requests": float(report.requests), "bad_lines": float(requests.bad_lines)}
    for each in (*report.indices, *([losses.index] if losses else [])):
        figures |= {each.name: each.value, f"{each.name}.chance": each.chance}
    if losses is not None:
        figures["prompt_loss_rise"] = losses.requests_loss - losses.rows_loss
        figures["prompt_loss_rise.chance"] = losses.chance
    return figures
