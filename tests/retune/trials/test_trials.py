"""What a trial is: methods, variants, and recipes that are all checked before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from retune import clusters
from retune.errors import ConfigError, ServiceError
from retune.recipe.sections import RunnerConfig
from retune.trials.checking import Spreading, check_runner, choose_spreading
from retune.trials.trials import LoadedTrial, Trial, load_trials, plan_methods
from tests.waiting import closed_port


def write_recipe(folder: Path, **sections: Any) -> Path:
    """Write a recipe whose files need not exist."""
    recipe = {
        "name": "small",
        "data": {"train": "rows.jsonl"},
        "model": {"id": "model"},
        "registry": {"model_name": "small"},
        **sections,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    return path


def settings(each: LoadedTrial) -> tuple[str, str, float]:
    """Return kind, quantization and learning rate."""
    recipe = each.loaded.recipe
    return recipe.method.kind, recipe.quantization.kind, recipe.training.learning_rate


def test_a_method_brings_what_it_needs_of_the_base(tmp_path: Path) -> None:
    """Full and lora over plain weights, qlora over 4 bits, whatever the recipe says."""
    recipe = write_recipe(tmp_path, quantization={"kind": "nf4"}, training={"learning_rate": 0.1})
    found = plan_methods(recipe, ["full", "lora", "qlora", "prompt"])
    assert [settings(each) for each in found] == [
        ("full", "none", 0.1),
        ("lora", "none", 0.1),
        ("lora", "nf4", 0.1),  # as the recipe stands: its own runs are reused
        ("prompt", "nf4", 0.1),
    ]


def test_lora_and_qlora_keep_the_recipes_rank(tmp_path: Path) -> None:
    """Their other settings are the recipe's, not the defaults."""
    plain = {"kind": "none"}
    recipe = write_recipe(tmp_path, method={"kind": "lora", "r": 3}, quantization=plain)
    lora, qlora = plan_methods(recipe, ["lora", "qlora"])
    assert lora.trial.overrides == ()
    assert qlora.loaded.recipe.method.r == 3  # type: ignore[union-attr]


def test_a_variant_called_like_a_method_says_how_it_is_trained(tmp_path: Path) -> None:
    """It comes on top of the variants that the user chose."""
    variants = {
        "tiny": {"training.max_steps": 2, "training.learning_rate": 0.5},
        "full": {"method": {"kind": "full"}, "training.learning_rate": 0.001},
        "wide": {"method.r": 64},
    }
    recipe = write_recipe(tmp_path, variants=variants, quantization={"kind": "none"})
    full, lora, wide = plan_methods(recipe, ["full", "lora", "wide"], ["variant=tiny"])
    assert settings(full) == ("full", "none", 0.001)
    assert full.loaded.recipe.training.max_steps == 2
    assert settings(lora) == ("lora", "none", 0.5)
    assert wide.loaded.recipe.method.r == 64  # type: ignore[union-attr]


def test_a_method_may_have_a_variant_of_its_own_at_a_scale(tmp_path: Path) -> None:
    """tiny, then full, then tiny_full: 1e-5 suits full at its size, 0.004 the tiny model."""
    variants = {
        "tiny": {"training.learning_rate": 0.01, "training.max_steps": 2},
        "full": {"method": {"kind": "full"}, "training.learning_rate": 1.0e-5},
        "tiny_full": {"training.learning_rate": 0.004},
    }
    recipe = write_recipe(tmp_path, variants=variants, quantization={"kind": "none"})
    full, lora = plan_methods(recipe, ["full", "lora"], ["variant=tiny"])
    assert settings(full) == ("full", "none", 0.004)
    assert settings(lora) == ("lora", "none", 0.01)
    assert settings(plan_methods(recipe, ["full", "lora"])[0]) == ("full", "none", 1.0e-5)


def test_a_key_that_only_the_trials_methods_have_may_be_set(tmp_path: Path) -> None:
    """The recipe trains LoRA, which has no virtual tokens; both trials do."""
    recipe = write_recipe(tmp_path, method={"kind": "lora"}, quantization={"kind": "none"})
    found = plan_methods(recipe, ["prefix", "prompt"], ["method.virtual_tokens=7"])
    assert [each.loaded.recipe.method.virtual_tokens for each in found] == [7, 7]  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"(?s)trial lora: .*method\.virtual_tokens"):
        plan_methods(recipe, ["lora", "prompt"], ["method.virtual_tokens=7"])


