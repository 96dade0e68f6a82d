"""The stage that registers: what it is given, what it reads of the recipe, and its version."""

from __future__ import annotations

from collections.abc import Mapping

from retune.modeling.libraries import ADAPTED
from retune.recipe.sections import RegistryConfig
from retune.records import (
    BaseRef,
    ChampionRef,
    GateDecision,
    MergedRef,
    Record,
    RegisteredRef,
    SideRef,
)
from retune.spine.stage import Settings, Workdir, stage


class RegisterInputs(Record):
    """The merged model, what the gate said of it, and rows to compare it on once registered."""

    merged: MergedRef
    decision: GateDecision
    champion: ChampionRef | None = None
    """The version that the decision compared it with."""
    rows: SideRef
    base: BaseRef


class RegisterSettings(Settings):
    """The name it gets, and how it is checked."""

    registry: RegistryConfig


def _is_registered(record: RegisteredRef, context: Mapping[str, str]) -> str | None:
    from retune.registry.registering import is_registered

    return is_registered(record, context)


@stage(
    RegisterInputs,
    version=1,
    libraries=(*ADAPTED, "mlflow"),
    on_device=True,
    still_true=_is_registered,
)
def register_model(
    inputs: RegisterInputs, settings: RegisterSettings, work: Workdir
) -> RegisteredRef:
    """Make a release a version, check it, and move an alias to it."""
    from retune.registry.registering import register_model

    return register_model(inputs, settings, work)
