"""A model that is not the one that was registered is not served: the first difference is told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from retune.errors import ConfigError, RetuneError
from retune.registry.versions.finding import resolve_version
from retune.registry.versions.proving import ANSWERS_FILE
from retune.serving.finding import ModelSource
from retune.serving.messages import EngineSettings
from retune.serving.proof import Unproved
from retune.serving.worker import Answerer, Reports
from tests.retune.registry.test_registering import ROWS, Bench
from tests.retune.serving.conftest import NAME, Served

pytestmark = pytest.mark.slow

SETTINGS = EngineSettings(batch=4, context=256, default_tokens=16)
Plant = Callable[[Path], None]


@pytest.fixture
def folder(bench: Bench, tmp_path: Path) -> Iterator[Path]:
    """Return the version's folder, put back as it was after the test."""
    _, folder = resolve_version(bench.uri, NAME, 1)
    shutil.copytree(folder, tmp_path / "kept")
    yield folder
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "kept", folder)


def open_version(bench: Bench) -> Answerer:
    """Load and prove the champion as the process of a server does."""
    found = ModelSource(f"models:/{NAME}@champion", bench.uri).find()
    with open(os.devnull, "w") as nowhere:
        answerer = Answerer(found, SETTINGS, Reports(nowhere))
        if answerer.engine is not None:
            answerer.engine.close()
    return answerer


def other_template(folder: Path) -> None:
    tokenizer = folder / "components" / "tokenizer"
    (tokenizer / "chat_template.jinja").write_text(
        "{% for m in messages %}### {{ m['role'] }}:\n{{ m['content'] | trim }}\n{% endfor %}"
    )


def other_tokenizer(folder: Path) -> None:
    path = folder / "components" / "tokenizer" / "tokenizer.json"
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    vocabulary["e"], vocabulary["x"] = vocabulary["x"], vocabulary["e"]
    path.write_text(json.dumps(document))


def other_end(folder: Path) -> None:
    path = folder / "components" / "tokenizer" / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [256, 13]}))


def other_weights(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"] = weights["lm_head.weight"].flip(0).contiguous()
    # A file of its own: the old one is linked to the release that it was made of.
    save_file(weights, f"{path}.new", metadata={"format": "pt"})
    os.replace(f"{path}.new", path)


PLANTS: dict[str, tuple[Plant, str]] = {
    "template": (other_template, "stored chat 1 .* is written otherwise: from character"),
    "tokenizer": (other_tokenizer, "other token ids from place"),
    "end token": (other_end, r"the tokens that end an answer are \[256, 13\], and were \[256\]"),
    "weights": (other_weights, f"stored prompt 1 of {ROWS} is answered otherwise"),
}


def test_a_version_as_it_was_registered_is_proved(bench: Bench, folder: Path) -> None:
    assert open_version(bench).proved == (4, ROWS)


@pytest.mark.parametrize("what", PLANTS)
def test_a_planted_difference_is_told(bench: Bench, folder: Path, what: str) -> None:
    plant, expected = PLANTS[what]
    plant(folder)

    with pytest.raises(Unproved, match=expected):
        open_version(bench)


def test_a_version_without_stored_answers_is_not_served(bench: Bench, folder: Path) -> None:
    (folder / ANSWERS_FILE).unlink()

    with pytest.raises(RetuneError, match="without stored answers nothing proves"):
        open_version(bench)


@pytest.mark.service
def test_a_server_whose_version_is_not_proved_never_gets_ready(
    bench: Bench, folder: Path, serve: Callable[..., Served]
) -> None:
    """It lives, says why at `/readyz`, and answers everything else with 503."""
    other_template(folder)
    served = serve(f"models:/{NAME}/1", "--store", str(bench.root))
    served.wait_until_unfit()

    ready = served.get("/readyz")
    assert ready.status_code == 503
    # Whoever asks reads no piece of what was stored; the log has it.
    assert ready.json()["reason"].endswith("is written otherwise")
    assert "is written otherwise: from character" in served.log.read_text()
    refused = served.post("/generate", prompt="x")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
    assert served.get("/healthz").status_code == 200


def test_a_folder_is_served_and_has_nothing_to_prove(bench: Bench) -> None:
    """No registry is asked: its address is not even given."""
    found = ModelSource(str(bench.merged(1).folder), "", name="mine").find()

    assert (found.name, found.version, found.answers) == ("mine", None, None)
    with open(os.devnull, "w") as nowhere:
        answerer = Answerer(found, SETTINGS, Reports(nowhere))
    assert answerer.proved == (0, 0)
    assert answerer.engine is not None
    answerer.engine.close()


def test_an_adapter_without_its_base_is_refused(tmp_path: Path) -> None:
    """It names a folder of another machine, and there is no recipe to take one from."""
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "/elsewhere/base"})
    )
    with pytest.raises(ConfigError, match="Name the recipe that it was trained by"):
        ModelSource(str(tmp_path), "").find()


def test_an_adapter_is_put_on_the_base_that_it_names(bench: Bench, tmp_path: Path) -> None:
    base = bench.merged(1).folder
    model = AutoModelForCausalLM.from_pretrained(base)
    get_peft_model(model, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path)

    found = ModelSource(str(tmp_path), "").find()

    assert (found.scored.weights, found.scored.adapter) == (base.resolve(), tmp_path)
