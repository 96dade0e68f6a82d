"""The model registry: which version is champion, and how a released model becomes one.

A version is made, reloaded and compared first, and only then does an alias point to it: what the
alias `champion` names has always answered like the model that was scored. A version is known by the
digest of the release (tag `retune.merged_digest`), so registering the same model again makes
no second copy, and by the digest of the champion that it was compared with
(`retune.compared_with`), so that a reused run asks the question that was asked then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from retune.data.tables import read_rows
from retune.digests import digest_json
from retune.errors import ArtifactError
from retune.records import MergedRef, RegisteredRef
from retune.registry.forms import form_of
from retune.registry.saving import create_version, reload_version
from retune.registry.stages import RegisterInputs, RegisterSettings
from retune.registry.versions import (
    CHALLENGER,
    CHAMPION,
    COMPARED_TAG,
    DIGEST_TAG,
    Alias,
    alias_holder,
    as_service_error,
    find_version,
    get_version,
    has_files,
    opponent_version,
    patience,
)
from retune.spine.stage import Workdir
from retune.tracking import connect

if TYPE_CHECKING:
    from mlflow import MlflowClient


def register_model(
    inputs: RegisterInputs, settings: RegisterSettings, work: Workdir
) -> RegisteredRef:
    """Make a release a version, check that it answers the same, and move an alias to it.

    Args:
        inputs: The release, the gate's decision and held-out chats.
        settings: The registered model's name and how many rows are checked.
        work: Its scratch folder takes what is sent to, and reloaded from, a remote store; its
            context has `tracking_uri`, `artifact_root`, `experiment` and `run_id`.

    Returns:
        The version and the alias that it got.

    Raises:
        ArtifactError: The reloaded version answers a row otherwise, or the champion is no longer
            the one that the gate compared with; no alias was moved.
        ServiceError: MLflow does not answer.
    """
    name = settings.registry.model_name
    uri = work.context["tracking_uri"]
    rows = read_rows(inputs.rows.folder / "rows.parquet")[: settings.registry.check_rows]
    with as_service_error(uri), patience():
        client = connect(uri)
        expected = _released_answers(inputs.merged, rows)
        work.reporter.progress("steps", 1, 3)
        version = find_version(client, name, inputs.merged.digest) or create_version(
            client,
            name,
            inputs.merged.folder,
            prompt=rows[0]["prompt"],
            tags={DIGEST_TAG: inputs.merged.digest, "retune.base_model": inputs.base.model_id},
            context=work.context,
            scratch=work.scratch / "saved",
        )
        work.reporter.progress("steps", 2, 3)
        reloaded = reload_version(uri, name, version, inputs.merged.folder)
        equal = _count_equal(expected, form_of(inputs.merged.folder).answer(reloaded, rows))
        if equal < len(rows):
            raise _differing(name, version, equal, len(rows))
        alias = _move_alias(client, version, inputs, name)
        work.reporter.progress("steps", 3, 3)
    return RegisteredRef(
        digest=_identity(name, version, inputs.merged.digest),
        model_name=name,
        version=version,
        alias=alias,
        rows_checked=len(rows),
        answers_equal=equal,
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
        champion = alias_holder(client, record.model_name, CHAMPION)
        if (
            champion != record.version
            and alias_holder(client, record.model_name, record.alias) is None
        ):
            return f"alias {record.alias} is gone"
    return None


def _identity(name: str, version: int, merged_digest: str) -> str:
    return digest_json({"model": name, "version": version, "merged": merged_digest})


def _released_answers(merged: MergedRef, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    from retune.inference.loaded_models import SLOT

    answers = form_of(merged.folder).answer(SLOT.get(merged.as_scored()), rows)
    # The copy that is saved and the one that is reloaded need the memory.
    SLOT.clear()
    return answers


def _count_equal(expected: Sequence[str], found: Sequence[str]) -> int:
    return sum(one == other for one, other in zip(expected, found, strict=True))


def _differing(name: str, version: int, equal: int, rows: int) -> ArtifactError:
    return ArtifactError(
        f"{name} version {version}: reloaded from the registry it answers {rows - equal} of {rows} "
        "rows otherwise than the released model, expected none. No alias was moved. Delete this "
        "version in the MLflow UI and run again; if it stays so, the library versions that saved "
        "and loaded it differ."
    )


def _move_alias(client: MlflowClient, version: int, inputs: RegisterInputs, name: str) -> Alias:
    opponent = opponent_version(client, name, inputs.merged.digest)
    beaten = opponent.tags.get(DIGEST_TAG, "") if opponent else ""
    decided_against = inputs.champion.digest if inputs.champion else ""
    if inputs.decision.promote and beaten != decided_against:
        raise ArtifactError(
            f"{name}: another run changed the champion while this one was being decided, so the "
            "decision does not say whether this model is better than it. No alias was moved. Run "
            "again: only the comparison with the new champion is computed."
        )
    tags = {
        COMPARED_TAG: beaten,
        "retune.decision": inputs.decision.digest,
        "retune.promoted": json.dumps(inputs.decision.promote),
        "retune.reasons": "\n".join(inputs.decision.reasons),
    }
    for tag, text in tags.items():
        client.set_model_version_tag(name, str(version), tag, text)
    alias = CHAMPION if inputs.decision.promote else CHALLENGER
    client.set_registered_model_alias(name, alias, str(version))
    if alias == CHAMPION and alias_holder(client, name, CHALLENGER) == version:
        client.delete_registered_model_alias(name, CHALLENGER)
    if alias_holder(client, name, alias) != version:
        raise ArtifactError(
            f"{name}: alias {alias} was set to version {version} and points elsewhere: another run "
            "moved it at the same time. Run again to compare with what it put there."
        )
    return alias
