"""What is known of a method from a model's configuration alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retune.errors import ConfigError
from retune.modeling.methods.fitting import check_method
from retune.records import BaseRef, MethodFit, SideRef
from retune.requests import MethodInputs, MethodSection
from retune.stage import Workdir
from tests.making import section_of
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
    ) -> MethodFit:
        folder = snapshots(family)
        sides = {}
        for name, count in (("train", 1), ("validation", 0)):
            sides[name] = SideRef(digest=name, folder=tmp_path / name)
            shutil.rmtree(sides[name].folder, ignore_errors=True)
            sides[name].folder.mkdir()
            rows = {"prompt_ids": [[1] * (tokens - 2)] * count, "answer_ids": [[1] * 2] * count}
            types = pa.schema([(column, pa.list_(pa.int32())) for column in rows])
            pq.write_table(pa.table(rows, schema=types), sides[name].folder / "rows.parquet")
        base = BaseRef(
            digest="b", folder=folder, model_id=family, revision=None, tokenizer_digest="t"
        )
        section = section_of(
            MethodSection,
            method=method,
            quantization={"kind": quantization},
            head=head,  # type: ignore[arg-type]
            training={},
        )
        return check_method(
            MethodInputs(base=base, **sides),
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
    assert check({"kind": "prompt", "virtual_tokens": 12}, tokens=2036).trainable_parameters
    with pytest.raises(ConfigError, match="Write at most 12"):
        check({"kind": "prompt", "virtual_tokens": 13}, tokens=2036)


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
def test_every_family_can_be_sketched(
    check: Check, family: str, head: dict[str, Any] | None
) -> None:
    """With a head too, from its configuration alone."""
    found = check({"r": 2}, family=family, quantization="nf4", head=head)
    assert 0 < found.trainable_parameters < found.total_parameters
