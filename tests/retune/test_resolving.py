"""A model is found by whatever name it has, and what is none is said to be none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from retune.digests import digest_folder, digest_json
from retune.errors import ConfigError
from retune.model_records import ModelRef, ScoredModel
from retune.modeling.methods.apply import apply_method
from retune.modeling.methods.lora import as_peft
from retune.modeling.snapshots import locate_base
from retune.modeling.tokenizer_identity import compare_tokenizers
from retune.recipe.loading import LoadedRecipe, load_recipe
from retune.recipe.sections.method import (
    BottleneckConfig,
    MethodConfig,
    PrefixConfig,
    PromptTuningConfig,
    PTuningConfig,
)
from retune.resolving import EvaluatedModel, resolve_model
from retune.tracking import default_uri
from tests.tiny_models import CHATML_TEMPLATE

Snapshot = Callable[[str], Path]
Copy = Callable[[Path], Path]
Resolve = Callable[[str], EvaluatedModel]


@pytest.fixture
def loaded(tmp_path: Path, snapshot: Snapshot) -> LoadedRecipe:
    """A recipe whose model is the tiny Llama."""
    (tmp_path / "rows.jsonl").write_text('{"question": "a", "answer": "b"}\n', "utf-8")
    recipe = {
        "name": "small",
        "data": {"train": "rows.jsonl"},
        "model": {"id": str(snapshot("llama"))},
        "registry": {"model_name": "small"},
    }
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    return load_recipe(tmp_path / "recipe.yaml")


@pytest.fixture
def resolve(loaded: LoadedRecipe, tmp_path: Path) -> Resolve:
    uri = default_uri(tmp_path / ".retune")
    return lambda text: resolve_model(text, loaded, uri, tmp_path / "cache")


def write_adapter(base: Path, folder: Path) -> Path:
    """Write a random LoRA adapter of a base, as peft saves it."""
    config = as_peft(r=2, alpha=4, dropout=0.0, target_modules="all-linear", rslora=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


def rename_base(adapter: Path, base: str) -> None:
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text("utf-8")) | {"base_model_name_or_path": base}
    path.write_text(json.dumps(config), "utf-8")


def test_base_is_the_recipes_model(resolve: Resolve, snapshot: Snapshot) -> None:
    """It has the digest that a run scores it under."""
    found = resolve("base")
    assert (found.name, found.kind) == ("base", "base")
    assert found.scored == locate_base(str(snapshot("llama")), None).as_scored()


def test_a_folder_is_known_by_its_content(
    resolve: Resolve, snapshot: Snapshot, copied: Copy
) -> None:
    """A copy with the store's manifest in it is the same model as the folder that was digested."""
    copy = copied(snapshot("llama"))
    (copy / "manifest.json").write_text("{}")
    found = resolve(str(copy))
    assert found.kind == "snapshot"
    assert found.scored.digest == resolve("base").scored.digest
    assert found.scored.weights == copy.resolve()


def test_an_artifact_of_the_store_is_named_by_its_stage(
    resolve: Resolve, snapshot: Snapshot, tmp_path: Path
) -> None:
    """A key of 32 digits is no name for a column."""
    key = "b354b790c4cf5096743ef3f5fe84e90b"
    shutil.copytree(snapshot("llama"), tmp_path / ".retune" / "merge_adapter" / key)
    assert resolve(f".retune/merge_adapter/{key}").name == "merge_adapter/b354b790"


def test_an_adapter_is_put_on_the_recipes_model(
    resolve: Resolve, snapshot: Snapshot, tmp_path: Path
) -> None:
    """Also where its own base is a hub id, or a folder that is not on this machine."""
    adapter = write_adapter(snapshot("llama"), tmp_path / "adapter")
    for named in ("owner/name", "/not/here", str(snapshot("llama"))):
        rename_base(adapter, named)
        found = resolve(str(adapter))
        assert (found.kind, found.scored.adapter) == ("adapter", adapter)
        assert found.scored.weights == snapshot("llama").resolve()
        assert found.adapter_digest is not None


