"""A manifest is written once per run, and counts only while it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retune.data.parts.row_history import digest_row_history
from retune.data.schemas import HISTORY_SCHEMA
from retune.data.tables import write_table
from retune.errors import ArtifactError
from retune.registry.records import VersionManifest
from retune.registry.versions.manifests import (
    manifest_path,
    read_manifest,
    rows_path,
    write_manifest,
)
from retune.score_records import GateDecision
from retune.tracking import default_uri


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "given.parquet"
    row = {"side": "test", "row_id": "r", "content": "0" * 16, "group": "1" * 16}
    write_table(path, [row], HISTORY_SCHEMA)
    return path


def manifest_of(rows: Path, **changes: Any) -> VersionManifest:
    values: dict[str, Any] = {
        "model_name": "small",
        "version": 2,
        "made_at": "2026-01-01T00:00:00Z",
        "released": "r",
        "base": "b",
        "base_name": "model",
        "recipe": {"seed": 7},
        "recipe_file": "recipe.yaml",
        "sources": {},
        "sides": {},
        "rows_digest": digest_row_history(rows)[0],
        "template": "t",
        "seeds": {"seed": 7},
        "libraries": {},
        "lock_digest": None,
        "commit": None,
        "machine": {},
        "stages": {"train_adapter": "k"},
        "digests": {"train_adapter": "d"},
        "decision": GateDecision(digest="d", promote=True, reasons=(), comparisons=()),
        **changes,
    }
    return VersionManifest(**values)


def test_a_repeated_run_leaves_the_manifest_as_it_is(tmp_path: Path, rows: Path) -> None:
    """Another time, commit or machine is no other version; another decision is written."""
    folder = tmp_path / "manifests"
    assert write_manifest(manifest_of(rows), rows, folder)
    first = manifest_path(folder, "small", 2).read_bytes()
    again = manifest_of(rows, made_at="2027-01-01T00:00:00Z", commit="c", machine={"cpus": "9"})
    assert not write_manifest(again, rows, folder)
    assert manifest_path(folder, "small", 2).read_bytes() == first
    other = GateDecision(digest="other", promote=False, reasons=(), comparisons=())
    assert write_manifest(manifest_of(rows, decision=other), rows, folder)


@pytest.mark.parametrize("lost", ["manifest", "rows"])
def test_a_damaged_manifest_is_written_anew(tmp_path: Path, rows: Path, lost: str) -> None:
    """Cut short, or without the rows that its digest is of, it does not count as there."""
    folder = tmp_path / "manifests"
    write_manifest(manifest_of(rows), rows, folder)
    path = manifest_path(folder, "small", 2)
    if lost == "manifest":
        path.write_text(path.read_text("utf-8")[:-20], "utf-8")
    else:
        write_table(rows_path(folder, "small", 2), [], HISTORY_SCHEMA)
    assert write_manifest(manifest_of(rows), rows, folder)
    assert digest_row_history(rows_path(folder, "small", 2)) == digest_row_history(rows)
    assert not write_manifest(manifest_of(rows), rows, folder)


def test_a_manifest_without_a_version_is_refused(tmp_path: Path, rows: Path) -> None:
    """There would be nothing to find it by."""
    with pytest.raises(ArtifactError, match="without a version"):
        write_manifest(manifest_of(rows, version=None), rows, tmp_path)


def test_without_a_registry_no_manifest_counts(tmp_path: Path, rows: Path) -> None:
    """A local file alone is no version; and asking makes no database."""
    write_manifest(manifest_of(rows), rows, tmp_path / "manifests")
    assert read_manifest(default_uri(tmp_path), "small", 2, tmp_path / "manifests") is None
    assert not (tmp_path / "mlflow").exists()
