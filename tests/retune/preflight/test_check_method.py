"""What is known of a method from a model's configuration alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from retune.errors import ConfigError
from retune.model_records import BaseRef, MethodFit
from retune.preflight.check_method import check_method
from retune.preflight.stages import MethodInputs, MethodSettings
from retune.records import SideRef
from retune.spine.stage import Workdir
from tests.making import settings_of, source_of
from tests.tiny_models import write_snapshot

Check = Callable[..., MethodFit]


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Snapshots of families, of which the configuration and the tokenizer are left."""
    root = tmp_path_factory.mktemp("snapshots")

    def write(family: str) -> Path:
        folder = root / family
        if not folder.exists():
            write_snapshot(folder, family)
            for path in folder.glob("*.safetensors"):
                path.unlink()
        return folder

    return write


@pytest.fixture
def check(snapshots: Callable[[str], Path], tmp_path: Path) -> Check:
    """Check a method on a family; rows are of 12 tokens with their answer."""

    def run(
        method: dict[str, Any],
        family: str = "llama",
        quantization: str = "none",
        head: dict[str, Any] | None = None,
        tokens: int = 12,
        token: int = 1,
        folder: Path | None = None,
        more: dict[str, Any] | None = None,
        **sections: dict[str, Any],
    ) -> MethodFit:
        folder = folder or snapshots(family)
        sides = {}
        for name, count in (("train", 1), ("validation", 0), ("test", 1)):
            sides[name] = SideRef(digest=name, folder=tmp_path / name)
            shutil.rmtree(sides[name].folder, ignore_errors=True)
            sides[name].folder.mkdir()
            rows = {"prompt_ids": [[1] * (tokens - 2)] * count, "answer_ids": [[1, token]] * count}
            types = pa.schema([(column, pa.list_(pa.int32())) for column in rows])
            pq.write_table(pa.table(rows, schema=types), sides[name].folder / "rows.parquet")
        base = BaseRef(
            digest="b", folder=folder, model_id=family, revision=None, tokenizer_digest="t"
        )
        section = settings_of(
            MethodSettings,
            method=method,
            quantization={"kind": quantization},
            **{"scoring": {"max_new_tokens": 8}, **sections},
        )
        return check_method(
            MethodInputs(base=base, has_head=head is not None, **sides, **(more or {})),
            section,
            Workdir(tmp_path / "artifact", tmp_path / "scratch"),
        )

    return run


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"target_modules": ["nope"]}, "nope match no layer of this model. It has: down_proj,"),
        ({"r": 64}, "64 is larger than the smaller side of model.layers.0.self_attn.k_proj"),
        ({"modules_to_save": ["nope"]}, "method.modules_to_save: nope matches no module"),
        ({"trainable_tokens": ["two words"]}, "is not one token of the tokenizer"),
        ({"kind": "bottleneck", "size": 64}, "64 is no bottleneck in a model that is 64 wide"),
        ({"kind": "prompt", "virtual_tokens": 2048}, "over the model's context of 2048"),
    ],
    ids=["targets", "rank", "whole", "token", "bottleneck", "prompt"],
)
def test_a_method_that_does_not_fit_is_refused_without_weights(
    check: Check, method: dict[str, Any], said: str, quantization: str
) -> None:
    """By the message of the training, over a base that will be quantized too."""
    with pytest.raises(ConfigError, match=said):
        check(method, quantization=quantization)


def test_a_layer_that_will_be_quantized_is_not_trained_as_a_whole(check: Check) -> None:
    """Unquantized it may be."""
    method = {"modules_to_save": ["down_proj"], "target_modules": ["q_proj"], "r": 2}
    assert check(method).trainable_parameters
    with pytest.raises(ConfigError, match="down_proj is quantized"):
        check(method, quantization="nf4")


def test_a_family_that_a_method_breaks_on_is_refused(check: Check) -> None:
    """Prefix tuning where layers attend to a window; olora where weights are transposed."""
    with pytest.raises(ConfigError, match="prefix does not fit gemma3_text"):
        check({"kind": "prefix"}, family="gemma3_image_text")
    with pytest.raises(ConfigError, match="olora does not work on"):
        check({"init": "olora", "r": 2}, family="gpt2")


