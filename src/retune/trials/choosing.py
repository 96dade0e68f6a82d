"""What trials are chosen by: validation rows, so that what the gate decides on stays fresh.

The gate promises how often it errs on its test rows, and the best of ten trials on these rows is
the luckiest of ten: it would bring that luck to the gate as one decision. So no trial is scored on
them, nor on cases of probes where those decide.
"""

from __future__ import annotations

from retune.errors import DataError
from retune.recipe.sections import GateConfig
from retune.records import ChatRef, Side
from retune.scoring.figures import figure_of

CHOSEN_ON: Side = "validation"
"""The rows that trials are scored on."""


def choosing_gate(gate: GateConfig) -> GateConfig:
    """Return the gate's settings with the figure that trials are chosen by.

    Args:
        gate: Its metric may be over rows, of which there are others to choose on, or over cases of
            probes, of which there are none, or of two models' answers beside each other: then rows
            choose the figure.
    """
    named = figure_of(gate.metric) if gate.metric is not None else None
    unfit = named is not None and (named.over == "cases" or named.of_pairs)
    return gate.model_copy(update={"metric": None}) if unfit else gate


def refuse_no_validation(chat: ChatRef) -> None:
    """Refuse rows of which none is for validation: on the test rows nothing may be chosen.

    Args:
        chat: The rows by side.

    Raises:
        DataError: There is none.
    """
    if not chat.validation:
        raise DataError(
            f"found {chat.train:,} training rows, {chat.test:,} test rows and none for validation. "
            "Trials are chosen on validation rows, so that the test rows stay fresh for the gate. "
            "Give them a share: split.validation_fraction."
        )
