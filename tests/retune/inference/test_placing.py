"""Models with a part on the disk, or in 4 bits, say what they say elsewhere."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model

from retune.data.chats.tokenizers import load_tokenizer
from retune.errors import ConfigError
from retune.inference.loaded_models import ModelSlot, load_causal_model, load_parts
from retune.model_records import WHOLE, ScoredModel, StagePlace
from tests.tiny_models import write_snapshot

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 17, 300, 4, 99, 250, 31, 7], [9, 8, 7, 6, 5, 4, 3, 2]])


def offloaded(resident_bytes: int = 0) -> StagePlace:
    return StagePlace(placement="offloaded", resident_bytes=resident_bytes)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with tied ends: the embedding is the head."""
    return write_snapshot(tmp_path_factory.mktemp("models") / "llama", "tied_llama")


@pytest.mark.parametrize(
    ("family", "resident", "on_disk"),
    [("tied_llama", 0, True), ("gemma3_image_text", 250_000, True), ("gpt_oss_mxfp4", 0, True)],
)
def test_offloaded_layers_say_the_same(
    tmp_path: Path, family: str, resident: int, on_disk: bool
) -> None:
    """Logits and written tokens bit for bit, of tied ends, renamed keys and converted experts."""
    folder = write_snapshot(tmp_path / family, family)
    plain = load_causal_model(folder, dtype=torch.float32, device=CPU)
    other = load_causal_model(folder, dtype=torch.float32, device=CPU, place=offloaded(resident))
    assert any(weight.is_meta for weight in other.parameters()) is on_disk
    assert other.device == CPU
    with torch.inference_mode():
        assert torch.equal(plain(IDS).logits, other(IDS).logits)
        written = [m.generate(IDS, max_new_tokens=4, do_sample=False) for m in (plain, other)]
    assert torch.equal(*written)


def test_as_many_blocks_stay_as_there_is_room_for(snapshot: Path) -> None:
    """A block has 2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 2 * 64 = 36,992 weights of 4 bytes."""
    block = 36_992 * 4
    for room, blocks in ((block - 1, 0), (block, 1), (2 * block, 2)):
        model = load_causal_model(snapshot, dtype=torch.float32, device=CPU, place=offloaded(room))
        layers = model.get_submodule("model.layers")
        here = [not any(weight.is_meta for weight in each.parameters()) for each in layers]
        assert sum(here) == blocks


def test_nothing_of_a_model_that_cannot_be_loaded_stays(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file ends after 1,000 bytes: the folder for what is converted goes with the error."""
    broken = Path(shutil.copytree(snapshot, tmp_path / "broken"))
    (weights,) = broken.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    folders = tmp_path / "tmp"
    folders.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_causal_model(broken, dtype=torch.float32, device=CPU, place=offloaded())
    assert not list(folders.iterdir())
    made = load_causal_model(snapshot, dtype=torch.float32, device=CPU, place=offloaded())
    assert len(list(folders.iterdir())) == 1
    del made


def save_adapter(snapshot: Path, folder: Path, config: object) -> Path:
    torch.manual_seed(1)
    adapted = get_peft_model(load_causal_model(snapshot, dtype=torch.float32, device=CPU), config)
    for weight in adapted.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.05)
    adapted.save_pretrained(folder)
    return folder


def load(snapshot: Path, adapter: Path, place: StagePlace) -> torch.nn.Module:
    tokenizer = load_tokenizer(snapshot)
    return load_parts(
        snapshot,
        adapter,
        tokenizer=tokenizer,
        end_ids=[1],
        dtype=torch.float32,
        device=CPU,
        place=place,
    ).model


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=4, target_modules="all-linear", use_rslora=True, task_type="CAUSAL_LM"),
        PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    ],
    ids=["lora", "prefix"],
)
def test_an_adapter_over_offloaded_layers_says_the_same(
    snapshot: Path, tmp_path: Path, config: object
) -> None:
    """Its own weights are on the device, wherever those below it are."""
    adapter = save_adapter(snapshot, tmp_path / "adapter", config)
    with torch.inference_mode():
        expected = load(snapshot, adapter, WHOLE)(IDS).logits
        assert torch.equal(expected, load(snapshot, adapter, offloaded())(IDS).logits)


@pytest.mark.parametrize(
    ("setting", "options"),
    [
        ("use_dora", {"target_modules": ["q_proj"], "use_dora": True}),
        ("modules_to_save", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
        ("target_modules", {"target_modules": ["q_proj", "embed_tokens"]}),
    ],
)
def test_an_adapter_that_reads_weights_by_itself_is_refused(
    snapshot: Path, tmp_path: Path, setting: str, options: dict[str, object]
) -> None:
    """Weights on the disk have no values there, and peft would go on without an error."""
    config = LoraConfig(r=4, task_type="CAUSAL_LM", **options)
    adapter = save_adapter(snapshot, tmp_path / "adapter", config)
    with pytest.raises(ConfigError, match=f"{setting}.*device.placement: cpu"):
        load(snapshot, adapter, offloaded())


def test_a_form_is_another_model_and_a_place_is_not(snapshot: Path) -> None:
    """In 4 bits the digest is another, and so are the layers; the place changes no digest."""
    plain = ScoredModel(digest="d", weights=snapshot, tokenizer=snapshot)
    four_bits, elsewhere = plain.held("nf4", WHOLE), plain.held("plain", offloaded())
    assert elsewhere.digest == plain.digest != four_bits.digest
    slot = ModelSlot()
    loaded = {each: slot.get(each).model for each in (plain, four_bits, elsewhere)}
    assert getattr(loaded[four_bits], "is_loaded_in_4bit", False)
    with torch.inference_mode():
        said = {each: model(IDS).logits for each, model in loaded.items()}
    assert torch.equal(said[plain], said[elsewhere])
    assert not torch.allclose(said[plain], said[four_bits])
