"""What of a store a registry refers to: each version's stages, and what its ledger was about."""

from __future__ import annotations

from pathlib import Path

import pytest

from retune.data.parts.row_history import digest_row_history
from retune.data.schemas import HISTORY_SCHEMA
from retune.data.tables import write_table
from retune.errors import ArtifactError, ConfigError
from retune.registry.ledger.ledger import LEDGERS, Ledger, say_now
from retune.registry.records import LedgerEntry, LedgerKind, VersionManifest
from retune.registry.references import find_references, list_models
from retune.registry.versions.finding import DIGEST_TAG
from retune.registry.versions.manifests import MANIFESTS, write_manifest
from retune.score_records import GateDecision
from retune.tracking import connect, default_uri
from tests.serving import copy_tracking_database


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with an empty registry."""
    copy_tracking_database(tmp_path)
    return tmp_path


def manifest(root: Path, version: int) -> None:
    """Write the manifest of a version that a stage of its own and a shared one made."""
    rows = root / "given.parquet"
    write_table(
        rows,
        [{"side": "test", "row_id": "r", "content": "0" * 16, "group": "1" * 16}],
        HISTORY_SCHEMA,
    )
    made = VersionManifest(
        model_name="small",
        version=version,
        made_at="2026-01-01T00:00:00Z",
        released=f"model{version}",
        base="b",
        base_name="model",
        recipe={},
        recipe_file="recipe.yaml",
        sources={},
        sides={},
        rows_digest=digest_row_history(rows)[0],
        template="t",
        seeds={},
        libraries={},
        lock_digest=None,
        commit=None,
        machine={},
        stages={"load_rows (train)": "shared", "train_adapter": f"key{version}"},
        digests={},
        decision=GateDecision(digest="d", promote=True, reasons=(), comparisons=()),
    )
    write_manifest(made, rows, root / MANIFESTS)


def register(root: Path, version: int, kind: LedgerKind, champion: int | None) -> None:
    """Make a version with its manifest and its line."""
    client = connect(default_uri(root))
    if version == 1:
        client.create_registered_model("small")
    client.create_model_version("small", str(root), tags={DIGEST_TAG: f"model{version}"})
    manifest(root, version)
    Ledger(default_uri(root), "small", root / LEDGERS).append(
        LedgerEntry(
            number=0,
            at=say_now(),
            kind=kind,
            model_name="small",
            actor="gate",
            version=version,
            to_version=champion,
            challenger=f"model{version}",
            decision=f"decision{version}",
            reason="because",
        )
    )


@pytest.fixture
def year(root: Path) -> Path:
    """Champion 3, before it 1; 2 and 4 were rejected, and 5 waits for a person."""
    register(root, 1, "promoted", 1)
    register(root, 2, "rejected", 1)
    register(root, 3, "promoted", 3)
    register(root, 4, "rejected", 3)
    register(root, 5, "pending", 3)
    client = connect(default_uri(root))
    client.set_registered_model_alias("small", "champion", "3")
    client.set_registered_model_alias("small", "challenger", "4")
    return root


def test_each_version_keeps_its_stages_with_the_first_of_its_names(year: Path) -> None:
    """What several versions were made by is the champion's; a decision is history."""
    found = find_references(default_uri(year), ["small"], year)
    assert found.keys == {
        "shared": "champion of small",
        "key3": "champion of small",
        "key4": "challenger of small",
        "key1": "version of small",
        "key5": "version of small",
        "key2": "rejected version of small",
    }
    assert found.digests["model3"] == "champion of small"
    assert {found.digests[f"decision{number}"] for number in range(1, 6)} == {"history of small"}
    assert "" not in found.digests


def test_without_rejected_ones_all_others_stay(year: Path) -> None:
    """A version with an alias, one that was champion, and one that waits for a person do."""
    found = find_references(default_uri(year), ["small"], year, with_rejected=False)
    assert sorted(found.keys) == ["key1", "key3", "key4", "key5", "shared"]
    assert "model2" not in found.digests
    # That a server let it go says nothing else.
    register(year, 2, "let_go", 3)
    again = find_references(default_uri(year), ["small"], year, with_rejected=False)
    assert again.keys == found.keys
    assert "decision2" in found.digests


def test_a_version_that_was_deleted_in_mlflow_keeps_its_history_alone(year: Path) -> None:
    """Its model is named by the ledger; its other stages are not needed any more."""
    connect(default_uri(year)).delete_model_version("small", "2")
    found = find_references(default_uri(year), ["small"], year)
    assert "key2" not in found.keys
    assert found.digests["model2"] == "history of small"


def test_a_registry_without_the_model_keeps_all_that_the_store_knows_of(root: Path) -> None:
    """It may be another registry than the one that the versions stand in."""
    manifest(root, 7)
    found = find_references(default_uri(root), list_models(root), root)
    assert found.keys["key7"] == "manifest of small, which MLflow does not have"


def test_an_mlflow_that_is_not_there_is_refused_where_there_are_versions(tmp_path: Path) -> None:
    """A store without any has no need of one."""
    uri = default_uri(tmp_path / "elsewhere")
    assert find_references(uri, ["small"], tmp_path).keys == {}
    manifest(tmp_path, 1)
    with pytest.raises(ConfigError, match=r"no MLflow database at .* cannot be known"):
        find_references(uri, ["small"], tmp_path)


def test_a_ledger_that_does_not_hold_is_an_error(year: Path) -> None:
    """What it refers to is not known then, and nothing may be removed."""
    path = year / LEDGERS / "small.jsonl"
    path.write_text(path.read_text("utf-8").replace("because", "becaus3", 1), "utf-8")
    with pytest.raises(ArtifactError, match="line 1"):
        find_references(default_uri(year), ["small"], year)
