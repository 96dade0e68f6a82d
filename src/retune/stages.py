"""All stages of a recipe in one table; each is declared in the `stages.py` of its room."""

from __future__ import annotations

from retune.data import stages as data
from retune.gate import stages as gate
from retune.model_records import AdapterRef
from retune.preflight import stages as preflight
from retune.registry import stages as registry
from retune.retraining import stages as retraining
from retune.scoring import stages as scoring
from retune.scoring.judge import stages as judge
from retune.spine.stage import declared_in
from retune.training import stages as training
from retune.weights import stages as weights

STAGES = declared_in(data, preflight, weights, training, scoring, judge, gate, registry, retraining)

TRAINING_STAGES = frozenset(name for name, each in STAGES.items() if each.output is AdapterRef)
"""Stages whose curves a run of their own in MLflow shows."""
