"""The plan of memory: each stage where it fits, one form for all that are compared, or a no."""

from __future__ import annotations

from typing import Any

import pytest

from retune.errors import ConfigError, DoesNotFit
from retune.machine import Device
from retune.modeling.memory.memory_estimate import BatchShape, FurtherEstimates, MemoryEstimate
from retune.modeling.memory.stage_sizes import JudgeSizes, StageSizes
from retune.modeling.placement import FormSizes, Room
from retune.preflight.memory_plan import MemoryPlan, refuse_unplanned
from retune.preflight.planning import LIBRARIES, find_room, list_forms, plan_stages
from retune.recipe.recipe import Recipe

MB = 1000**2
GPU = Device(name="cuda", bfloat16=True, present=False)
CPU = Device(name="cpu", bfloat16=False)


def sized(weights: int, largest: int, working: int) -> FormSizes:
    return FormSizes(weights=weights * MB, largest=largest * MB, working=working * MB)


# 6 GB in 16 bits and 2 GB in 4, as a model of 3 billion weights has.
SIZES = StageSizes(
    digest="s",
    scored={"plain": sized(6000, 600, 500), "nf4": sized(2000, 600, 500)},
    reference=sized(6000, 600, 300),
    checked=sized(12_000, 1200, 400),
    written=sized(2000, 600, 0),
    block_bytes=100 * MB,
)


def training(device: str = "cuda") -> MemoryEstimate:
    """2,000 MB of weights, 40 of an adapter, 40 of gradients, 20 of Adam; 1,500 of the rest."""
    parts = {"weights": 2000, "adapter": 40, "gradients": 40, "optimizer": 20}
    parts |= {"activations": 1000, "logits": 400, "working": 100, "runtime": 0}
    return MemoryEstimate(
        **{name: size * MB for name, size in parts.items()},
        trainable_parameters=1,
        total_parameters=2,
        batch=BatchShape(rows=1, tokens=256, answer_tokens=8),
        device=device,
    )


def recipe(**sections: Any) -> Recipe:
    body: dict[str, Any] = {
        "name": "x",
        "data": {"train": "rows.jsonl"},
        "model": {"id": "base"},
        "quantization": {"kind": "nf4"},
        "method": {"kind": "qlora"},
        "merge": {"max_shard_size": "500MB"},
        "registry": {"model_name": "x"},
    }
    return Recipe.model_validate({**body, **sections})


def plan(memory: str, ram: str, of: Device = GPU, **sections: Any) -> MemoryPlan:
    section = {"memory": memory, "ram": ram, **sections.pop("device", {})}
    asked = recipe(device=section, **sections)
    room, forms = find_room(asked, of), list_forms(asked, of, "none")
    return plan_stages(SIZES, training(of.name), asked, room, forms)


def plan_judged(memory: str, ram: str, judge: JudgeSizes) -> MemoryPlan:
    """Plan a run whose answers a model of this machine judges."""
    asked = recipe(device={"memory": memory, "ram": ram})
    room, forms = find_room(asked, GPU), list_forms(asked, GPU, "none")
    return plan_stages(SIZES, training(), asked, room, forms, judge=judge)


def held(found: MemoryPlan) -> dict[str, tuple[str, str]]:
    return {each.stage: (each.held.form, each.held.placement) for each in found.stages}


def test_where_everything_fits_models_are_held_as_they_are_stored() -> None:
    """Scored plain, as without a plan; the adapter over the weights that it was trained over."""
    found = plan("24GB", "64GB")
    assert found.fits and found.form == "plain"
    assert {place for _, place in held(found).values()} == {"device", "cpu"}
    assert held(found)["score adapter"] == ("nf4", "device")
    assert held(found)["score base"] == held(found)["score merged"] == ("plain", "device")
    assert [name for name, way in held(found).items() if way[1] == "cpu"] == ["check_method"]


def test_a_small_card_scores_all_models_in_four_bits_and_merges_beside_the_disk() -> None:
    """6 GB hold no 7.15 (0.65 are CUDA's): the plain base is read by layers, or from the CPU."""
    found = plan("6GB", "16GB")
    ways = held(found)
    assert found.fits and found.form == "nf4"
    assert ways["score base"] == ways["score merged"] == ways["score adapter"] == ("nf4", "device")
    assert ways["quantize_model"] == ways["merge_adapter"] == ("plain", "offloaded")
    assert ways["register_model"] == ("plain", "cpu")
    assert max(each.held.device_bytes for each in found.stages) <= 6000 * MB
    told = found.places()
    assert told.of("merge_adapter").placement == "offloaded"
    # 6,000 are there, 650 of them CUDA's; 400 work, and twice the largest of 1,200 is on its way.
    assert told.of("merge_adapter").resident_bytes == 2550 * MB
    assert told.of("score").placement == "device"