def test_an_adapter_over_quantized_weights_has_the_digest_of_a_run(
    resolve: Resolve, snapshot: Snapshot, tmp_path: Path
) -> None:
    """The formula of `AdapterRef.as_scored`, and the quantized folder as weights."""
    found = resolve(str(write_adapter(snapshot("llama"), tmp_path / "adapter")))
    model = ModelRef(
        digest="q",
        folder=tmp_path / "quantized",
        quantization="nf4",
        parameters=1,
        footprint_bytes=1,
        base_footprint_bytes=1,
        reference_perplexity=1.0,
        base_reference_perplexity=1.0,
    )
    over = found.over(model)
    assert over.scored.digest == digest_json({"adapter": found.adapter_digest, "model": "q"})
    assert over.scored.weights == tmp_path / "quantized"
    assert over.scored.adapter == found.scored.adapter


def test_an_adapter_of_another_folder_is_put_on_that_one(
    resolve: Resolve, snapshot: Snapshot, tmp_path: Path
) -> None:
    """Its rows are then read by that model's tokenizer."""
    adapter = write_adapter(snapshot("qwen3"), tmp_path / "adapter")
    found = resolve(str(adapter))
    assert found.scored.weights == found.tokenizer.folder == snapshot("qwen3").resolve()
    assert found.adapter_digest is None


@pytest.mark.parametrize(("family", "told"), [("gpt2", "has no layer"), ("qwen3", "is ")])
def test_an_adapter_of_another_shape_is_refused(
    resolve: Resolve, snapshot: Snapshot, tmp_path: Path, family: str, told: str
) -> None:
    """What it finds no place for, peft would leave out with a warning."""
    base = snapshot(family)
    if family == "qwen3":
        # The same layers in another size.
        from transformers import LlamaConfig

        config = LlamaConfig.from_pretrained(snapshot("llama"), intermediate_size=96)
        base = tmp_path / "wide"
        AutoModelForCausalLM.from_config(config).save_pretrained(base)
    adapter = write_adapter(base, tmp_path / "adapter")
    rename_base(adapter, "owner/name")
    with pytest.raises(ConfigError, match=rf"does not fit .*{told}.*model\.id"):
        resolve(str(adapter))


def test_an_adapter_of_a_deeper_model_is_refused(
    resolve: Resolve, snapshot: Snapshot, tmp_path: Path
) -> None:
    """Three layers do not go on two."""
    from transformers import LlamaConfig

    config = LlamaConfig.from_pretrained(snapshot("llama"), num_hidden_layers=3)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "deep")
    adapter = write_adapter(tmp_path / "deep", tmp_path / "adapter")
    rename_base(adapter, "owner/name")
    with pytest.raises(ConfigError, match=r"no layer model\.layers\.2\."):
        resolve(str(adapter))


OTHER_METHODS: dict[str, MethodConfig] = {
    "prefix": PrefixConfig(virtual_tokens=3),
    "prompt": PromptTuningConfig(virtual_tokens=3),
    "p_tuning": PTuningConfig(virtual_tokens=3, encoder_size=8),
    "bottleneck": BottleneckConfig(size=4),
}


def write_by_method(base: Path, folder: Path, method: str) -> Path:
    """Write an adapter of another method as a training does, whose base has no folder here."""
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = apply_method(model, OTHER_METHODS[method], tokenizer=base)
    for config in adapted.peft_config.values():
        config.inference_mode = True
    adapted.save_pretrained(folder)
    rename_base(folder, "owner/name")
    return folder


@pytest.mark.parametrize("method", OTHER_METHODS)
def test_an_adapter_of_any_method_is_found_alone_and_in_a_bundle(
    resolve: Resolve, snapshot: Snapshot, tmp_path: Path, method: str
) -> None:
    """Alone it is put on the recipe's model; a bundle has its own weights and tokenizer."""
    adapter = write_by_method(snapshot("llama"), tmp_path / "adapter", method)
    found = resolve(str(adapter))
    assert (found.kind, found.scored.adapter) == ("adapter", adapter)

    shutil.copytree(snapshot("llama"), tmp_path / "bundle" / "weights")
    shutil.copytree(adapter, tmp_path / "bundle" / "adapter")
    digest = digest_folder(tmp_path / "bundle")
    (tmp_path / "bundle" / "manifest.json").write_text("{}", "utf-8")
    found = resolve(str(tmp_path / "bundle"))
    assert (found.kind, found.name) == ("bundle", "bundle")
    assert found.scored == ScoredModel(
        digest=digest,
        weights=tmp_path / "bundle" / "weights",
        adapter=tmp_path / "bundle" / "adapter",
        tokenizer=tmp_path / "bundle" / "weights",
    )
    assert found.tokenizer.folder == found.scored.weights


