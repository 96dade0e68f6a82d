"""Tasks that let an engine elsewhere write a model's answers in place of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from retune.errors import ConfigError, ServiceError
from retune.inference.elsewhere import AT_A_TIME, engine_error
from retune.inference.remote_engine import EngineAway
from retune.model_records import EngineRef
from retune.resolving import EvaluatedModel
from retune.serving.connecting import Linked, connect
from retune.serving.finding import ModelSource
from retune.serving.messages import RemoteSettings, ServedModel
from retune.serving.proof import Unproved, prove_answers, prove_prompts
from tasks.runs.run import RecipeRun


def move_to_engine(
    run: RecipeRun,
    texts: Sequence[str],
    models: Sequence[EvaluatedModel],
    remote: RemoteSettings,
) -> list[EvaluatedModel]:
    """Let an engine answer for models, once it is proved that it has them.

    Args:
        run: The current run.
        texts: The models as a person named them.
        models: What was found under these names, in their order.
        remote: Where the engine is, and what it calls the model.

    Returns:
        The models as the engine answers for them.

    Raises:
        ConfigError: A model has a head; or one name at the engine is to stand for several models.
        ServiceError: The engine cannot be asked, or answers stored prompts of a version otherwise
            than when that was registered; or an alias moved meanwhile.
    """
    if remote.model is not None and len(models) > 1:
        raise ConfigError(
            f"--engine-model {remote.model}: it names one model of the engine, and {len(models)} "
            "are to be evaluated. Leave it out, and serve each under its own name."
        )
    return [
        _move(run, _find_served(run, text), model, remote)
        for text, model in zip(texts, models, strict=True)
    ]


def _find_served(run: RecipeRun, text: str) -> ServedModel:
    uri = run.context["tracking_uri"]
    return ModelSource(text, uri, run.store.root / "champions", run.loaded).find()


def _move(
    run: RecipeRun, served: ServedModel, model: EvaluatedModel, remote: RemoteSettings
) -> EvaluatedModel:
    name = served.name_at_engine(remote)
    if served.scored.digest != model.scored.digest:
        raise ServiceError(
            f"{model.name}: is {served.address} now, and was another model a moment ago: its alias "
            "has moved, or its files have changed. Run again."
        )
    try:
        linked = connect(served, remote, AT_A_TIME)
        try:
            proved = _prove(linked, served)
            software = linked.engine.read_software()
        finally:
            linked.engine.close()
    except EngineAway as error:
        raise engine_error(remote.address, error) from error
    run.watcher.note(
        f"{model.name}: the engine answers {proved} stored prompts of it as registered."
        if proved
        else f"{model.name}: nothing proves that the engine's {name} is this model; a registered "
        "version has prompts that would."
    )
    engine = EngineRef(address=remote.address, model=name, software=software)
    return replace(model, name=f"{model.name} at engine", scored=model.scored.asked_at(engine))


def _prove(linked: Linked, served: ServedModel) -> int:
    if served.answers is None:
        return 0
    try:
        prove_prompts(linked, served.answers)
        return prove_answers(linked.engine, linked, served.answers)
    except Unproved as error:
        raise EngineAway(linked.engine.away or error.what, str(error)) from error
