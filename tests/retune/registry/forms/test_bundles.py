"""The registry and releases whose adapter lies beside the weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from retune.digests import digest_folder
from retune.errors import ArtifactError
from retune.inference.generation import generate_answers
from retune.inference.loaded_models import load_scored_model
from retune.model_records import MergedRef, locate_bundle
from retune.modeling.head_files import write_head
from retune.modeling.heads import add_head
from retune.registry.forms.classifier import name_classes
from retune.registry.forms.release_form import Reply
from retune.registry.forms.writer import write_greedily
from retune.registry.registering import is_registered
from retune.registry.versions.finding import find_opponent, locate_version
from retune.tracking import connect
from tests.retune.registry.test_registering import ROWS, Bench, write_model
from tests.retune.weights.test_bundle import CPU, write_prompt_adapter

MERGED, BUNDLED, OTHER_BUNDLED, WITH_HEAD = 1, 11, 12, 13
LABELS = ("bom", "neutro", "ruim")
PROMPT = "Quantos clientes em Faro?"


def write_adapter_with_head(weights: Path, folder: Path) -> None:
    """Write learned inputs, and the head that reads what a base makes of them."""
    model = add_head(
        weights, labels=LABELS, pad_token_id=256, dtype=torch.float32, device=CPU, seed=3
    )
    config = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3, inference_mode=True)
    get_peft_model(model, config).save_pretrained(folder)
    write_head(folder, LABELS)


class BundleBench(Bench):
    """Seeds from 10 on are bundles: the base of that seed with learned keys and values over it."""

    def merged(self, seed: int) -> MergedRef:
        if seed < 10:
            return super().merged(seed)
        folder = self.root / f"bundle-{seed}"
        if not folder.is_dir():
            weights, adapter = locate_bundle(folder)
            write_model(weights, seed)
            if seed == WITH_HEAD:
                write_adapter_with_head(weights, adapter)
            else:
                write_prompt_adapter(weights, adapter, "prefix", seed)
                shutil.rmtree(adapter / "log")
            (folder / "manifest.json").write_text("{}", "utf-8")
        figures: dict[str, Any] = {"rows_checked": 1, "answers_equal": 1}
        figures |= {"max_logit_difference": 0.0, "logit_spread": 1.0}
        digest = digest_folder(folder, without=("manifest.json",))
        return MergedRef(digest=digest, folder=folder, bundled=True, **figures)

    def answers(self, scored: Any) -> list[Reply]:
        from retune.data.tables import read_rows

        rows = read_rows(self.rows.folder / "rows.parquet")
        return write_greedily(load_scored_model(scored), [row["prompt_ids"] for row in rows], 12)

    def answer_prompt(self) -> str:
        """Return what the bundle says to `PROMPT` in twelve tokens."""
        loaded = load_scored_model(self.merged(BUNDLED).as_scored())
        ids = loaded.tokenizer(PROMPT)["input_ids"]
        return generate_answers(loaded, [ids], max_new_tokens=12, batch_size=1)[0]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> BundleBench:
    return BundleBench(tmp_path_factory.mktemp("store"))


def test_a_promoted_bundle_is_champion_and_answers_as_before(bench: BundleBench, name: str) -> None:
    """Found by its alias with all of its parts, and not like the base without its adapter."""
    record = bench.register(name, BUNDLED)

    assert (record.alias, record.rows_checked, record.answers_equal) == ("champion", ROWS, ROWS)
    champion = locate_version(bench.uri, name, "champion")
    assert champion.adapter is not None
    assert champion.digest == bench.merged(BUNDLED).digest
    assert champion.weights.is_relative_to(bench.root / "mlflow" / "artifacts")
    said = bench.answers(champion.as_scored())
    assert said == bench.answers(bench.merged(BUNDLED).as_scored())
    without = champion.model_copy(update={"adapter": None})
    assert said != bench.answers(without.as_scored())
    assert is_registered(record, {"tracking_uri": bench.uri}) is None


def test_a_bundle_cannot_be_loaded_without_its_adapter(bench: BundleBench, name: str) -> None:
    """No flavour and no folder of the version gives the base in its place."""
    import mlflow
    from mlflow.exceptions import MlflowException

    bench.register(name, BUNDLED)
    champion = locate_version(bench.uri, name, "champion")

    with pytest.raises(MlflowException, match="flavor"):
        mlflow.transformers.load_model(f"models:/{name}@champion")
    with pytest.raises((OSError, ValueError)):
        AutoModelForCausalLM.from_pretrained(champion.weights.parent)


def test_a_merged_model_and_a_bundle_follow_each_other(bench: BundleBench, name: str) -> None:
    """Each is the opponent of the next, whatever its form."""
    bench.register(name, MERGED)
    assert bench.opponent(name, BUNDLED) == 1
    bench.register(name, BUNDLED)
    assert bench.opponent(name, BUNDLED) == 1
    assert bench.opponent(name, OTHER_BUNDLED) == 2
    bench.register(name, OTHER_BUNDLED)
    record = bench.register(name, MERGED)

    assert (record.version, record.alias) == (1, "champion")
    assert bench.opponent(name, MERGED) == 3
    assert len(connect(bench.uri).search_model_versions(f"name = '{name}'")) == 3


def test_a_bundle_answers_a_request_with_parameters(
    bench: BundleBench, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the signature that a merged model has, and without unpickling anything."""
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    monkeypatch.setattr(sys, "path", [*sys.path])
    bench.register(name, BUNDLED)
    served = mlflow.pyfunc.load_model(f"models:/{name}@champion")

    short, long, whole = (
        served.predict([PROMPT], params=params)[0]
        for params in (
            {"max_new_tokens": 2},
            {"max_new_tokens": 12},
            {"max_new_tokens": 12, "return_full_text": True},
        )
    )

    assert long == bench.answer_prompt()
    assert whole == PROMPT + long
    assert long.startswith(short)
    assert len(short) < len(long)