def test_the_recipe_may_force_form_and_place() -> None:
    """Plain on 6 GB is offloaded; on the CPU nothing but the training is on the device."""
    assert plan("6GB", "64GB", scoring={"form": "plain"}).form == "plain"
    on_cpu = plan("6GB", "64GB", scoring={"form": "plain"}, device={"placement": "cpu"})
    assert {each.stage for each in on_cpu.stages if each.held.placement != "cpu"} == {
        "train_adapter"
    }


@pytest.mark.parametrize(
    "method",
    [
        {"kind": "lora", "init": "pissa"},
        {"kind": "lora", "init": "olora"},
        {"kind": "qlora", "dora": True},
    ],
)
def test_what_retune_trains_is_merged_layer_by_layer(method: dict[str, Any]) -> None:
    """12,000 MB of float32 on 6 GB, and 8 GB of RAM: PiSSA's adapters are saved as any other."""
    stored = "nf4" if method["kind"] == "qlora" else "none"
    found = plan("6GB", "8GB", method=method, quantization={"kind": stored})
    merge = found.of("merge_adapter")
    assert merge is not None and merge.fits
    assert (merge.held.form, merge.held.placement) == ("plain", "offloaded")


def test_several_devices_share_what_is_held_and_not_what_is_computed() -> None:
    """2,100 MB in two parts, 1,500 of work each, two whole blocks of 100; each has CUDA's 650."""
    asked = recipe(device={"memory": "6GB", "ram": "64GB"})
    room = find_room(asked, GPU)
    whole, parted = (
        plan_stages(SIZES, training(), asked, room, ("plain",), devices=2, sharded=sharded).of(
            "train_adapter"
        )
        for sharded in (False, True)
    )
    assert whole is not None and whole.held.device_bytes == (650 + 3600) * MB
    assert parted is not None and parted.held.device_bytes == (650 + 1050 + 1500 + 200) * MB
    # Three processes with libraries. What is parted is read whole by each of the two that train:
    # 2,000 MB and the adapter's 40; else each has a block of 100 on its way.
    assert whole.held.ram_bytes == 3 * LIBRARIES + 2 * 100 * MB
    assert parted.held.ram_bytes == 3 * LIBRARIES + 2 * 2040 * MB


def test_ram_of_other_machines_is_not_this_ones() -> None:
    """Of eight devices two are here: their 2 x 100 MB, and three processes with libraries."""
    asked = recipe(device={"memory": "6GB", "ram": "64GB"})
    room = find_room(asked, GPU)
    found = plan_stages(SIZES, training(), asked, room, ("plain",), devices=8, here=2, sharded=True)
    stage = found.of("train_adapter")
    assert found.devices == 8 and stage is not None
    assert stage.held.ram_bytes == 3 * LIBRARIES + 2 * 2040 * MB
    # 2,100 MB in eight parts, 1,500 of work, two whole blocks of 100, and CUDA's 650.
    assert stage.held.device_bytes == 2100 * MB // 8 + (1500 + 200 + 650) * MB


@pytest.mark.parametrize(("of", "each"), [(CPU, 6500 * MB), (GPU, 600 * MB)])
def test_what_shares_the_batches_of_scores_is_counted_in_ram(of: Device, each: int) -> None:
    """Three processes: on a CPU each holds the model and its work, for a GPU the largest piece."""
    asked = recipe(device={"memory": "64GB", "ram": "64GB"})
    room = find_room(asked, of)
    found = plan_stages(SIZES, training(of.name), asked, room, ("plain",), replicas=3)
    for name in ("score base", "score merged"):
        score = found.of(name)
        assert score is not None and score.held.ram_bytes == 3 * (LIBRARIES + each)
    registered = found.of("register_model")
    assert registered is not None and registered.held.ram_bytes == LIBRARIES + each


def test_more_models_than_the_ram_holds_are_offloaded_or_refused() -> None:
    """15 GB hold two of 6,500 MB, and three only where each keeps its third."""
    asked = recipe(device={"memory": "15GB", "ram": "15GB"}, scoring={"runtime": {"devices": 3}})
    room = find_room(asked, CPU)
    two, three, eight = (
        plan_stages(SIZES, None, asked, room, ("plain",), replicas=count) for count in (2, 3, 8)
    )
    assert held(two)["score base"] == ("plain", "device")
    assert held(three)["score base"] == ("plain", "offloaded")
    parted = three.of("score base")
    assert parted is not None and parted.fits and parted.held.ram_bytes <= 15_000 * MB
    with pytest.raises(DoesNotFit, match=r"score base needs.*a lower scoring\.runtime\.devices"):
        refuse_unplanned(eight, asked)


def test_without_a_gpu_all_is_counted_in_ram() -> None:
    """Scored in plain weights whatever fits: loading in 4 bits would hold them too."""
    found = plan("10GB", "64GB", CPU)
    assert found.room == Room(kind="cpu", device=10_000 * MB, ram=10_000 * MB, runtime=600 * 2**20)
    assert found.form == "plain"
    assert {each.held.device_bytes for each in found.stages} == {0}
    assert held(found)["score base"] == ("plain", "device")
    assert held(plan("6GB", "64GB", CPU))["score base"] == ("plain", "offloaded")


