"""Training that goes on from the weights of an adapter."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from retune.errors import ConfigError
from retune.inference.loaded_models import load_causal_model
from retune.model_records import AdapterRef, BaseRef, ModelRef
from retune.modeling.methods.apply import apply_method
from retune.modeling.starting import check_start, locate_start
from retune.recipe.sections import LoraConfig
from retune.records import ChatRef
from retune.spine.stage import key_parts
from retune.training.stages import TrainInputs, TrainSettings
from retune.training.stages import train_adapter as train_adapter_stage
from retune.training.supervised import train_adapter
from tests.making import make_workdir, settings_of

CPU = torch.device("cpu")
WEIGHTS = "adapter_model.safetensors"


def section(**training: Any) -> TrainSettings:
    """Two steps at a constant rate, measured before and behind them, without dropout."""
    settings = {"max_steps": 2, "batch_size": 4, "learning_rate": 0.02, "evaluations": 1}
    settings |= {"warmup_steps": 0.0, "schedule": "constant", "keep_best": False, **training}
    found: TrainSettings = settings_of(
        TrainSettings,
        seed=11,
        model={"id": "tiny"},
        quantization={"kind": "none"},
        method={"r": 4, "alpha": 8},
        training=settings,
    )
    return found


@pytest.fixture(scope="module")
def inputs(chats: ChatRef, base: BaseRef, quantize: Callable[[str], ModelRef]) -> TrainInputs:
    return TrainInputs(
        train=chats.side("train"),
        validation=chats.side("validation"),
        base=base,
        model=quantize("none"),
    )


@pytest.fixture(scope="module")
def first(inputs: TrainInputs, tmp_path_factory: pytest.TempPathFactory) -> AdapterRef:
    """Two steps from new weights."""
    return train_adapter(inputs, section(), make_workdir(tmp_path_factory.mktemp("first") / "work"))


def same(path: Path) -> Path:
    return path


def test_training_starts_where_the_adapter_ended_and_moves_on(
    inputs: TrainInputs, first: AdapterRef, tmp_path: Path
) -> None:
    """Before its first step it has the adapter's own loss; behind the second, a lower one."""
    start = locate_start(first.folder, inputs.base, same)
    going_on = inputs.model_copy(update={"start": start})
    second = train_adapter(going_on, section(), make_workdir(tmp_path / "work"))
    assert first.validation_loss is not None
    assert second.validation_loss is not None
    assert second.base_validation_loss == pytest.approx(first.validation_loss, abs=1e-5)
    assert second.validation_loss < first.validation_loss
    assert (first.started_from, second.started_from) == (None, start.digest)
    before, after = (load_file(each.folder / WEIGHTS) for each in (first, second))
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)


def test_the_key_is_of_what_the_adapter_holds(
    inputs: TrainInputs, first: AdapterRef, tmp_path: Path
) -> None:
    """Where it lies does not count; one other weight does."""
    copy = shutil.copytree(first.folder, tmp_path / "copy")

    def parts(folder: Path) -> dict[str, Any]:
        start = locate_start(folder, inputs.base, same)
        settings = section(start_from=str(folder))
        return key_parts(train_adapter_stage, inputs.model_copy(update={"start": start}), settings)

    assert parts(first.folder) == parts(copy)
    weights = load_file(copy / WEIGHTS)
    weights[next(iter(weights))][0, 0] += 1
    save_file(weights, copy / WEIGHTS, metadata={"format": "pt"})
    differing = {k for k, v in parts(copy).items() if v != parts(first.folder)[k]}
    assert differing == {"input.start"}


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_16", "olora", "loftq"])
def test_an_adapter_of_a_changed_base_is_refused(
    inputs: TrainInputs, first: AdapterRef, tmp_path: Path, init: str
) -> None:
    """Its weights stand for what was taken out of the base: over the whole base they say it twice.

    peft writes `init_lora_weights: true` where the adapter was converted on saving.
    """
    copy = shutil.copytree(first.folder, tmp_path / "copy")
    config = json.loads((copy / "adapter_config.json").read_text("utf-8"))
    (copy / "adapter_config.json").write_text(json.dumps({**config, "init_lora_weights": init}))
    with pytest.raises(ConfigError, match=f"was saved with init_lora_weights: {init}"):
        locate_start(copy, inputs.base, same)


@pytest.mark.parametrize(
    ("text", "said"), [("{", "cannot be read as JSON"), ("[]", "expected a JSON object")]
)
def test_an_adapter_with_broken_settings_is_named(
    inputs: TrainInputs, first: AdapterRef, tmp_path: Path, text: str, said: str
) -> None:
    """By its file."""
    copy = shutil.copytree(first.folder, tmp_path / "copy")
    (copy / "adapter_config.json").write_text(text)
    with pytest.raises(ConfigError, match=f"adapter_config.json: {said}"):
        locate_start(copy, inputs.base, same)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"r": 2, "alpha": 8}, "method.r is 2 in the recipe, and 4 there"),
        ({"r": 4, "alpha": 16}, "method.alpha is 16 in the recipe, and 8 there"),
        ({"r": 4, "alpha": 8, "rslora": True}, "method.rslora is True in the recipe, and False"),
        ({"r": 4, "alpha": 8, "dora": True}, "method.dora is True in the recipe"),
        (
            {"r": 4, "alpha": 8, "target_modules": ("q_proj",)},
            r"it has .*, which method does not name",
        ),
        (
            {"r": 4, "alpha": 8, "modules_to_save": ("lm_head",)},
            r"it has no .*lm_head.*, which method names",
        ),
    ],
)
def test_an_adapter_of_another_form_is_refused_by_what_differs(
    first: AdapterRef, base: BaseRef, method: dict[str, Any], said: str
) -> None:
    """Before anything is trained; its own form is taken."""

    def put(settings: dict[str, Any]) -> Any:
        model = load_causal_model(base.folder, dtype=torch.float32, device=CPU)
        return apply_method(model, LoraConfig(**settings))

    check_start(first.folder, put({"r": 4, "alpha": 8, "dropout": 0.1}))
    with pytest.raises(ConfigError, match=said):
        check_start(first.folder, put(method))


def test_what_is_no_adapter_of_this_base_is_refused(
    first: AdapterRef, base: BaseRef, snapshot: Callable[[str], Path], tmp_path: Path
) -> None:
    """A model's folder; another method's; one that names a base with other weights."""
    with pytest.raises(ConfigError, match=r"has no adapter_config\.json and no adapter_model"):
        locate_start(base.folder, base, same)
    copy = shutil.copytree(first.folder, tmp_path / "copy")
    path = copy / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(config | {"base_model_name_or_path": str(snapshot("qwen3"))}))
    with pytest.raises(ConfigError, match=r"was trained over .*whose content is not that of"):
        locate_start(copy, base, same)
    path.write_text(json.dumps(config | {"peft_type": "PREFIX_TUNING"}))
    with pytest.raises(ConfigError, match="is an adapter of kind PREFIX_TUNING; expected LORA"):
        locate_start(copy, base, same)
