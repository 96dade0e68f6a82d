"""Exporting a registered version: a folder that others load, proved before it stands there."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

from retune.data.chats.tokenizers import TOKENIZER_FILES
from retune.digests import list_files
from retune.errors import ConfigError
from retune.model_records import ScoredModel
from retune.modeling.head_files import read_labels
from retune.modeling.methods.adapter_folders import CONFIG, check_adapter, named_method
from retune.publishing.adapters import NOT_OF_AN_ADAPTER, FoundAdapter, find_adapter
from retune.publishing.cards import CardFacts, render_card
from retune.publishing.folders import check_target, describe_files, fresh_folder
from retune.publishing.gguf_files.exporting import check_convertible, write_gguf_export
from retune.publishing.licences import Licence, locate_base_folder, read_licence
from retune.publishing.notes import list_notes
from retune.publishing.proof import loading, prove_export
from retune.publishing.records import (
    CARD_FILE,
    EXPORT_FILE,
    MANIFEST_FILE,
    Export,
    ExportProof,
    ExportRequest,
)
from retune.publishing.shards import read_size
from retune.publishing.snapshots import copy_named, copy_snapshot
from retune.registry.records import VersionManifest
from retune.registry.versions.descriptions import VersionDescription

_ADAPTER_ONLY = "the adapter over its base"
_OWN_METHOD = "bottlenecks are retune's own: peft alone does not load this adapter"


def export_version(
    version: VersionDescription,
    manifest: VersionManifest | None,
    request: ExportRequest,
    *,
    store_root: Path,
    root: Path,
) -> Export:
    """Write a version as a folder that other programs load.

    All that can be refused is refused before a byte is written; the folder is written beside its
    place, loaded and compared there, and renamed when it is whole.

    Args:
        version: What is exported.
        manifest: What it was made of; None where none is kept.
        request: Form, place, sizes.
        store_root: The store of the run that made it, which has adapters.
        root: What a relative folder of the base starts from.

    Returns:
        What was written, and how it was proved.

    Raises:
        ConfigError: The version has no such form, or the place is taken.
        ArtifactError: Files are gone, the disk is full, or the export says something else.
    """
    check_target(request.target, force=request.force)
    read_size(request.max_shard_size)
    adapter = _check_form(version, manifest, request, store_root)
    base = (adapter.base if adapter else None) or locate_base_folder(version.base_name, root)
    licence = read_licence(base)
    with fresh_folder(request.target, force=request.force) as folder:
        gguf_file, proof = _write_model(version, request, adapter, base, folder)
        _write_beside(version, manifest, licence, folder)
        facts = CardFacts(
            form=request.form,
            license=licence.name,
            base_is_folder=(root / version.base_name).is_dir(),
            labels=_labels(version),
            has_manifest=manifest is not None,
            gguf_file=gguf_file,
        )
        (folder / CARD_FILE).write_text(render_card(version, facts), encoding="utf-8")
        notes = list_notes(version, manifest, request, licence, proof)
        if adapter is not None and _is_own_method(adapter.folder):
            notes = (*notes, _OWN_METHOD)
        export = _describe(version, request, licence, proof, notes, folder)
        text = export.model_dump_json(indent=2) + "\n"
        (folder / EXPORT_FILE).write_text(text, encoding="utf-8")
    return export


def _check_form(
    version: VersionDescription,
    manifest: VersionManifest | None,
    request: ExportRequest,
    store_root: Path,
) -> FoundAdapter | None:
    """Refuse a form that a version does not have; return the adapter that is exported."""
    located = version.located
    if request.form == "adapter":
        return find_adapter(located, store_root, manifest)
    if located.adapter is not None:
        method = named_method(located.adapter)
        raise ConfigError(
            f"{version.model_name} version {located.version}: an adapter of {method} beside its "
            "base, which adds inputs or layers that the base does not have, so that there are no "
            f"merged weights to export --as {request.form}. Export it --as adapter."
        )
    if request.form == "gguf":
        check_convertible(located, request)
    return None


def _write_model(
    version: VersionDescription,
    request: ExportRequest,
    adapter: FoundAdapter | None,
    base: Path | None,
    folder: Path,
) -> tuple[str | None, ExportProof | None]:
    """Write weights and tokenizer; return the GGUF file's name, and what proves the weights."""
    if adapter is not None:
        _write_adapter(version, adapter, folder)
        return None, _prove_adapter(version, request, adapter, base, folder)
    if request.form == "gguf":
        return write_gguf_export(version, request, folder)
    located = version.located
    copy_snapshot(located, folder, request.max_shard_size)
    if not request.prove:
        return None, None
    exported = ScoredModel(digest="export", weights=folder, tokenizer=folder)
    words = f"version {located.version}"
    return None, prove_export(located.as_scored(), loading(exported), version.prompts, words)


def _write_adapter(version: VersionDescription, adapter: FoundAdapter, folder: Path) -> None:
    for path in list_files(adapter.folder, without=NOT_OF_AN_ADAPTER):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(adapter.folder / path, folder / path)
    copy_named(version.located.tokenizer, folder, TOKENIZER_FILES)
    if version.base_name:
        settings = json.loads((folder / CONFIG).read_text("utf-8"))
        # Trained over quantized weights it may name those, which lie in one store.
        settings["base_model_name_or_path"] = version.base_name
        text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _prove_adapter(
    version: VersionDescription,
    request: ExportRequest,
    adapter: FoundAdapter,
    base: Path | None,
    folder: Path,
) -> ExportProof | None:
    if base is None:
        return None
    check_adapter(folder, base)
    if not request.prove:
        return None
    tokenizer = version.located.tokenizer
    original, exported = (
        ScoredModel(digest=str(each), weights=base, tokenizer=tokenizer, adapter=each)
        for each in (adapter.folder, folder)
    )
    return prove_export(original, loading(exported), version.prompts, _ADAPTER_ONLY)


def _write_beside(
    version: VersionDescription, manifest: VersionManifest | None, licence: Licence, folder: Path
) -> None:
    for path in licence.files:
        shutil.copyfile(path, folder / path.name)
    if manifest is not None:
        text = manifest.model_dump_json(indent=2) + "\n"
        (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


def _describe(
    version: VersionDescription,
    request: ExportRequest,
    licence: Licence,
    proof: ExportProof | None,
    notes: tuple[str, ...],
    folder: Path,
) -> Export:
    return Export(
        model_name=version.model_name,
        version=version.located.version,
        form=request.form,
        released=version.located.digest,
        base_name=version.base_name,
        license=licence.name,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=describe_files(folder),
        proof=proof,
        notes=notes,
    )


def _is_own_method(adapter: Path) -> bool:
    from retune.modeling.methods.bottleneck import PEFT_TYPE

    return named_method(adapter) == PEFT_TYPE


def _labels(version: VersionDescription) -> tuple[str, ...] | None:
    return read_labels(version.located.adapter or version.located.weights)