def test_what_the_user_sets_wins_over_what_a_method_brings(tmp_path: Path) -> None:
    """--set stands after the method's own overrides."""
    recipe = write_recipe(tmp_path)
    found = plan_methods(recipe, ["qlora", "full"], ["training.learning_rate=0.2"])
    assert [settings(each)[2] for each in found] == [0.2, 0.2]


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        (["lora", "lorra"], r"no method lorra\. Methods: lora, qlora, full,.*variants: mine"),
        (["lora"], "at least two"),
        (["lora", " lora", ""], "at least two"),
    ],
)
def test_unknown_or_too_few_methods_are_refused(
    tmp_path: Path, methods: list[str], told: str
) -> None:
    """The message lists what there is."""
    recipe = write_recipe(tmp_path, variants={"mine": {"seed": 1}})
    with pytest.raises(ConfigError, match=told):
        plan_methods(recipe, methods)


def test_all_wrong_trials_are_told_at_once(tmp_path: Path) -> None:
    """Two trials with one fault share its message; a third has its own."""
    recipe = write_recipe(tmp_path)
    trials = [
        Trial(name="a", overrides=("method.rank=4",)),
        Trial(name="b", overrides=("method.rank=4",)),
        Trial(name="c", overrides=("training.learning_rate=fast",)),
        Trial(name="d", overrides=()),
    ]
    with pytest.raises(ConfigError) as refused:
        load_trials(recipe, trials)
    message = refused.value.message
    assert "trials a, b: " in message and "method.rank" in message
    assert "trial c: " in message and "training.learning_rate" in message
    assert "trial d" not in message


def test_trials_are_told_apart_by_settings_alone(tmp_path: Path) -> None:
    """The same settings, once by a variant and once by --set, in another store."""
    recipe = write_recipe(tmp_path, variants={"low": {"method.r": 4}})
    one, other, third = load_trials(
        recipe,
        [
            Trial(name="a", overrides=("variant=low",)),
            Trial(name="b", overrides=("method.r=4", "store.folder=elsewhere")),
            Trial(name="c", overrides=("method.r=8",)),
        ],
    )
    assert one.digest == other.digest != third.digest


@pytest.mark.parametrize(
    ("spreading", "told"),
    [
        (Spreading(workers=2), "needs --runner"),
        (Spreading("dask", 0), "at least 1"),
        (Spreading("ray"), r"pip install 'retune\[ray\]'"),
    ],
)
def test_a_runner_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, spreading: Spreading, told: str
) -> None:
    """The message says what to install."""
    monkeypatch.setattr(clusters, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=told):
        check_runner(spreading)


@pytest.mark.parametrize("address", ["auto", "host", "ray://host", "host:no", "host:99999999"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """Expected is host and port, whichever the engine."""
    with pytest.raises(ConfigError, match=f"runner.address: found {address}, expected host and"):
        check_runner(Spreading("dask", None, address))


def test_a_cluster_that_does_not_answer_is_told_before_anything_starts() -> None:
    """Exit code 7, as for other services."""
    with (
        closed_port() as port,
        pytest.raises(ServiceError, match=r"nobody answers at tcp://127\.0\.0\.1") as told,
    ):
        check_runner(Spreading("dask", None, f"tcp://127.0.0.1:{port}"))
    assert told.value.exit_code == 7


def test_a_trial_has_its_place_on_the_cluster_already(tmp_path: Path) -> None:
    """A number of the cluster's devices is for one training alone; this machine's is kept."""
    recipe = write_recipe(tmp_path, training={"batch_size": 8, "devices": 4})
    here = Trial(name="here", overrides=("runner.kind=ray",))
    there = Trial(name="there", overrides=(*here.overrides, "runner.address=head:6379"))
    found = {each.trial.name: each.loaded.recipe for each in load_trials(recipe, [here, there])}
    assert found["here"].training.devices == 4
    assert found["there"].training.devices == "auto"
    assert found["there"].training_cluster is None


def test_the_command_line_wins_over_the_recipes_runner() -> None:
    """Another engine than the recipe's has nothing of its address."""
    config = RunnerConfig(kind="ray", address="head:6379", workers=3)
    assert choose_spreading(config) == Spreading("ray", 3, "head:6379")
    assert choose_spreading(config, "ray", 5) == Spreading("ray", 5, "head:6379")
    assert choose_spreading(config, "dask") == Spreading("dask")
    assert choose_spreading(RunnerConfig()) == Spreading()


def test_an_address_without_an_engine_is_refused() -> None:
    """It would silently be of no use."""
    with pytest.raises(ValidationError, match=r"runner.address: needs runner.kind"):
        RunnerConfig(address="head:6379")
