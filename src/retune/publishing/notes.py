"""What an export does not have, in words: whoever gets it is not left to guess."""

from __future__ import annotations

from retune.publishing.licences import Licence
from retune.publishing.records import ExportProof, ExportRequest
from retune.registry.records import VersionManifest
from retune.registry.versions.descriptions import VersionDescription

_NOT_LOADED = {
    "adapter": "not loaded again: its base is not on this machine",
    "gguf": "not loaded again: transformers does not read GGUF files of this family",
}


def list_notes(
    version: VersionDescription,
    manifest: VersionManifest | None,
    request: ExportRequest,
    licence: Licence,
    proof: ExportProof | None,
) -> tuple[str, ...]:
    """Say what is missing of an export.

    Args:
        version: What is exported.
        manifest: What it was made of.
        request: What was asked for.
        licence: Of the base.
        proof: What the export said when it was loaded.

    Returns:
        A sentence part each.
    """
    notes = []
    if manifest is None:
        notes.append("no manifest is kept of this version: what it was made of is not said")
    if version.card is None:
        notes.append("the run's card is not in MLflow: the card has no figures")
    if not licence.name and not licence.files:
        notes.append("the base's snapshot names no licence, or is not on this machine")
    if not request.prove:
        notes.append("not loaded again: --no-proof")
    elif proof is None:
        notes.append(_NOT_LOADED[request.form])
    return tuple(notes)
