"""Planning the memory of every stage of a run from what each needs. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from retune.errors import ConfigError
from retune.machine import GPU_CONTEXT_BYTES, Device, find_memory
from retune.model_records import StagePlace
from retune.modeling.memory.memory_estimate import FurtherEstimates, MemoryEstimate
from retune.modeling.memory.stage_sizes import JudgeSizes, StageSizes
from retune.modeling.placement import (
    Candidate,
    FormSizes,
    PlacementChoice,
    Room,
    list_candidates,
    resident_bytes,
)
from retune.preflight.forecast import parse_memory
from retune.preflight.memory_plan import JUDGE, MERGING, MemoryPlan, StagePlan
from retune.recipe.recipe import Recipe
from retune.recipe.sections.method import MERGEABLE
from retune.recipe.sections.scoring import Form

LIBRARIES = 600 * 2**20
"""What a process holds once torch, transformers, peft and trl are imported; see
`retune.modeling.memory.estimate_memory`."""
_KEPT_BY_HEAP = 2.6
"""The most that glibc's heap was measured to make of what a training was counted to hold
(docs/estimating.md). Where there is room for that, it is let: it is faster."""


def find_room(recipe: Recipe, device: Device) -> Room:
    """Return the memory that a recipe may use: what it says, else this machine's.

    Args:
        recipe: Its section `device`.
        device: Kind of device.

    Raises:
        ConfigError: There is no such device here, and the recipe does not say what it has.
    """
    memory, ram = parse_memory(recipe.device.memory), parse_memory(recipe.device.ram)
    on_device = memory or find_memory(device.name)
    if device.name == "cpu":
        ram = on_device = min(on_device, ram or on_device)
    return Room(
        kind=device.name,
        device=on_device,
        ram=ram or find_memory("cpu"),
        runtime=LIBRARIES,
        context=GPU_CONTEXT_BYTES if device.name == "cuda" else 0,
    )


def list_forms(recipe: Recipe, device: Device, stored: str) -> tuple[Form, ...]:
    """Return the forms that models of a recipe may be scored in, the first one preferred.

    Args:
        recipe: What it says of scoring and of quantizing.
        device: Kind of device. On a CPU offloaded layers take less than 4 bits, whose loading
            holds the plain weights.
        stored: How the snapshot is quantized (`quantized_as`).

    Raises:
        ConfigError: The recipe asks for a form that this model does not have.
    """
    wanted = recipe.scoring.form
    if wanted == "nf4" and (stored not in ("none", "nf4") or recipe.head is not None):
        what = "has a classification head" if recipe.head else f"is stored in {stored}"
        raise ConfigError(
            f"scoring.form: nf4, but the model {what}, which is not scored in 4 bits. Write auto."
        )
    if wanted != "auto":
        return (wanted,)
    four_bits = recipe.quantization.kind == "nf4" and recipe.head is None and stored == "none"
    return ("plain", "nf4") if four_bits and device.name == "cuda" else ("plain",)


def plan_stages(
    sizes: StageSizes,
    training: MemoryEstimate | None,
    recipe: Recipe,
    room: Room,
    forms: tuple[Form, ...],
    *,
    devices: int = 1,
    here: int | None = None,
    sharded: bool = False,
    replicas: int = 1,
    further: FurtherEstimates | None = None,
    judge: JudgeSizes | None = None,
) -> MemoryPlan:
    """Plan every stage of a run.

    Args:
        sizes: What the stages need; measured, not empty.
        training: What the training needs on one device; None where it could not be counted.
        recipe: What may be forced, and how much is merged at a time.
        room: The machine's memory.
        forms: From `list_forms`.
        devices: That the training is spread over.
        here: How many of them take this machine's RAM; None for all.
        sharded: Whether each holds a part of weights, gradients and optimizer.
        replicas: Processes that share the batches of scores, each with the whole model.
        further: What preferences and rewards need, on one device; None where there are none.
        judge: What a judge of this machine needs; None where there is none.

    Returns:
        The plan; stages that fit no way are marked, with the way that needs least.
    """
    wanted = recipe.device.placement
    scored = {form: size for form, size in sizes.scored.items() if form in forms}
    without = "offloaded" if sizes.in_four_bits else ""
    score = _score("score", scored, room, wanted, replicas, without=without)
    trained_over: Form = "nf4" if sizes.written is not None else score.held.form
    adapter = sizes.scored.get(trained_over, sizes.scored["plain"])
    stages = [_look(adapter, sizes, room)]
    stages += _quantize(sizes, room, wanted, without)
    stages.append(score.model_copy(update={"stage": "score base"}))
    if training is not None:
        of_room = devices if here is None else here
        stages.append(_train(training, sizes, room, devices, of_room, sharded=sharded))
    stages += _train_further(further, sizes, room)
    learned = training.adapter if training is not None else 0
    over = adapter.model_copy(update={"weights": adapter.weights + learned})
    adapted = {trained_over: over}
    stages.append(_score("score adapter", adapted, room, wanted, replicas, without="offloaded"))
    stages.append(_merge(sizes, learned, recipe, room))
    stages.append(score.model_copy(update={"stage": "score merged"}))
    stages += _judge(judge, room, wanted, replicas)
    plain: dict[Form, FormSizes] = {"plain": sizes.scored["plain"]}
    stages.append(_plan("register_model", plain, room, wanted, without="offloaded"))
    return MemoryPlan(room=room, form=score.held.form, stages=tuple(stages), devices=devices)


def _plan(
    stage: str,
    sizes: Mapping[Form, FormSizes],
    room: Room,
    wanted: PlacementChoice,
    *,
    without: str = "",
) -> StagePlan:
    """Choose for one stage; where nothing fits, the way that needs least is named."""
    every = [way for way in list_candidates(sizes, room) if way.placement != without]
    asked = {way.placement for way in list_candidates(sizes, room, wanted=wanted)}
    # What cannot be done as the recipe wants it is done in the first way that fits.
    ways = [way for way in every if way.placement in asked] or every
    chosen = next((way for way in ways if way.fits(room)), None)
    held = chosen or min(ways, key=lambda way: way.device_bytes + way.ram_bytes)
    kept = resident_bytes(sizes[held.form], room) if held.placement == "offloaded" else 0
    return StagePlan(
        stage=stage,
        held=held,
        fits=chosen is not None,
        place=StagePlace(placement=held.placement, resident_bytes=kept),
    )


def _score(
    stage: str,
    sizes: Mapping[Form, FormSizes],
    room: Room,
    wanted: PlacementChoice,
    replicas: int,
    *,
    without: str,
) -> StagePlan:
    """Plan one of the processes that share the batches: RAM is shared by all, a GPU is its own."""
    shared = {"ram": room.ram // replicas}
    if room.kind == "cpu":
        shared["device"] = shared["ram"]
    one = _plan(stage, sizes, room.model_copy(update=shared), wanted, without=without)
    held = one.held.model_copy(update={"ram_bytes": one.held.ram_bytes * replicas})
    return one.model_copy(update={"held": held})


def _judge(
    found: JudgeSizes | None, room: Room, wanted: PlacementChoice, replicas: int
) -> Iterator[StagePlan]:
    """Plan a judge, which is loaded as models are that are scored, and never in another form."""
    if found is not None and found.asked is not None:
        without = "" if found.offloadable else "offloaded"
        yield _score(JUDGE, {"plain": found.asked}, room, wanted, replicas, without=without)


def _look(sizes: FormSizes, found: StageSizes, room: Room) -> StagePlan:
    """Looking through the weights holds one of them, and what is found of it."""
    held = Candidate(
        form="plain", placement="cpu", device_bytes=0, ram_bytes=room.runtime + 2 * sizes.largest
    )
    return StagePlan(stage="check_method", held=held, fits=held.fits(room))


def _quantize(
    sizes: StageSizes, room: Room, wanted: PlacementChoice, without: str
) -> Iterator[StagePlan]:
    """Measure the plain base, and write it in 4 bits beside the largest layer that is quantized."""
    assert sizes.reference is not None
    stage = _plan("quantize_model", {"plain": sizes.reference}, room, wanted, without=without)
    if sizes.written is None:
        yield stage
        return
    # What is read in 4 bits works as in plain weights.
    four_bits = sizes.written.weights + max(sizes.reference.working, sizes.written.loading)
    if room.kind == "cpu":
        peaks = {"ram_bytes": max(stage.held.ram_bytes, room.runtime + four_bits)}
    else:
        peaks = {"device_bytes": max(stage.held.device_bytes, four_bits)}
    held = stage.held.model_copy(update=peaks)
    yield stage.model_copy(update={"held": held, "fits": stage.fits and held.fits(room)})


def _train(
    memory: MemoryEstimate,
    sizes: StageSizes,
    room: Room,
    devices: int,
    here: int,
    *,
    sharded: bool,
) -> StagePlan:
    needed = memory.above_runtime
    if sharded and devices > 1:
        parted = memory.weights + memory.adapter + memory.gradients + memory.optimizer
        # Two blocks are whole at a time: the one that is computed, and the next one on its way.
        needed += -(-parted // devices) - parted + 2 * sizes.block_bytes
    on_gpu = memory.device == "cuda"
    # Weights reach a GPU by blocks; those that are parted are read whole first, by each process.
    in_ram = sizes.block_bytes if on_gpu else needed
    if sharded and devices > 1:
        in_ram = max(in_ram, memory.weights + memory.adapter)
    # The process that starts those which train waits for them, with its libraries.
    processes = here + 1 if devices > 1 else 1
    libraries = room.runtime * processes
    kept = libraries + in_ram * here * _KEPT_BY_HEAP
    held = Candidate(
        form="nf4" if sizes.written is not None else "plain",
        placement="device",
        device_bytes=room.context + needed if on_gpu else 0,
        ram_bytes=libraries + in_ram * here,
    )
    place = StagePlace(exact_heap=not on_gpu and kept > room.ram)
    return StagePlan(stage="train_adapter", held=held, fits=held.fits(room), place=place)


def _train_further(
    found: FurtherEstimates | None, sizes: StageSizes, room: Room
) -> Iterator[StagePlan]:
    """Plan preferences and rewards, each on one device, whatever the training before was on."""
    named = (
        ("train_preferences", found.preferences if found else None),
        ("train_rewards", found.rewards if found else None),
    )
    for stage, memory in named:
        if memory is not None:
            one = _train(memory, sizes, room, devices=1, here=1, sharded=False)
            yield one.model_copy(update={"stage": stage})


def _merge(sizes: StageSizes, learned: int, recipe: Recipe, room: Room) -> StagePlan:
    """Weights are merged one layer at a time into shards; then both forms are asked in float32."""
    assert sizes.checked is not None
    name = MERGING[recipe.method.kind not in MERGEABLE]
    checked = sizes.checked.model_copy(update={"weights": sizes.checked.weights + learned})
    # Every adapter that retune trains is merged layer by layer: those whose first values were taken
    # out of the base are saved as ones that leave it (`retune.modeling.methods.lora.fit_to_base`).
    without = "offloaded" if name == "bundle_adapter" and sizes.in_four_bits else ""
    stage = _plan(name, {"plain": checked}, room, recipe.device.placement, without=without)
    if name == "bundle_adapter":
        return stage
    shard = min(parse_memory(recipe.merge.max_shard_size) or 0, sizes.checked.weights)
    streamed = room.runtime + shard + 2 * sizes.checked.largest
    held = stage.held.model_copy(update={"ram_bytes": max(stage.held.ram_bytes, streamed)})
    return stage.model_copy(update={"held": held, "fits": stage.fits and held.fits(room)})