@pytest.mark.parametrize(
    ("method", "change", "told"),
    [
        # Two blocks there, three here; and 2 x 2 heads of 16, in two blocks: 128 numbers.
        ("prefix", {"num_hidden_layers": 3}, "keys and values for 3 blocks, the base has 2"),
        ("prefix", {"num_key_value_heads": 4}, "take 256 numbers, those of the base 128"),
        ("prompt", {"hidden_size": 32}, "inputs are 32 wide, those of the base 64"),
        ("p_tuning", {"hidden_size": 32}, "inputs are 32 wide, those of the base 64"),
        ("bottleneck", {"hidden_size": 32}, "made for a width of 32, the base has 64"),
        ("bottleneck", {"num_hidden_layers": 3}, r"the base has no model\.layers\.2\."),
    ],
)
def test_an_adapter_of_any_method_for_another_shape_is_refused(
    resolve: Resolve,
    snapshot: Snapshot,
    tmp_path: Path,
    method: str,
    change: dict[str, int],
    told: str,
) -> None:
    """Before it is loaded, with both sizes."""
    from transformers import LlamaConfig

    config = LlamaConfig.from_pretrained(snapshot("llama"), **change)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(snapshot("llama")).save_pretrained(tmp_path / "other")
    adapter = write_by_method(tmp_path / "other", tmp_path / "adapter", method)
    with pytest.raises(ConfigError, match=rf"does not fit .*{told}.*model\.id"):
        resolve(str(adapter))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no/such/folder", "there is no folder"),
        ("./nowhere", "there is no folder"),
        ("owner/not-there", "as a name on the hub it cannot be used"),
        ("", "neither a model nor an adapter"),
        ("models:/", "not an address"),
        ("models:/small", "not an address"),
        ("models:/small@", "not an address"),
        ("models:/small/first", "not an address"),
        ("models:/small@champion", "no model of this name"),
        ("models:/small/3", "no model of this name"),
    ],
)
def test_what_is_no_model_is_said_to_be_none(resolve: Resolve, text: str, told: str) -> None:
    """The message has what was written, and what is expected."""
    with pytest.raises(ConfigError, match=told):
        resolve(text)


def test_a_folder_without_a_model_is_refused(resolve: Resolve, tmp_path: Path) -> None:
    """It says what is not in it."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no config\.json and no adapter_config\.json"):
        resolve("empty")


def test_a_broken_adapter_is_refused(resolve: Resolve, snapshot: Snapshot, tmp_path: Path) -> None:
    """Without weights, with bytes that are none, or with a configuration that is no JSON."""
    adapter = write_adapter(snapshot("llama"), tmp_path / "adapter")
    weights, config = adapter / "adapter_model.safetensors", adapter / "adapter_config.json"
    weights.write_bytes(b"none")
    with pytest.raises(ConfigError, match="not a file of safetensors"):
        resolve(str(adapter))
    weights.unlink()
    with pytest.raises(ConfigError, match=r"without adapter_model\.safetensors"):
        resolve(str(adapter))
    config.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        resolve(str(adapter))


def test_a_tokenizer_that_was_saved_again_reads_alike(
    snapshot: Snapshot, copied: Copy, tmp_path: Path
) -> None:
    """Other bytes, the same tokens; another template or another vocabulary is told apart."""
    first = snapshot("llama")
    copy = copied(first)
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")), indent=7), "utf-8")
    assert compare_tokenizers(first, copy, None) == "alike"

    tokenizer = AutoTokenizer.from_pretrained(first)
    tokenizer.chat_template = CHATML_TEMPLATE
    tokenizer.save_pretrained(tmp_path / "template")
    assert compare_tokenizers(first, tmp_path / "template", None) == "other_template"
    assert compare_tokenizers(first, snapshot("qwen3"), None) == "other_tokens"


@pytest.mark.parametrize("own", [False, True])
def test_an_adapter_of_a_base_that_is_not_here_is_said(
    own: bool, resolve: Resolve, snapshot: Snapshot, tmp_path: Path
) -> None:
    """It fits by its shapes, and may be of other weights; one of the recipe's model is no doubt."""
    adapter = write_adapter(snapshot("llama"), tmp_path / "adapter")
    rename_base(adapter, str(snapshot("llama")) if own else "org/another-llama")
    doubt = resolve(str(adapter)).doubt
    assert (doubt is None) is own
    if doubt:
        assert "names org/another-llama as its base" in doubt
