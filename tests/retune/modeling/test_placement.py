"""In which form a model is held and where follows from sizes alone."""

from __future__ import annotations

from retune.model_records import StagePlace
from retune.modeling.placement import (
    PLACES,
    FormSizes,
    Room,
    StagePlaces,
    list_candidates,
    resident_bytes,
)

PLAIN = FormSizes(weights=100, largest=10, working=5)
NF4 = FormSizes(weights=30, largest=10, working=5)
BOTH = {"plain": PLAIN, "nf4": NF4}


def gpu(device: int, ram: int = 1000) -> Room:
    return Room(kind="cuda", device=device, ram=ram, runtime=50)


def chosen(room: Room, **options: str) -> tuple[str, str, int, int] | None:
    ways = list_candidates(BOTH, room, **options)
    found = next((way for way in ways if way.fits(room)), None)
    return found and (found.form, found.placement, found.device_bytes, found.ram_bytes)


def test_a_model_that_fits_is_held_plain_and_whole() -> None:
    """100 of weights and 5 of work; RAM holds libraries and one piece on its way, 50 + 10."""
    assert chosen(gpu(105)) == ("plain", "device", 105, 60)


def test_four_bits_come_before_offloading() -> None:
    """104 do not hold 105, and 35 hold 30 + 5."""
    assert chosen(gpu(104)) == ("nf4", "device", 35, 60)
    assert chosen(gpu(35)) == ("nf4", "device", 35, 60)


def test_layers_are_offloaded_where_four_bits_do_not_fit() -> None:
    """Of 34, 5 are work and twice 10 a piece on its way, read and converted: 9 are left to stay."""
    assert chosen(gpu(34)) == ("plain", "offloaded", 34, 60)
    assert resident_bytes(PLAIN, gpu(34)) == 9


def test_a_device_too_small_for_one_layer_leaves_the_cpu() -> None:
    """24 hold no two pieces of 10 and work of 5: in RAM that is 50 + 100 + 5."""
    assert chosen(gpu(24)) == ("plain", "cpu", 0, 155)
    assert chosen(gpu(24, ram=154)) == ("nf4", "cpu", 0, 85)
    assert chosen(gpu(24, ram=84)) is None


def test_a_recipe_may_force_the_place() -> None:
    """Offloaded where the device would do, all that fits stays; on the CPU nothing is on it."""
    assert chosen(gpu(500), wanted="offloaded") == ("plain", "offloaded", 125, 60)
    assert chosen(gpu(500), wanted="cpu") == ("plain", "cpu", 0, 155)
    assert chosen(gpu(34), wanted="device") is None


def test_what_cuda_takes_of_a_gpu_is_no_room_for_a_model() -> None:
    """With 8 of them 113 hold 100 and 5 plainly; 112 do not, and offload to the brim."""
    room = Room(kind="cuda", device=113, ram=1000, runtime=50, context=8)
    assert chosen(room) == ("plain", "device", 113, 60)
    full = room.model_copy(update={"device": 112})
    assert chosen(full) == ("nf4", "device", 43, 60)
    # 112 - 8 - 5 - 2 x 10 are left for weights that stay.
    assert chosen(full, wanted="offloaded") == ("plain", "offloaded", 112, 60)
    assert resident_bytes(PLAIN, full) == 79


def test_without_a_gpu_the_device_is_the_ram() -> None:
    """Libraries of 50 are in it too; cpu and device are one."""
    room = Room(kind="cpu", device=155, ram=155, runtime=50)
    assert chosen(room) == ("plain", "device", 0, 155)
    assert chosen(room, wanted="cpu") == ("plain", "device", 0, 155)
    small = Room(kind="cpu", device=80, ram=80, runtime=50)
    assert {way.placement for way in list_candidates(BOTH, small)} == {"device", "offloaded"}
    # 80 - 50 - 5 - 2 x 10 are left for weights that stay.
    assert resident_bytes(PLAIN, small) == 5
    assert any(way.fits(small) for way in list_candidates({"plain": PLAIN}, small))


def test_what_loading_holds_counts_where_it_is_more_than_the_work() -> None:
    """100 + 40 while it is loaded, 100 + 5 afterwards."""
    sizes = PLAIN.model_copy(update={"loading": 40})
    assert list_candidates({"plain": sizes}, gpu(500))[0].device_bytes == 140


def test_stages_read_their_places_from_their_context() -> None:
    """A stage that no plan speaks of holds its model on the device."""
    place = StagePlace(placement="offloaded", resident_bytes=7)
    context = {PLACES: StagePlaces(stages={"score": place}).model_dump_json()}
    assert StagePlaces.read(context).of("score") == place
    assert StagePlaces.read(context).of("other") == StagePlace() == StagePlaces.read({}).of("score")
