"""Exports: what others load says what the version says, is whole, and takes nobody's place."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from retune.digests import digest_file, digest_folder
from retune.errors import ArtifactError, ConfigError
from retune.model_records import AdapterRef
from retune.modeling.snapshots import locate_base
from retune.publishing import exporting
from retune.publishing.exporting import export_version
from retune.publishing.records import EXPORT_FILE, MANIFEST_FILE, Export, ExportRequest
from retune.registry.records import VersionManifest
from retune.registry.versions.descriptions import VersionDescription, describe_version
from retune.score_records import GateDecision
from retune.spine.stage import TABLE, StageRequest, key_parts, load_table, run_stage, stage_key
from retune.spine.store import Store
from retune.weights.stages import MergeInputs, MergeSettings
from tests.making import settings_of
from tests.retune.registry.forms.test_bundles import BundleBench
from tests.retune.weights.test_bundle import FIGURES

Describe = Callable[[str], VersionDescription]
PROMPT = "Quantos clientes em Faro?"


def export(
    version: VersionDescription,
    target: Path,
    root: Path,
    manifest: VersionManifest | None = None,
    **request: Any,
) -> Export:
    """Export with a folder as store and root."""
    wanted = ExportRequest(target=target, **{"form": "merged", **request})
    return export_version(version, manifest, wanted, store_root=root, root=root)


def make_manifest(version: VersionDescription, **changed: Any) -> VersionManifest:
    fields: dict[str, Any] = {
        "model_name": version.model_name,
        "version": version.located.version,
        "made_at": "2026-11-26T12:00:00+00:00",
        "released": version.located.digest,
        "base": "base",
        "base_name": version.base_name,
        "recipe": {"name": "demo"},
        "recipe_file": "demo.yaml",
        "sources": {},
        "sides": {},
        "rows_digest": "rows",
        "template": "template",
        "seeds": {"training": 1},
        "libraries": {},
        "lock_digest": None,
        "commit": None,
        "machine": {},
        "stages": {},
        "digests": {},
        "decision": GateDecision(digest="d", promote=True, reasons=("because",), comparisons=()),
    }
    return VersionManifest(**fields | changed)


def test_a_merged_export_is_a_plain_snapshot_with_the_same_weights(
    describe: Describe, target: Path, tmp_path: Path
) -> None:
    """Byte for byte those of the version; its record names every file with its digest."""
    version = describe("merged")

    found = export(version, target, tmp_path)

    ours = load_file(target / "model.safetensors")
    theirs = load_file(version.located.weights / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    AutoModelForCausalLM.from_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(target)
    assert tokenizer.decode(tokenizer(PROMPT)["input_ids"]) == PROMPT
    assert found.proof is not None
    assert found.proof.answers_equal == found.proof.prompts == 8
    names = {path.name for path in target.iterdir()}
    assert names == {*found.files, EXPORT_FILE}
    assert all(digest_file(target / name) == file.sha256 for name, file in found.files.items())
    assert [path.name for path in target.parent.glob(".*")] == []


def test_prompts_kept_with_the_version_are_asked(describe: Describe) -> None:
    """MLflow keeps one beside the weights, whatever the form; it is asked first."""
    assert describe("merged").prompts == (PROMPT,)
    assert describe("bundled").prompts == (PROMPT,)


def test_weights_are_parted_by_size(describe: Describe, target: Path, tmp_path: Path) -> None:
    """No file is larger than asked for, but one that holds a single weight."""
    export(describe("merged"), target, tmp_path, max_shard_size="20KB", prove=False)

    files = sorted(target.glob("*.safetensors"))
    index = json.loads((target / "model.safetensors.index.json").read_text("utf-8"))
    assert len(files) > 1
    assert {*index["weight_map"].values()} == {path.name for path in files}
    for path in files:
        size = sum(each.nbytes for each in load_file(path).values())
        assert size <= 20_000 or len(load_file(path)) == 1
    whole = AutoModelForCausalLM.from_pretrained(target).state_dict()
    version = AutoModelForCausalLM.from_pretrained(describe("merged").located.weights).state_dict()
    assert all(torch.equal(whole[name], version[name]) for name in version)


def test_a_bundle_is_exported_as_its_adapter_and_not_as_merged(
    describe: Describe, target: Path, tmp_path: Path
) -> None:
    """The adapter's bytes and the base's name; there are no weights with it in them."""
    version = describe("bundled")
    assert version.located.adapter is not None

    found = export(version, target, tmp_path, form="adapter")

    name = "adapter_model.safetensors"
    assert digest_file(target / name) == digest_file(version.located.adapter / name)
    settings = json.loads((target / "adapter_config.json").read_text("utf-8"))
    assert settings["base_model_name_or_path"] == "tiny"
    assert not (target / "config.json").exists()
    assert found.proof is not None and found.proof.answers_equal == found.proof.prompts
    with pytest.raises(ConfigError, match=r"PREFIX_TUNING.*Export it --as adapter"):
        export(version, target.with_name("other"), tmp_path)
    assert not target.with_name("other").exists()


@pytest.fixture
def merged_of(bench: BundleBench, tmp_path: Path) -> AdapterRef:
    """Merge an adapter as a run does, register what came of it, and return the adapter."""
    base = locate_base(str(bench.merged(2).folder), None)
    folder = tmp_path / "train_adapter" / "key"
    torch.manual_seed(0)
    config = LoraConfig(
        r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    plain = AutoModelForCausalLM.from_pretrained(base.folder)
    get_peft_model(plain, config).save_pretrained(folder)
    (folder / "log").mkdir()
    (folder / "manifest.json").write_text("{}")
    digest = digest_folder(folder, without=("log", "README.md", "manifest.json"))
    adapter = AdapterRef(digest=digest, folder=folder, kind="lora", **FIGURES)
    inputs = MergeInputs(adapter=adapter, base=base, rows=bench.rows, template=None)
    settings = settings_of(MergeSettings, merge={"check_rows": 2, "dtype": "float32"})
    stage = load_table(TABLE)["merge_adapter"]
    request = StageRequest(
        stage="merge_adapter",
        key=stage_key(key_parts(stage, inputs, settings)),
        inputs=inputs.model_dump(mode="json"),
        settings=settings.model_dump(mode="json"),
        store=tmp_path,
    )
    merged = run_stage(stage, request)
    wanted = bench.inputs(tmp_path.name, 2)
    bench.register_inputs(tmp_path.name, wanted.model_copy(update={"merged": merged, "base": base}))
    return adapter


def test_the_adapter_of_a_merged_version_is_found_in_the_store(
    bench: BundleBench, merged_of: AdapterRef, target: Path, tmp_path: Path
) -> None:
    """By the digest of what the merge made; over its base it says what the version says.

    It was merged in float32, so that nothing was rounded. peft loads it by the base's name in it.
    """
    version = describe_version(bench.uri, tmp_path.name, "champion")

    found = export(version, target, tmp_path, form="adapter")

    name = "adapter_model.safetensors"
    assert digest_file(target / name) == digest_file(merged_of.folder / name)
    assert not (target / "log").exists() and not (target / "manifest.json").exists()
    assert found.proof is not None and found.proof.answers_equal == found.proof.prompts
    adapted = AutoPeftModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    ids = torch.tensor([[5, 80, 17, 42, 99]])
    merged = AutoModelForCausalLM.from_pretrained(version.located.weights, dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(adapted(ids).logits, merged(ids).logits, atol=1e-2)
    (merged_of.folder / name).write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"or was changed there.*--as merged"):
        export(version, target.with_name("changed"), tmp_path, form="adapter")


def test_a_manifest_says_which_stage_trained_the_adapter(
    bench: BundleBench, merged_of: AdapterRef, target: Path, tmp_path: Path
) -> None:
    """Also where the merge is no longer in the store."""
    store = Store(tmp_path)
    work = store.open_work("train_preferences", "k") / "artifact"
    shutil.copytree(
        merged_of.folder, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("manifest.json")
    )
    store.seal("train_preferences", "k", merged_of, key_parts={}, provenance={})
    for folder in ("merge_adapter", "train_adapter", "requests"):
        shutil.rmtree(tmp_path / folder)
    version = describe_version(bench.uri, tmp_path.name, "champion")
    with pytest.raises(ArtifactError, match="not in this store"):
        export(version, target, tmp_path, form="adapter")
    manifest = make_manifest(
        version, stages={"train_preferences": "k"}, adapter_stage="train_preferences"
    )

    export(version, target, tmp_path, manifest, form="adapter")

    assert (target / "adapter_model.safetensors").is_file()


def test_a_taken_folder_is_left_as_it_is(describe: Describe, target: Path, tmp_path: Path) -> None:
    """Only an earlier export is replaced, when that is asked for, and nobody's own files."""
    version = describe("merged")
    export(version, target, tmp_path, prove=False)
    with pytest.raises(ConfigError, match="--force"):
        export(version, target, tmp_path, prove=False)
    export(version, target, tmp_path, prove=False, force=True, max_shard_size="20KB")
    assert not (target / "model.safetensors").exists()

    (target / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"no export wrote \(thesis.txt\)"):
        export(version, target, tmp_path, prove=False, force=True)
    assert (target / "thesis.txt").read_text() == "mine"


