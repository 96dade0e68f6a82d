"""The model card (README.md) that goes with a released model: what it is, and what was measured."""

from __future__ import annotations

from retune.model_records import Role
from retune.records import Record
from retune.release.report import templates
from retune.score_records import Metric


class ModelCard(Record):
    """What a model card says."""

    model_name: str
    base_model: str
    """Hub id or folder of the model that was tuned."""
    method: str
    """How, in words, such as ``QLoRA (NF4), r = 16``."""
    release: str = "the adapter is merged into these weights"
    """How what was trained became this model."""
    bundled: bool = False
    """Whether an adapter lies beside the weights, which transformers alone does not load."""
    data: dict[str, str]
    """Label and text, as in the report."""
    models: dict[Role, dict[str, Metric]]
    """Figures by role; `merged` is this model."""
    scored: str = ""
    """In which form the models were scored."""
    language: str | None = None
    """Language code of the data (``pt``)."""
    license: str | None = None
    """Licence id; None when the base's is not known, which the card then says."""
    limits: tuple[str, ...] = ()
    """Known limits, a sentence each."""


def render_model_card(card: ModelCard) -> str:
    """Write a model card with the header that model hubs read.

    Args:
        card: What it says.

    Returns:
        The text of README.md.
    """
    metrics = dict.fromkeys(name for figures in card.models.values() for name in figures)
    template = templates().get_template("model_card.md.j2")
    return template.render(card=card, metrics=list(metrics))