def test_a_version_whose_adapter_is_gone_is_not_scored(bench: BundleBench, name: str) -> None:
    """The base alone would be another model."""
    record = bench.register(name, BUNDLED)
    champion = find_opponent(bench.uri, name, "another")
    assert champion is not None and champion.adapter is not None
    shutil.rmtree(champion.adapter)

    gone = is_registered(record, {"tracking_uri": bench.uri})

    assert gone == "files of registered version 1 are gone"
    with pytest.raises(ArtifactError, match="its files are gone"):
        find_opponent(bench.uri, name, "another")


def test_a_bundle_with_a_head_names_classes(bench: BundleBench, name: str) -> None:
    """Reloaded it names the same ones; a request gets a name and its probability."""
    import mlflow

    record = bench.register(name, WITH_HEAD)

    assert (record.rows_checked, record.answers_equal) == (ROWS, ROWS)
    served = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    (found,) = served.predict([PROMPT])
    loaded = load_scored_model(locate_version(bench.uri, name, "champion").as_scored())
    ids = loaded.tokenizer(PROMPT)["input_ids"]
    assert [found["label"]] == name_classes(loaded, [ids])
    # The likeliest of three.
    assert 1 / 3 < found["score"] <= 1


@pytest.mark.slow
def test_a_bundle_brings_the_code_that_loads_it(
    bench: BundleBench, name: str, tmp_path: Path
) -> None:
    """In a process that cannot import retune, the version's own copy answers."""
    bench.register(name, BUNDLED)
    program = f"""
import sys
sys.meta_path[:] = [each for each in sys.meta_path if "editable" not in repr(each).lower()]
sys.path[:] = [each for each in sys.path if not each.endswith("src")]
import importlib.util
assert importlib.util.find_spec("retune") is None
import mlflow
mlflow.set_tracking_uri({bench.uri!r})
served = mlflow.pyfunc.load_model("models:/{name}@champion")
import retune
assert "artifacts" in retune.__file__, retune.__file__
print(served.predict([{PROMPT!r}], params={{"max_new_tokens": 12}})[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.rstrip("\n").endswith(bench.answer_prompt())
