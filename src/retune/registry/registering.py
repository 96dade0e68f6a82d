"""Registering a released model: made a version, reloaded, compared, and decided on.

A version is made, reloaded and compared first, and only then does an alias point to it: what the
alias `champion` names has always answered like the model that was scored. A version is known by the
digest of the release (tag `retune.merged_digest`), so registering the same model again makes
no second copy, and by the digest of the champion that it was compared with
(`retune.compared_with`), so that a reused run asks the question that was asked then.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retune.data.quality.sensitive import redact
from retune.data.tables import read_rows
from retune.digests import digest_json
from retune.errors import ArtifactError
from retune.registry.aliases.deciding import GATE, WITHDRAWN_TAG, record_decision
from retune.registry.forms.release_form import form_of
from retune.registry.ledger.ledger import say_now
from retune.registry.mlflow_calls import as_service_error, patience
from retune.registry.records import TRAINING_HOURS, LedgerEntry
from retune.registry.stages import RegisterInputs, RegisterSettings
from retune.registry.versions.files import has_files, local_folder
from retune.registry.versions.finding import (
    CHALLENGER,
    CHAMPION,
    DIGEST_TAG,
    alias_holder,
    find_version,
    get_version,
    name_digest,
)
from retune.registry.versions.proving import (
    ANSWERS_FILE,
    StoredAnswers,
    collect_answers,
    count_equal,
    read_answers,
)
from retune.registry.versions.saving import create_version, reload_version
from retune.score_records import GateDecision, ModelScores, RegisteredRef
from retune.spine.stage import Workdir
from retune.tracking import connect
from retune.whole_files import replacing

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from retune.registry.aliases.deciding import Verdict


def register_model(
    inputs: RegisterInputs, settings: RegisterSettings, work: Workdir
) -> RegisteredRef:
    """Make a release a version, check that it answers the same, and let the decision take effect.

    Args:
        inputs: The release, the gate's decision and held-out chats.
        settings: The registered model's name, how many rows are checked, and whether a person has
            to agree.
        work: Its scratch folder takes what is sent to, and reloaded from, a remote store; its
            context has `tracking_uri`, `artifact_root`, `experiment`, `run_id` and `ledgers`, and
            may have `prefect_flow_run` and `at`, the time that it is taken to be.

    Returns:
        The version, the alias that it got, and the ledger's line on it.

    Raises:
        ArtifactError: The reloaded version answers a row otherwise, the champion is no longer
            the one that the gate compared with, or the ledger does not hold; no alias was moved.
        ServiceError: MLflow does not answer.
    """
    name = settings.registry.model_name
    uri = work.context["tracking_uri"]
    with as_service_error(uri), patience():
        version, stored = _make_version(connect(uri), inputs, settings, work)
        work.reporter.progress("steps", 2, 3)
        form = form_of(inputs.merged.folder)
        reloaded = reload_version(uri, name, version, inputs.merged.folder)
        equal = count_equal(stored, form, reloaded)
        if equal < len(stored.rows):
            raise _differing(name, version, equal, len(stored.rows))
        if inputs.champion is not None:
            name_digest(connect(uri), name, inputs.champion)
    verdict = _judge(inputs.decision, settings)
    draft = _draft_line(inputs, name, version, verdict, work.context)
    line = record_decision(uri, Path(work.context["ledgers"]), draft)
    work.reporter.progress("steps", 3, 3)
    return RegisteredRef(
        digest=_identity(name, version, inputs.merged.digest),
        model_name=name,
        version=version,
        alias=CHAMPION if line.kind == "promoted" else CHALLENGER,
        rows_checked=len(stored.rows),
        answers_equal=equal,
        line=line.number,
        held_back=_say_held_back(inputs.decision, line),
    )


def is_registered(record: RegisteredRef, context: Mapping[str, str]) -> str | None:
    """Say whether a registered version still stands.

    An alias that points to another version is as it should be: a later run, or a person who rolled
    back, moved it, and computing the stage again would undo that.

    Args:
        record: What `register_model` returned.
        context: `tracking_uri`.

    Returns:
        None when it stands; else one sentence part, such as ``registered version 3 is gone``.

    Raises:
        ServiceError: MLflow does not answer.
    """
    uri = context["tracking_uri"]
    with as_service_error(uri):
        client = connect(uri)
        version = get_version(client, record.model_name, record.version)
        if version is None:
            return f"registered version {record.version} is gone"
        digest = version.tags.get(DIGEST_TAG, "")
        if _identity(record.model_name, record.version, digest) != record.digest:
            return f"registered version {record.version} holds another model"
        if not has_files(client, version):
            return f"files of registered version {record.version} are gone"
        if record.alias == CHAMPION and WITHDRAWN_TAG in version.tags:
            return f"registered version {record.version} was withdrawn"
        champion = alias_holder(client, record.model_name, CHAMPION)
        if (
            champion != record.version
            and alias_holder(client, record.model_name, record.alias) is None
        ):
            return f"alias {record.alias} is gone"
    return None


def _make_version(
    client: MlflowClient, inputs: RegisterInputs, settings: RegisterSettings, work: Workdir
) -> tuple[int, StoredAnswers]:
    """Return the version of a release, made where there is none, and what the release answers."""
    name, merged = settings.registry.model_name, inputs.merged
    rows = read_rows(inputs.rows.folder / "rows.parquet")[: settings.registry.check_rows]
    stored = _released_answers(inputs, rows, settings)
    beside = {ANSWERS_FILE: stored.model_dump_json()}
    work.reporter.progress("steps", 1, 3)
    version = find_version(client, name, merged.digest)
    if version is not None:
        _complete(client, name, version, stored)
        return version, stored
    version = create_version(
        client,
        name,
        merged.folder,
        prompt=redact(rows[0]["prompt"]),
        tags={DIGEST_TAG: merged.digest, "retune.base_model": inputs.base.model_id},
        context=work.context,
        scratch=work.scratch / "saved",
        beside=beside,
    )
    return version, stored


def _released_answers(
    inputs: RegisterInputs, rows: list[dict[str, Any]], settings: RegisterSettings
) -> StoredAnswers:
    from retune.inference.loaded_models import SLOT

    loaded = SLOT.get(inputs.merged.as_scored())
    answers = collect_answers(
        form_of(inputs.merged.folder),
        loaded,
        rows,
        system=settings.system,
        user=settings.user,
        reasoning_effort=settings.reasoning_effort,
    )
    # The copy that is saved and the one that is reloaded need the memory.
    SLOT.clear()
    return answers


def _complete(client: MlflowClient, name: str, version: int, stored: StoredAnswers) -> None:
    """Put beside a version what one of an earlier release of retune, or a lost file, lacks."""
    found = get_version(client, name, version)
    folder = local_folder(client, found) if found else None
    if folder is None:
        return
    path = folder / ANSWERS_FILE
    if not path.is_file():
        path.write_text(stored.model_dump_json(), encoding="utf-8")
    elif stored.user is not None:
        kept = read_answers(path, f"{name} version {version}")
        if kept.user is None:
            with replacing(path) as part:
                text = kept.model_copy(update={"user": stored.user}).model_dump_json()
                part.write_text(text, encoding="utf-8")


def _judge(decision: GateDecision, settings: RegisterSettings) -> Verdict:
    if not decision.promote:
        return "rejected"
    return "pending" if settings.registry.approval == "required" else "promoted"


def _draft_line(
    inputs: RegisterInputs, name: str, version: int, verdict: Verdict, context: Mapping[str, str]
) -> LedgerEntry:
    decision, champion = inputs.decision, inputs.champion
    links = {"mlflow_run": context["run_id"]}
    links |= {"prefect_flow_run": context.get("prefect_flow_run", "")}
    return LedgerEntry(
        number=0,
        at=context.get("at") or say_now(),
        kind=verdict,
        model_name=name,
        actor=GATE,
        version=version,
        challenger=inputs.merged.digest,
        opponent=champion.digest if champion else "",
        decision=decision.digest,
        test_rows=inputs.test_set or inputs.rows.digest,
        alpha=decision.alpha,
        reason="; ".join(decision.reasons),
        figures=list_figures(decision, inputs.scores) | _list_cost(context),
        links={what: where for what, where in links.items() if where},
    )


def list_figures(decision: GateDecision, scores: ModelScores | None) -> dict[str, float]:
    """Return the deciding figure of a challenger: its value, interval, and gain.

    Args:
        decision: The gate's decision.
        scores: The challenger's reports, where they are known.
    """
    name = decision.metric
    metric = scores.metrics().get(name) if scores else None
    found = {
        name: metric.value if metric else None,
        f"{name}.low": metric.low if metric else None,
        f"{name}.high": metric.high if metric else None,
        **{
            f"{name}.against_{each.against}": each.difference
            for each in decision.comparisons
            if each.metric == name
        },
    }
    return {key: value for key, value in found.items() if value is not None and isfinite(value)}


def _list_cost(context: Mapping[str, str]) -> dict[str, float]:
    """Return what the training took, where whoever registers knows it."""
    hours = context.get(TRAINING_HOURS)
    return {} if hours is None else {TRAINING_HOURS: float(hours)}


def _say_held_back(decision: GateDecision, line: LedgerEntry) -> str:
    if not decision.promote or line.kind == "promoted":
        return ""
    return "it waits for a person to approve it" if line.kind == "pending" else line.reason


def _identity(name: str, version: int, merged_digest: str) -> str:
    return digest_json({"model": name, "version": version, "merged": merged_digest})


def _differing(name: str, version: int, equal: int, rows: int) -> ArtifactError:
    return ArtifactError(
        f"{name} version {version}: reloaded from the registry it answers {rows - equal} of {rows} "
        "rows otherwise than the released model, expected none. No alias was moved. Delete this "
        "version in the MLflow UI and run again; if it stays so, the library versions that saved "
        "and loaded it differ."
    )
