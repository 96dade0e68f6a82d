"""GGUF files: every weight where llama.cpp looks for it, the same answers, or a clear refusal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from retune.errors import ArtifactError, ConfigError
from retune.publishing.choices import NumberType
from retune.publishing.gguf_files.converting import resolve_type, write_gguf
from retune.publishing.gguf_files.families import family_of
from retune.publishing.gguf_files.tensors import interleave, rope_factors
from retune.publishing.gguf_files.verifying import compare_weights, rounding_bound
from retune.publishing.gguf_files.vocabulary import name_pre_tokenizer
from retune.registry.versions.descriptions import VersionDescription
from tests.retune.publishing.test_exporting import export
from tests.tiny_models import REPOSITORY, TOKENIZER

Snapshot = Callable[[str], Path]
Describe = Callable[[str], VersionDescription]
CONFIG = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1, "vocab_size": 300}


def written(folder: Path, target: Path, number_type: NumberType = "f32") -> Path:
    write_gguf(folder, folder, target, number_type=number_type, name="tiny")
    return target


def test_rotated_pairs_lie_beside_each_other() -> None:
    """Two heads of width 4: rows 0 and 2 of each are a pair, and so are 1 and 3."""
    rows = np.arange(8, dtype=np.float32).reshape(8, 1)

    assert interleave(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert interleave(rows[:, 0], 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


@pytest.mark.parametrize("family", ["llama", "tied_llama", "qwen3"])
def test_a_file_says_what_the_snapshot_says(
    family: str, snapshot: Snapshot, tmp_path: Path
) -> None:
    """By transformers' own reader of such files: equal logits, with and without untied outputs.

    It reads the settings of a Llama too; of a Qwen 3 it does not read how wide a head is.
    """
    folder = snapshot(family)
    written(folder, tmp_path / "model.gguf")
    ids = torch.tensor([[5, 80, 300, 17, 42, 99]])

    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    settings = {} if "llama" in family else {"config": AutoConfig.from_pretrained(folder)}
    read = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32, **settings
    )

    with torch.no_grad():
        assert torch.allclose(plain(ids).logits, read(ids).logits, atol=1e-5)
    assert compare_weights(tmp_path / "model.gguf", folder) == 0.0


@pytest.mark.parametrize(
    ("number_type", "bits"), [("f32", 32), ("bf16", 16), ("f16", 16), ("q8_0", 8.5)]
)
def test_each_number_type_rounds_once(
    number_type: NumberType, bits: float, snapshot: Snapshot, tmp_path: Path
) -> None:
    """No weight is further off than half a step, and matrices take the bits that they should."""
    folder = snapshot("llama")
    file = written(folder, tmp_path / "model.gguf", number_type)

    assert 0.0 <= compare_weights(file, folder) <= 1.0
    tensors = {each.name: each for each in GGUFReader(file).tensors}
    matrix = tensors["blk.0.attn_q.weight"]
    assert matrix.n_bytes * 8 == bits * matrix.n_elements
    assert tensors["output_norm.weight"].tensor_type.name == "F32"


def test_bounds_are_half_steps() -> None:
    """Of 1.0: bfloat16 keeps 8 bits, so that its next value is 2^-7 away; float16's is 2^-10."""
    one = np.ones(32, dtype=np.float32)

    assert rounding_bound(one, "F32").max() == 0.0
    assert rounding_bound(one, "BF16").max() == pytest.approx(2**-8, rel=1e-5)
    assert rounding_bound(one, "F16").max() == pytest.approx(2**-11, rel=1e-4)
    assert rounding_bound(one, "Q8_0").max() == pytest.approx(0.5 / 127 + 2**-11, rel=1e-3)


def test_the_tokenizer_is_in_the_file(tmp_path: Path) -> None:
    """Tokens in their order, merges, ends, the template, and how text is parted first."""
    file = written(TOKENIZER, tmp_path / "model.gguf", "bf16")

    fields = {name: field.contents() for name, field in GGUFReader(file).fields.items()}
    expected = json.loads((TOKENIZER / "tokenizer.json").read_text("utf-8"))["model"]
    assert {text: i for i, text in enumerate(fields["tokenizer.ggml.tokens"])}.items() >= (
        expected["vocab"].items()
    )
    assert fields["tokenizer.ggml.merges"] == [" ".join(pair) for pair in expected["merges"]]
    assert fields["tokenizer.ggml.pre"] == "smollm"
    assert fields["tokenizer.ggml.eos_token_id"] == 1
    assert fields["tokenizer.ggml.token_type"][1] == 3
    assert fields["tokenizer.ggml.add_bos_token"] is False
    template = (TOKENIZER / "chat_template.jinja").read_text("utf-8")
    assert fields["tokenizer.chat_template"] == template
    assert (fields["llama.block_count"], fields["llama.attention.head_count"]) == (4, 8)
    assert fields["llama.rope.freq_base"] == 10000.0


def test_a_weight_that_changed_on_the_way_is_found(snapshot: Snapshot, tmp_path: Path) -> None:
    """One bit of one weight."""
    file = written(snapshot("llama"), tmp_path / "model.gguf")
    tensor = next(t for t in GGUFReader(file).tensors if t.name == "blk.1.ffn_up.weight")
    content = bytearray(file.read_bytes())
    # The lowest bit of the exponent of some value doubles or halves it.
    content[tensor.data_offset + 2] ^= 0x80
    file.write_bytes(content)

    with pytest.raises(ArtifactError, match=r"blk.1.ffn_up.weight is further off than F32 rounds"):
        compare_weights(file, snapshot("llama"))