def test_a_training_gives_back_what_it_frees_where_keeping_it_might_not_fit() -> None:
    """3,600 MB above libraries: kept, they may become 2.6 times as much, 9,990 MB in all."""
    for memory, exact in (("10GB", False), ("9GB", True)):
        found = plan(memory, "64GB", CPU)
        stage = found.of("train_adapter")
        assert stage is not None and stage.fits
        assert stage.held.ram_bytes == LIBRARIES + 3600 * MB
        assert stage.place.exact_heap == found.places().of("train_adapter").exact_heap == exact
        assert any("gives back at once" in note for note in found.notes()) == exact
    on_gpu = plan("6GB", "4GB").of("train_adapter")
    assert on_gpu is not None and not on_gpu.place.exact_heap


def test_preferences_and_rewards_are_planned_on_one_device() -> None:
    """Whatever the training before was on; what fits no way is refused with their own settings.

    CUDA takes 650 of each.
    """
    more = training().model_copy(update={"activations": 4000 * MB})
    further = FurtherEstimates(digest="f", preferences=training(), rewards=more)
    asked = recipe(
        device={"memory": "6GB", "ram": "64GB"},
        dpo={"pairs": "pairs.jsonl"},
        grpo={"answers": 4},
        training={"devices": 2},
    )
    room = find_room(asked, GPU)
    found = plan_stages(
        SIZES, training(), asked, room, ("plain",), devices=2, sharded=True, further=further
    )
    names = [each.stage for each in found.stages]
    at = names.index("train_adapter")
    assert names[at + 1 : at + 3] == ["train_preferences", "train_rewards"]
    preferences, rewards = found.stages[at + 1 : at + 3]
    assert preferences.fits and preferences.held.device_bytes == (650 + 3600) * MB
    assert not rewards.fits and rewards.held.device_bytes == (650 + 6600) * MB
    with pytest.raises(DoesNotFit, match=r"train_rewards needs.*a lower grpo\.prompts_per_step"):
        refuse_unplanned(found, asked)


def test_what_fits_no_way_is_refused_with_what_would_help() -> None:
    """Before anything starts, with exit code 2."""
    asked = recipe(
        device={"memory": "6GB", "ram": "16GB", "placement": "device"}, scoring={"form": "plain"}
    )
    found = plan_stages(SIZES, training(), asked, find_room(asked, GPU), ("plain",))
    with pytest.raises(DoesNotFit) as refused:
        refuse_unplanned(found, asked)
    said = refused.value.message
    assert "score base needs at least 6.66 GiB" in said
    assert "device.placement: auto" in said and "scoring.form: auto" in said
    assert refused.value.exit_code == 2
    refuse_unplanned(plan("24GB", "64GB"), recipe())


@pytest.mark.parametrize(("stored", "head"), [("mxfp4", None), ("none", {})])
def test_a_form_that_the_model_does_not_have_is_refused(stored: str, head: Any) -> None:
    """Experts in MXFP4 are no linear layers; a head would be quantized with them."""
    asked = recipe(scoring={"form": "nf4"}, **({} if head is None else {"head": head}))
    with pytest.raises(ConfigError, match=r"scoring\.form: nf4"):
        list_forms(asked, GPU, stored)
    assert list_forms(recipe(), GPU, stored if head is None else "mxfp4") == ("plain",)


@pytest.mark.parametrize(
    ("offloadable", "place"), [(True, ("plain", "offloaded")), (False, ("plain", "cpu"))]
)
def test_a_large_judge_is_read_by_layers_or_asked_on_the_cpu(
    offloadable: bool, place: tuple[str, str]
) -> None:
    """7 billion weights beside a card of 6 GB; in 4 bits it would be another judge."""
    judge = JudgeSizes(digest="j", asked=sized(14_000, 600, 500), offloadable=offloadable)
    found = plan_judged("6GB", "16GB", judge)
    assert found.fits and held(found)["judge"] == place
    assert held(plan("6GB", "16GB")).keys() == held(found).keys() - {"judge"}


def test_a_judge_that_fits_no_way_is_refused_with_what_helps() -> None:
    """14.5 GB and the libraries are in no 12 GB."""
    judge = JudgeSizes(digest="j", asked=sized(14_000, 600, 500), offloadable=False)
    found = plan_judged("6GB", "12GB", judge)
    with pytest.raises(DoesNotFit, match=r"1 of \d+ stages fit no way: judge needs at") as told:
        refuse_unplanned(found, recipe())
    assert "a smaller judge.local, or a judge.endpoint on another machine" in told.value.message


def test_a_judge_that_cannot_be_counted_is_not_planned() -> None:
    """What is not known is no reason to refuse."""
    found = plan_judged("6GB", "16GB", JudgeSizes(digest="j", asked=None, fault="no such class"))
    assert found.fits and "judge" not in held(found)
