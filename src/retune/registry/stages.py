"""The stage that registers: what it is given, what it reads of the recipe, and its version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from retune.model_records import BaseRef, ChampionRef, MergedRef
from retune.modeling.libraries import ADAPTED
from retune.modeling.placement import StagePlaces
from retune.recipe.sections import RegistryConfig
from retune.records import Record, SideRef
from retune.score_records import GateDecision, ModelScores, RegisteredRef
from retune.spine.stage import Settings, Workdir, reads, stage


class RegisterInputs(Record):
    """The merged model, what the gate said of it, and rows to compare it on once registered."""

    merged: MergedRef
    decision: GateDecision
    champion: ChampionRef | None = None
    """The version that the decision compared it with."""
    rows: SideRef
    test_set: str = ""
    """Digest of what the decision rests on, where that is not `rows`."""
    base: BaseRef
    scores: ModelScores | None = None
    """The merged model's reports: what the ledger keeps of the deciding figure."""


class RegisterSettings(Settings):
    """The name it gets, how it is checked, and how whoever serves it has to ask."""

    registry: RegistryConfig
    system: Annotated[str | None, reads("prompt.system")] = None
    # No part of the key where it says nothing, as before it was read.
    user: Annotated[
        str | None, reads("prompt.user"), Field(exclude_if=lambda value: value is None)
    ] = None
    reasoning_effort: Annotated[str | None, reads("prompt.reasoning_effort")] = None


def _is_registered(record: RegisteredRef, context: Mapping[str, str]) -> str | None:
    from retune.registry.registering import is_registered

    return is_registered(record, context)


@stage(
    RegisterInputs,
    version=3,
    libraries=(*ADAPTED, "mlflow", "python-stdnum"),
    on_device=True,
    still_true=_is_registered,
)
def register_model(
    inputs: RegisterInputs, settings: RegisterSettings, work: Workdir
) -> RegisteredRef:
    """Make a release a version, check it, and move an alias to it."""
    from retune.modeling.devices import computed_on_cpu
    from retune.registry.registering import register_model

    place = StagePlaces.read(work.context).of("register_model")
    with computed_on_cpu(place.placement == "cpu"):
        return register_model(inputs, settings, work)