def test_rows_without_room_for_learned_positions_are_refused(check: Check) -> None:
    """A context of 2,048: 2,036 tokens of text leave 12."""
    room = {"scoring": {"max_new_tokens": 1}}
    assert check({"kind": "prompt", "virtual_tokens": 12}, tokens=2036, **room).trainable_parameters
    with pytest.raises(ConfigError, match="Write at most 12"):
        check({"kind": "prompt", "virtual_tokens": 13}, tokens=2036, **room)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_targeted_layer_is_found_whether_it_will_be_quantized_or_not(
    check: Check, quantization: str
) -> None:
    """Two blocks, q_proj of 64 x 64, rank 3: 2 * 3 * (64 + 64)."""
    found = check({"target_modules": ["q_proj"], "r": 3}, quantization=quantization)
    assert found.trainable_parameters == 2 * 3 * (64 + 64)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_dora_fits_a_base_that_will_be_quantized(check: Check, family: str) -> None:
    """It asks each layer for its weights as numbers, which a packed one does not have.

    Inputs and outputs of a block sum up to 1,024 in both; 2 blocks of rank 2, and one figure for
    each output: 2 * (64 + 64 + 32 + 32 + 128 + 128 + 64) of Llama, 2 * (192 + 64 + 256 + 64) of
    GPT-2.
    """
    outputs = {"llama": 1_024, "gpt2": 1_152}[family]
    found = check({"r": 2, "dora": True}, family, "nf4")
    assert found.trainable_parameters == 2 * 2 * 1_024 + outputs


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_head_is_trained_as_a_whole_beside_an_adapter(check: Check, quantization: str) -> None:
    """Two labels over a width of 64 beside the adapters of the test above."""
    found = check({"target_modules": ["q_proj"], "r": 3}, quantization=quantization, head={})
    assert found.trainable_parameters == 2 * 3 * (64 + 64) + 2 * 64


def test_a_head_alone_is_all_that_a_frozen_base_trains(check: Check) -> None:
    """Two labels over a width of 64."""
    assert check({"kind": "frozen"}, head={}).trainable_parameters == 2 * 64


@pytest.mark.parametrize(
    "family", ["gpt2", "qwen3", "gemma3", "gemma3_image_text", "gpt_oss_mxfp4"]
)
@pytest.mark.parametrize("head", [None, {}], ids=["writes", "head"])
def test_every_family_has_a_meta_model(
    check: Check, family: str, head: dict[str, Any] | None
) -> None:
    """With a head too, from its configuration alone."""
    found = check({"r": 2}, family=family, quantization="nf4", head=head)
    assert 0 < found.trainable_parameters < found.total_parameters


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_image_text"])
def test_a_token_without_a_row_in_the_model_is_refused(
    check: Check, snapshots: Callable[[str], Path], family: str, tmp_path: Path
) -> None:
    """Added to the tokenizer alone: refused where a row has it, however the model is trained."""
    folder = shutil.copytree(snapshots(family), tmp_path / "added")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = len(tokenizer)
    tokenizer.add_tokens(["<preco>"])
    tokenizer.save_pretrained(folder)
    assert check({"r": 2}, folder=folder, token=rows - 1).trainable_parameters
    for head in (None, {}):
        with pytest.raises(ConfigError, match=rf"a row of the t.*has the token <preco> \({rows:,}"):
            check({"r": 2}, folder=folder, tokens=2 if head is not None else 12, token=rows)


@pytest.mark.parametrize("kind", ["reference", "probes", "counterfactuals"])
def test_every_text_that_a_model_reads_is_looked_through(
    check: Check, snapshots: Callable[[str], Path], kind: str, tmp_path: Path
) -> None:
    """The rows do not have the token; what losses are measured on and what is asked do."""
    folder = shutil.copytree(snapshots("llama"), tmp_path / "added")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<preco>"])
    tokenizer.save_pretrained(folder)
    files = {
        "reference": json.dumps({"text": "custa <preco> 3"}),
        "probes": PROBES,
        "counterfactuals": PAIRS,
    }
    path = tmp_path / f"{kind}.yaml"
    path.write_text(files[kind], "utf-8")
    source = source_of(path)
    more = {"texts": (source,)} if kind == "reference" else {kind: source}
    assert check({"r": 2}, more=more, probes={"file": "x"}).trainable_parameters
    with pytest.raises(ConfigError, match="has the token <preco>"):
        check({"r": 2}, folder=folder, more=more, probes={"file": "x"})


