"""A version proves that it is the registered model, shares its bytes, and loads anywhere."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow.models import Model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_utils

from retune.digests import digest_folder
from retune.errors import ArtifactError, ConfigError
from retune.registry.forms.release_form import form_of
from retune.registry.versions.finding import find_opponent
from retune.registry.versions.proving import ANSWERS_FILE, prove_version
from tests.retune.registry.test_registering import ROWS, Bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def registered(bench: Bench) -> Path:
    """Return the folder of a version, whose model is called `proved`."""
    bench.register("proved", 1)
    champion = find_opponent(bench.uri, "proved", "another")
    assert champion is not None
    return champion.weights.parent


@pytest.fixture
def folder(registered: Path, tmp_path: Path) -> Iterator[Path]:
    """Return the version's folder, put back as it was after the test."""
    kept = tmp_path / "kept"
    shutil.copytree(registered, kept)
    yield registered
    shutil.rmtree(registered)
    shutil.copytree(kept, registered)


def test_a_version_answers_its_stored_prompts(bench: Bench, folder: Path) -> None:
    assert prove_version(bench.uri, "proved", 1) == ROWS

    stored = json.loads((folder / ANSWERS_FILE).read_text())
    assert stored["made_on"] == "cpu float32"
    assert [len(row["answer"]) for row in stored["rows"]] == [12] * ROWS


def test_one_changed_token_is_told(bench: Bench, folder: Path) -> None:
    stored = json.loads((folder / ANSWERS_FILE).read_text())
    stored["rows"][2]["answer"][-1] += 1
    (folder / ANSWERS_FILE).write_text(json.dumps(stored))

    with pytest.raises(ArtifactError, match=f"answers 1 of {ROWS} stored prompts otherwise"):
        prove_version(bench.uri, "proved", 1)


def test_other_weights_are_told(bench: Bench, folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"] = weights["lm_head.weight"].flip(0).contiguous()
    save_file(weights, f"{path}.new", metadata={"format": "pt"})
    os.replace(f"{path}.new", path)

    with pytest.raises(ArtifactError, match="stored prompts otherwise"):
        prove_version(bench.uri, "proved", 1)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (ANSWERS_FILE, "without stored answers nothing proves"),
        ("model/config.json", "its files in .* are gone"),
        ("model/model.safetensors", "does not load"),
    ],
)
def test_what_is_gone_is_told(bench: Bench, folder: Path, file: str, expected: str) -> None:
    (folder / file).unlink()

    with pytest.raises(ArtifactError, match=expected):
        prove_version(bench.uri, "proved", 1)


def test_a_version_that_is_not_there_is_told(bench: Bench, registered: Path) -> None:
    with pytest.raises(ConfigError, match="no version 7"):
        prove_version(bench.uri, "proved", 7)


def test_saving_a_version_loads_no_weights(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are linked; of the model MLflow notes what its settings say, its dtype among them."""
    merged = bench.merged(3)
    monkeypatch.setattr(modeling_utils, "safe_open", None)
    with pytest.raises(TypeError):
        AutoModelForCausalLM.from_pretrained(merged.folder)

    target = merged.folder.parent / "saved"
    form_of(merged.folder).save(merged.folder, target, Model(), "a prompt")
    assert (target / "model" / "model.safetensors").samefile(merged.folder / "model.safetensors")
    [dtype] = {each.dtype for each in load_file(merged.folder / "model.safetensors").values()}
    assert Model.load(target).flavors["transformers"]["torch_dtype"] == str(dtype)


def test_weights_lie_on_the_disk_once_and_neither_place_needs_the_other(bench: Bench) -> None:
    merged = bench.merged(2)
    before = digest_folder(merged.folder)
    bench.register("linked", 2)
    champion = find_opponent(bench.uri, "linked", "another")
    assert champion is not None
    ours, theirs = (folder / "model.safetensors" for folder in (merged.folder, champion.weights))

    assert ours.stat().st_ino == theirs.stat().st_ino

    # The version is deleted, as MLflow's garbage collection does it ...
    kept = bench.root / "kept"
    shutil.copytree(champion.weights.parent, kept)
    shutil.rmtree(champion.weights.parent)
    assert digest_folder(merged.folder) == before
    # ... or the store is.
    shutil.copytree(kept, champion.weights.parent, copy_function=os.link)
    shutil.rmtree(merged.folder)
    assert prove_version(bench.uri, "linked", 1) == ROWS


def test_the_champions_folder_loads_with_plain_transformers(bench: Bench, folder: Path) -> None:
    """By the folder alone, as a consumer without MLflow or retune does."""
    stored = json.loads((folder / ANSWERS_FILE).read_text())
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "components" / "tokenizer")

    row = stored["rows"][0]
    written = model.generate(
        torch.tensor([row["prompt_ids"]]),
        attention_mask=torch.ones(1, len(row["prompt_ids"]), dtype=torch.long),
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    assert written[0, len(row["prompt_ids"]) :].tolist() == row["answer"]