def test_query_rows_out_of_order_are_found(
    snapshot: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that was written is undone in another way than it was made."""
    monkeypatch.setattr(
        "retune.publishing.gguf_files.tensors.interleave", lambda values, heads: values
    )
    file = written(snapshot("llama"), tmp_path / "model.gguf")

    with pytest.raises(ArtifactError, match=r"attn_k.weight is further off"):
        compare_weights(file, snapshot("llama"))


def test_long_contexts_of_llama_3_are_stretched() -> None:
    """Llama 3.1's factors: short waves stay, those longer than the old context are 8 times longer.

    Width 16, theta 10,000: wave lengths are 2 pi * 10000^(i/8), the first 6.3 and the last 19,869;
    the old context of 256 over low_freq_factor 1 and high_freq_factor 4 puts the bounds at 256
    and 64.
    """
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    }
    config = LlamaConfig(**CONFIG, rope_parameters=rope, max_position_embeddings=2048)

    factors = rope_factors(config)

    assert factors is not None and factors.shape == (8,)
    # 6.3 and 19.9 are under 64; 628 and more are over 256.
    assert factors[:2].tolist() == pytest.approx([1.0, 1.0])
    assert factors[4:].tolist() == pytest.approx([8.0] * 4)
    assert rope_factors(LlamaConfig(**CONFIG)) is None


@pytest.mark.parametrize(
    ("family", "said"), [("gemma3", "model type gemma3_text"), ("gpt2", "model type gpt2")]
)
def test_an_unknown_family_is_refused_by_name(family: str, said: str, snapshot: Snapshot) -> None:
    """With what could be done in its place."""
    with pytest.raises(ConfigError, match=rf"{said}.*--converter"):
        family_of(AutoConfig.from_pretrained(snapshot(family)))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope_type yarn"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "activation gelu"),
    ],
)
def test_what_the_format_cannot_say_is_refused(changed: dict[str, object], said: str) -> None:
    """A file without it would load, and answer wrongly."""
    with pytest.raises(ConfigError, match=said):
        family_of(LlamaConfig(**CONFIG, **changed))


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("pre_tokenizer", {"type": "Whitespace"}, "no name for"),
        ("normalizer", {"type": "Lowercase"}, "rewrites text first"),
        ("model", {"type": "WordPiece"}, "of the kind WordPiece"),
        ("model", {"type": "BPE", "byte_fallback": True}, "of the kind SentencePiece"),
        ("model", {"type": "BPE", "ignore_merges": True}, "words that are tokens"),
    ],
)
def test_a_tokenizer_that_would_be_read_otherwise_is_refused(
    part: str, value: object, said: str, tmp_path: Path
) -> None:
    """llama.cpp takes a name for how text is parted, and none fits."""
    found = json.loads((TOKENIZER / "tokenizer.json").read_text("utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(found | {part: value}))

    assert name_pre_tokenizer(TOKENIZER) == "smollm"
    with pytest.raises(ConfigError, match=said):
        name_pre_tokenizer(tmp_path)


def test_the_number_type_follows_the_weights(snapshot: Snapshot) -> None:
    """bfloat16 is kept as it is; what is asked for is what is written."""
    base = AutoConfig.from_pretrained(REPOSITORY / "assets" / "base_tiny")

    assert resolve_type("auto", base) == "bf16"
    assert resolve_type("auto", LlamaConfig(**CONFIG, dtype="float32")) == "f16"
    assert resolve_type("q8_0", base) == "q8_0"


def test_a_version_is_exported_as_one_file(
    describe: Describe, target: Path, tmp_path: Path
) -> None:
    """Named by model, version and number type; bfloat16 weights are not rounded at all."""
    found = export(describe("merged"), target, tmp_path, form="gguf")

    assert {*found.files} == {"README.md", "merged-1-BF16.gguf"}
    assert found.proof is not None
    assert found.proof.max_weight_difference == 0.0
    assert found.proof.answers_equal == found.proof.prompts
    assert "llama-cli --model merged-1-BF16.gguf" in (target / "README.md").read_text("utf-8")


def test_a_bundle_is_no_gguf_file(describe: Describe, target: Path, tmp_path: Path) -> None:
    """Its base alone would be another model."""
    with pytest.raises(ConfigError, match="no merged weights to export --as gguf"):
        export(describe("bundled"), target, tmp_path, form="gguf")


CONVERTER = """
import shutil, sys
from pathlib import Path
values = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert (Path(sys.argv[1]) / "tokenizer.json").is_file()
assert (values["--outtype"], values["--model-name"]) == ("bf16", "merged")
{action}
"""


def test_llama_cpps_converter_may_write_the_file(
    describe: Describe, target: Path, tmp_path: Path
) -> None:
    """It is given weights and tokenizer in one folder, and what it wrote is proved all the same."""
    version = describe("merged")
    right = tmp_path / "right.gguf"
    located = version.located
    write_gguf(located.weights, located.tokenizer, right, number_type="bf16", name="merged")
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text(
        CONVERTER.format(action=f'shutil.copyfile({str(right)!r}, values["--outfile"])')
    )

    found = export(version, target, tmp_path, form="gguf", converter=script)

    assert found.proof is not None and found.proof.answers_equal == found.proof.prompts
    shutil.rmtree(target)
    script.write_text(CONVERTER.format(action='sys.exit("no such layer")'))
    with pytest.raises(ArtifactError, match=r"exit code 1(.|\n)*no such layer"):
        export(version, target, tmp_path, form="gguf", converter=script)
    assert not target.exists()
    with pytest.raises(ConfigError, match="no such file"):
        export(version, target, tmp_path, form="gguf", converter=tmp_path / "gone.py")