def test_an_export_that_says_something_else_is_not_there(
    describe: Describe, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that were lost on the way are found when it is loaded, and nothing half stays."""
    copy = exporting.copy_snapshot

    def lose(version: Any, folder: Path, *rest: Any) -> None:
        copy(version, folder, *rest)
        other = AutoModelForCausalLM.from_pretrained(folder)
        torch.nn.init.normal_(other.lm_head.weight)
        other.save_pretrained(folder)

    monkeypatch.setattr(exporting, "copy_snapshot", lose)
    with pytest.raises(ArtifactError, match="prompts otherwise than version 1"):
        export(describe("merged"), target, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_card_licence_and_manifest_go_along(
    describe: Describe, target: Path, tmp_path: Path
) -> None:
    """The run's figures stay, and what is true of the export is put in their place."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# a base\n")
    (base / "LICENSE").write_text("terms")
    card = (
        "---\nbase_model: base\nlanguage: pt\nlibrary_name: transformers\ntags:\n- retune\n---\n"
        "# name\n\n## Figures\n\n| Perplexity | 7.11 [6.9, 7.3] |\n\n"
        "## How to load\n\nas before\n\n"
        "## Limits\n\n- The licence of the base model applies; it was not recorded here.\n"
    )
    version = describe("merged").model_copy(update={"card": card, "base_name": "base"})

    found = export(version, target, tmp_path, make_manifest(version), prove=False)

    text = (target / "README.md").read_text("utf-8")
    assert "7.11 [6.9, 7.3]" in text and "language: pt" in text and "license: apache-2.0" in text
    assert "as before" not in text and "not recorded here" not in text
    # The hub refuses the name of a folder as base.
    assert "base_model" not in text.split("---")[1]
    assert (target / "LICENSE").read_text() == "terms"
    assert json.loads((target / MANIFEST_FILE).read_text())["seeds"] == {"training": 1}
    assert found.license == "apache-2.0"
    assert found.notes == ("not loaded again: --no-proof",)


def test_what_is_missing_is_said(describe: Describe, target: Path, tmp_path: Path) -> None:
    """No manifest, no card, no licence: named, in the record and not only on a screen."""
    found = export(describe("merged"), target, tmp_path, prove=False)

    assert len(found.notes) == 4
    assert "its figures are not known here" in (target / "README.md").read_text("utf-8")
    assert Export.model_validate_json((target / EXPORT_FILE).read_text()) == found


@pytest.mark.parametrize("size", ["2", "2gb", "0GB", "1.5GB"])
def test_a_size_that_is_none_is_refused(
    describe: Describe, target: Path, tmp_path: Path, size: str
) -> None:
    """Before anything is written."""
    with pytest.raises(ConfigError, match="such as 2GB"):
        export(describe("merged"), target, tmp_path, max_shard_size=size)
    assert not target.exists()


def test_a_full_disk_is_told_and_leaves_nothing(
    describe: Describe, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written until then goes, and an earlier export stays as it was."""
    export(describe("merged"), target, tmp_path, prove=False)
    before = (target / EXPORT_FILE).read_bytes()

    def fill(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(exporting, "copy_snapshot", fill)
    with pytest.raises(ArtifactError, match="no disk space left"):
        export(describe("merged"), target, tmp_path, prove=False, force=True)
    assert (target / EXPORT_FILE).read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]
