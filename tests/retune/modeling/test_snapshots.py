"""Finding a model, and saying what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub.utils import filter_repo_objects

from retune.errors import ConfigError
from retune.modeling import snapshots
from retune.modeling.snapshots import locate_base

Snapshot = Callable[[str], Path]
Copy = Callable[[Path], Path]


def test_a_copy_is_the_same_base(snapshot: Snapshot, copied: Copy) -> None:
    """Where it lies and what its README says do not count."""
    copy = copied(snapshot("llama"))
    (copy / "README.md").write_text("a card")
    first, second = locate_base(str(snapshot("llama")), None), locate_base(str(copy), None)
    assert first.digest == second.digest
    assert first.folder != second.folder


def test_one_weight_makes_another_base(snapshot: Snapshot, copied: Copy) -> None:
    """The digest is over the bytes."""
    copy = copied(snapshot("llama"))
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert locate_base(str(copy), None).digest != locate_base(str(snapshot("llama")), None).digest


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no .*safetensors.*pickled weights are not loaded"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_a_missing_part_is_named(
    snapshot: Snapshot, copied: Copy, missing: str, expected: str
) -> None:
    """Before anything is loaded."""
    copy = copied(snapshot("llama"))
    (copy / missing).unlink()
    with pytest.raises(ConfigError, match=expected):
        locate_base(str(copy), None)


@pytest.mark.parametrize("name", ["no/such-model", "/no/such/folder", "a b"])
def test_a_model_that_is_nowhere_is_a_config_error(name: str) -> None:
    """Neither a folder nor, without network, on the hub; the message says what to do."""
    with pytest.raises(ConfigError, match=r"model\.id '" + name):
        locate_base(name, None)


def test_weights_are_downloaded_once() -> None:
    """Of gpt-oss the copies in other folders are left, and Mistral's in another library's names.

    What the hub says of a licence comes along, since it goes with what is made of the model.
    """
    listed = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "chat_template.jinja",
        "tokenizer.json",
        "original/model.safetensors",
        "original/config.json",
        "metal/model.bin",
        "consolidated.safetensors",
        "onnx/model.onnx",
        "README.md",
        "LICENSE",
    ]
    found = filter_repo_objects(
        listed, allow_patterns=list(snapshots._FILES), ignore_patterns=list(snapshots._NOT_USED)
    )
    assert list(found) == [*listed[:5], "README.md", "LICENSE"]
    weights = [name for name in listed if snapshots._is_used(name)]
    assert weights == ["model-00001-of-00002.safetensors"]


def test_an_adapter_is_no_model_and_says_how_to_go_on(snapshot: Snapshot, tmp_path: Path) -> None:
    """It names its base, and the two settings that train it further."""
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "org/some-base"})
    )
    said = r"adapter over org/some-base(.|\n)*model.id: org/some-base, and training.start_from: /"
    with pytest.raises(ConfigError, match=said):
        locate_base(str(tmp_path), None)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def point(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def spoil(path: Path) -> None:
    path.write_bytes(b"\xff" * 100)


def index(path: Path) -> None:
    path.with_name("model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": path.name}})
    )


def pickle(path: Path) -> None:
    path.rename(path.with_name("pytorch_model.bin"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut, r"model\.safetensors: has [\d,]+ bytes, and by its header [\d,]+: it was cut"),
        (point, "stands for a file of Git LFS that was not fetched"),
        (spoil, "no file of safetensors"),
        (index, r"1 of 2 files of weights are missing: model-00001-of-00002\.safetensors"),
        (pickle, r"no \*\.safetensors \(found pytorch_model\.bin\).*pickled weights are not"),
    ],
)
def test_files_of_weights_that_cannot_be_read_are_told_before_any_work(
    snapshot: Snapshot, copied: Copy, change: Callable[[Path], None], said: str
) -> None:
    """As soon as the model is looked for, and by the file's name."""
    copy = copied(snapshot("llama"))
    change(copy / "model.safetensors")
    with pytest.raises(ConfigError, match=said):
        locate_base(str(copy), None)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_beside_a_configuration_is_still_one(
    snapshot: Snapshot, copied: Copy, name: str
) -> None:
    """Some trainers save the base's config.json with it."""
    copy = copied(snapshot("llama"))
    (copy / "model.safetensors").rename(copy / name)
    (copy / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ConfigError, match="is an adapter over a base that it does not name"):
        locate_base(str(copy), None)


def test_a_model_with_an_adapter_beside_it_is_ambiguous(snapshot: Snapshot, copied: Copy) -> None:
    """The library would load the base that the adapter names."""
    copy = copied(snapshot("llama"))
    (copy / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(
        ConfigError, match=r"weights of a model \(model\.safetensors\) and an adapt"
    ):
        locate_base(str(copy), None)


def test_an_adapter_that_no_training_goes_on_from_says_so(tmp_path: Path) -> None:
    """It names its method, and no setting that would be refused next."""
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(ConfigError, match="adapters of LoRA alone, not of IA3") as caught:
        locate_base(str(tmp_path), None)
    assert "training.start_from" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("config.json", "", "cannot be read as JSON"),
        ("config.json", "[]", "expected a JSON object"),
        ("generation_config.json", "{", "cannot be read as JSON"),
        ("generation_config.json", "null", "expected a JSON object"),
        ("generation_config.json", '{"eos_token_id": "</s>"}', "eos_token_id is '</s>', expected"),
        ("generation_config.json", '{"eos_token_id": [1, "a"]}', r"eos_token_id is \[1, 'a'\]"),
        (
            "generation_config.json",
            '{"pad_token_id": [0]}',
            r"pad_token_id is \[0\], expected a nu",
        ),
    ],
)
def test_settings_that_cannot_be_read_are_named(
    snapshot: Snapshot, copied: Copy, name: str, text: str, said: str
) -> None:
    """By their file, before a library trips over them."""
    copy = copied(snapshot("llama"))
    (copy / name).write_text(text)
    with pytest.raises(ConfigError, match=f"{name}: {said}"):
        locate_base(str(copy), None)