PROBES = """
categories:
  prices:
    - {id: a, input: "what is <preco>?", forbidden_words: [x]}
"""
PAIRS = """
counterfactuals:
  jobs:
    groups: {one: [he], two: [she]}
    templates: [{id: t, template: "{person} asks for <preco>."}]
    hit_words: [x]
"""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pad_token_id": -1}, "pad_token_id in generation_config.json is -1"),
        ({"eos_token_id": [1, 999_999]}, "eos_token_id in generation_config.json is 999999"),
        ({"bos_token_id": 999_999}, None),
    ],
)
def test_ids_of_the_generation_settings_are_looked_at(
    check: Check,
    snapshots: Callable[[str], Path],
    settings: dict[str, Any],
    said: str | None,
    tmp_path: Path,
) -> None:
    """Padding and end tokens, which a release takes over; nothing here begins with another."""
    folder = shutil.copytree(snapshots("llama"), tmp_path / "copy")
    (folder / "generation_config.json").write_text(json.dumps(settings), "utf-8")
    if said is None:
        assert check({"r": 2}, folder=folder).trainable_parameters
        return
    with pytest.raises(ConfigError, match=said):
        check({"r": 2}, folder=folder)


@pytest.mark.parametrize(
    ("family", "tokens", "sections", "said"),
    [
        ("gpt2", 1025, {}, "a row of the train side has 1,025 tokens, over .* context of 1,024"),
        ("llama", 2049, {}, "a row of the train side has 2,049 tokens"),
        (
            "gpt2",
            1019,
            {},
            "1,017 tokens; with scoring.max_new_tokens = 8 .* Write scoring.max_n.*7",
        ),
        ("gpt2", 1018, {}, None),
        ("gpt2", 1010, {"grpo": {"max_new_tokens": 17}}, "with grpo.max_new_tokens = 17"),
        ("gpt2", 1010, {"grpo": {"max_new_tokens": 16}}, None),
    ],
)
def test_what_is_longer_than_the_context_is_refused(
    check: Check, family: str, tokens: int, sections: dict[str, Any], said: str | None
) -> None:
    """Rows, prompts with what is written behind them, and answers that are rewarded.

    Two tokens of a row are its answer: 1,018 leave 1,016 of prompt and 8 to write in 1,024.
    """
    if said is None:
        assert check({"r": 2}, family, tokens=tokens, **sections).trainable_parameters
        return
    with pytest.raises(ConfigError, match=said):
        check({"r": 2}, family, tokens=tokens, **sections)


def test_prompts_that_nobody_answers_need_no_room_for_an_answer(check: Check) -> None:
    """With a head, or where classes are told by their likelihood."""
    assert check({"r": 2}, "gpt2", tokens=1024, more={"writes": False}).trainable_parameters
    assert check({"r": 2}, "gpt2", tokens=1024, head={}).trainable_parameters


@pytest.mark.parametrize("kind", ["p_tuning", "prefix"])
def test_learned_positions_take_room_from_an_answer(check: Check, kind: str) -> None:
    """10 of 1,024: 1,006 of prompt and 8 to write fit, 1,007 do not."""
    method = {"kind": kind, "virtual_tokens": 10}
    assert check(method, "gpt2", tokens=1008).trainable_parameters
    with pytest.raises(ConfigError, match=r"context of 1,014 \(1,024 less 10 learned positions"):
        check(method, "gpt2", tokens=1009)


def test_probes_are_asked_within_the_context(check: Check, tmp_path: Path) -> None:
    """A question of a few tokens leaves no 1,020 of 1,024."""
    path = tmp_path / "probes.yaml"
    path.write_text(PROBES, "utf-8")
    more = {"probes": source_of(path)}
    asked = {"file": "x", "max_new_tokens": 1020}
    with pytest.raises(ConfigError, match=r"probes.file has .* with probes.max_new_tokens = 1020"):
        check({"r": 2}, "gpt2", more=more, probes=asked)
    assert check({"r": 2}, "gpt2", more=more, probes=asked | {"max_new_tokens": 500})
