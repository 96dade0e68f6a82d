"""Each family from files alone: trained, saved, loaded, merged, and taken up by transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from retune.data.chats.tokenizers import load_tokenizer
from retune.digests import digest_folder
from retune.inference.loaded_models import SLOT, put_adapter
from retune.modeling.four_bit import use_plain_4bit_kernels
from retune.modeling.prequantized import quantized_as
from retune.modeling.snapshots import locate_base
from retune.recipe.sections import FullConfig
from retune.records import ChatRef, Source
from retune.spine.stage import SilentReporter, Workdir
from retune.training import supervised
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.supervised import train_adapter
from retune.training.trainable import Trainable
from retune.weights.merge import merge_adapter
from retune.weights.quantize import quantize_model
from retune.weights.stages import MergeInputs, MergeSettings, QuantizeInputs, QuantizeSettings
from tests.making import make_workdir, settings_of
from tests.plain_models import load_plain_model

CPU = torch.device("cpu")
IDS = torch.arange(3, 43).view(2, 20)
WHOLE = {"modules_to_save": ["lm_head", "embed_tokens"]}
TOKENS = {"trainable_tokens": ["<|end|>", "<|user|>"]}

# LoRA of rank 4: r * (in + out) of all adapted layers of a block.
# Llama's kind: q, o 128 each, k, v 96 each, three of 192: 1,024 times 4, two blocks: 8,192.
# gpt-oss: q, k, v, o alone, since experts are no linear layers: 448 times 4, two blocks: 3,584.
LORA, ATTENTION = 8_192, 3_584
# Of one block's 4 experts, each r * (in + out): 64 to 128 and 64 to 64, 4 * 4 * (192 + 128): 5,120.
EXPERTS = {"target_parameters": ["1.mlp.experts.gate_up_proj", "1.mlp.experts.down_proj"]}
# One row is 64 wide; the vocabulary of Llama's kind has 4,096. Tied ends count once.
END = 4_096 * 64

CASES: list[tuple[str, str, dict[str, Any], int]] = [
    ("gemma3", "nf4", {}, LORA),
    ("qwen3", "none", {}, LORA),
    ("gemma3_image_text", "none", {}, LORA),
    ("gemma3_image_text", "nf4", {}, LORA),
    ("gpt_oss", "none", {}, ATTENTION),
    ("gpt_oss_mxfp4", "none", {}, ATTENTION),
    ("gpt_oss_mxfp4", "nf4", {}, ATTENTION),
    ("gpt_oss", "none", EXPERTS, ATTENTION + 5_120),
    ("gpt_oss_mxfp4", "nf4", EXPERTS, ATTENTION + 5_120),
    ("nf4_llama", "nf4", {}, LORA),
    ("tied_llama", "none", WHOLE, LORA + END),
    ("tied_qwen3", "nf4", {"modules_to_save": ["embed_tokens"]}, LORA + 4_098 * 64),
    ("llama", "none", WHOLE, LORA + 2 * END),
    ("tied_llama", "none", TOKENS, LORA + 2 * 64),
    ("llama", "nf4", TOKENS, LORA + 2 * 2 * 64),
    ("gpt2", "none", TOKENS, LORA + 2 * 64),
]


@pytest.fixture(scope="module")
def inputs_of(
    snapshot: Callable[[str], Path],
    format_for: Callable[..., ChatRef],
    reference_text: Source,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], TrainInputs]:
    """What a training of a family is given; each is made once."""
    made: dict[tuple[str, str], TrainInputs] = {}

    def make(family: str, kind: str) -> TrainInputs:
        if (family, kind) not in made:
            base = locate_base(str(snapshot(family)), None)
            chats = format_for(base)
            model = quantize_model(
                QuantizeInputs(base=base, reference_text=reference_text),
                settings_of(QuantizeSettings, model={"id": "tiny"}, quantization={"kind": kind}),
                make_workdir(tmp_path_factory.mktemp("quantize") / "work"),
            )
            made[family, kind] = TrainInputs(
                train=chats.side("train"),
                validation=chats.side("validation"),
                base=base,
                model=model,
            )
        return made[family, kind]

    return make


def section(kind: str, method: dict[str, Any]) -> TrainSettings:
    settings = {"max_steps": 6, "batch_size": 4, "learning_rate": 0.02, "evaluations": 2}
    found: TrainSettings = settings_of(
        TrainSettings,
        seed=11,
        model={"id": "tiny"},
        quantization={"kind": kind, "compute_dtype": "float32"},
        method={"kind": "lora", "r": 4, "alpha": 8, **method},
        training={**settings, "evaluation_rows": 4, "warmup_steps": 0.0},
    )
    return found


def logits(model: torch.nn.Module) -> torch.Tensor:
    use_plain_4bit_kernels(model, torch.float32)
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind", "method", "learned"), CASES)
def test_a_family_is_trained_saved_merged_and_reloaded(
    family: str,
    kind: str,
    method: dict[str, Any],
    learned: int,
    inputs_of: Callable[[str, str], TrainInputs],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The base stays bit for bit, the adapter moves, the loss falls, files give the same logits.

    The merged snapshot is loaded by transformers alone. It is in the base's dtype: float32 but for
    the MXFP4 one, which is bfloat16 and may round each of its weights by 1/256.
    """
    inputs = inputs_of(family, kind)
    seen: dict[str, Any] = {}
    files = digest_folder(inputs.base.folder)
    prepare = supervised.prepare_model

    def remember(*arguments: Any) -> Trainable:
        trained = seen["trained"] = prepare(*arguments)
        seen["before"] = {n: w.detach().clone() for n, w in trained.model.named_parameters()}
        return trained

    monkeypatch.setattr(supervised, "prepare_model", remember)
    adapter = train_adapter(inputs, section(kind, method), make_workdir(tmp_path / "train"))
    model = seen["trained"].model

    assert adapter.trainable_parameters == learned
    now = dict(model.named_parameters())
    for name, then in seen["before"].items():
        own = any(part in name for part in ("lora_", "modules_to_save", "trainable_tokens"))
        assert torch.equal(then, now[name]) != own, name
    assert digest_folder(inputs.base.folder) == files
    assert adapter.validation_loss is not None and adapter.base_validation_loss is not None
    assert adapter.validation_loss < adapter.base_validation_loss

    said = logits(model)
    SLOT.clear()
    loaded = SLOT.get(adapter.as_scored(inputs.model, inputs.base)).model
    assert torch.allclose(logits(loaded), said, atol=1e-5)

    merged = merge_adapter(
        MergeInputs(adapter=adapter, base=inputs.base, rows=inputs.validation, template=None),
        settings_of(MergeSettings, merge={"check_rows": 2, "tolerance": 0.05}),
        make_workdir(tmp_path / "merge"),
    )
    over = put_adapter(
        load_plain_model(inputs.base.folder, dtype=torch.float32, device=CPU), adapter.folder
    )
    expected = logits(over)
    plain, info = AutoModelForCausalLM.from_pretrained(
        merged.folder, dtype=torch.float32, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    bound = 0.05 if family == "gpt_oss_mxfp4" else 1e-3
    assert (logits(plain) - expected).abs().max() <= bound * expected.std()
    tied = family.startswith(("tied", "gemma3", "gpt2"))
    assert (plain.get_input_embeddings().weight is plain.get_output_embeddings().weight) == tied


@pytest.mark.parametrize("family", ["gemma3_image_text", "gpt_oss"])
def test_the_whole_model_is_counted_without_its_vision_tower(
    family: str, snapshot: Callable[[str], Path]
) -> None:
    """The embedding and, where it is not tied, the head, blocks, and the last norm of 64.

    A block of Gemma 3: q, o 4,096 each, k, v 2,048 each, two norms of 16, three layers of 8,192,
    four norms of 64: 37,152.
    A block of gpt-oss, all with bias: q, o 4,160 each, k, v 2,080 each, a sink for each of 4 heads,
    a router of 64 * 4 + 4, per expert 64 * 128 + 128 and 64 * 64 + 64, so 4 * 12,480, and two norms
    of 64: 62,792.
    """
    folder = snapshot(family)
    vocabulary = len(load_tokenizer(folder))
    block, ends = {"gemma3_image_text": (37_152, 1), "gpt_oss": (62_792, 2)}[family]
    total = ends * vocabulary * 64 + 2 * block + 64
    model = load_plain_model(folder, dtype=torch.float32, device=CPU)
    assert model.num_parameters() == total


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma3_image_text", "gpt_oss_mxfp4"])
def test_full_fine_tuning_writes_a_plain_text_model(
    family: str, inputs_of: Callable[[str, str], TrainInputs], tmp_path: Path
) -> None:
    """All weights are trained and saved in float32, without a vision tower and without blocks.

    Transformers alone loads the folder, and its files give what a scorer loads.
    """
    inputs = inputs_of(family, "none")
    settings = section("none", {}).model_copy(update={"method": FullConfig()})
    adapter = train_adapter(inputs, settings, make_workdir(tmp_path / "train"))
    assert adapter.trainable_parameters == adapter.total_parameters
    assert quantized_as(adapter.folder) == "none"
    plain, info = AutoModelForCausalLM.from_pretrained(adapter.folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert not hasattr(plain.config, "vision_config")
    loaded = load_plain_model(adapter.folder, dtype=torch.float32, device=CPU)
    assert torch.equal(logits(plain), logits(loaded))
    base = load_plain_model(inputs.base.folder, dtype=torch.float32, device=CPU)
    assert not torch.equal(logits(plain), logits(base))


def test_a_prequantized_base_is_taken_as_it_is(
    inputs_of: Callable[[str, str], TrainInputs], snapshot: Callable[[str], Path]
) -> None:
    """Its packed weights are written on unchanged, and quantizing costs nothing."""
    model = inputs_of("nf4_llama", "nf4").model
    assert model.reference_perplexity == model.base_reference_perplexity
    assert model.footprint_bytes == model.base_footprint_bytes
    first = load_file(snapshot("nf4_llama") / "model.safetensors")
    again = load_file(model.folder / "model.safetensors")
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_what_is_not_quantized_is_told(
    snapshot: Callable[[str], Path], reference_text: Source, tmp_path: Path
) -> None:
    """Of gpt-oss the experts: by hand 2 blocks * 4 experts * (64 * 128 + 64 * 64) weights."""
    said: list[str] = []

    class Told(SilentReporter):
        def log(self, message: str) -> None:
            said.append(message)

    work = make_workdir(tmp_path / "work")
    quantize_model(
        QuantizeInputs(
            base=locate_base(str(snapshot("gpt_oss_mxfp4")), None), reference_text=reference_text
        ),
        settings_of(QuantizeSettings, model={"id": "tiny"}, quantization={"kind": "nf4"}),
        Workdir(work.artifact, work.scratch, Told()),
    )
    assert "is stored in MXFP4" in said[0] and "float32" in said[0]
    assert "Not quantized: the experts (98,304 weights)" in said[1]
