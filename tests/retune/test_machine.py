"""What is said of a device without torch is what torch says of it."""

from __future__ import annotations

import ctypes
from typing import ClassVar

import psutil
import pytest
import torch

from retune import machine
from retune.errors import ConfigError
from retune.machine import exact_heap, find_device, find_memory, list_gpu_memories, trim_heap
from retune.modeling.devices import (
    choose_compute_dtype,
    choose_device,
    choose_dtype,
    pick_compute_dtype,
    pick_dtype,
)


def test_the_device_is_that_of_torch() -> None:
    """Its kind, and the dtypes that `auto` stands for there."""
    found, device = find_device(), choose_device()
    assert found.name == device.type
    assert found.present
    for pick, choose in ((pick_dtype, choose_dtype), (pick_compute_dtype, choose_compute_dtype)):
        assert pick("auto", found.name, bfloat16=found.bfloat16) == choose("auto", device)
    assert len(list_gpu_memories()) == torch.cuda.device_count()


def test_a_gpu_may_be_asked_about_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said that its kernels cannot be asked, and its memory is for the recipe to say."""
    monkeypatch.setattr(machine, "list_gpu_memories", lambda: ())
    assert find_device("cuda").present is False
    with pytest.raises(ConfigError, match=r"device\.memory: is null, and this machine has no GPU"):
        find_memory("cuda")


def test_a_machine_with_a_gpu_computes_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two GPUs the first one's memory counts, 24 of 24 and 8."""
    monkeypatch.setattr(machine, "list_gpu_memories", lambda: (24, 8))
    assert find_device().name == "cuda"
    assert find_memory("cuda") == 24
    assert find_device("cpu").name == "cpu"


def test_a_container_has_less_than_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limit of 7 bytes counts."""
    monkeypatch.setattr(machine, "_cgroup_limit", lambda: 7)
    assert find_memory("cpu") == 7


def test_freed_blocks_between_held_ones_go_back_to_the_system() -> None:
    """A freed block below one that is held stays with glibc until the heap is trimmed."""
    block, count = 100 * 1024, 640
    blocks = [bytearray(block) for _ in range(count)]
    del blocks[:-1]
    freed = block * (count - 1)
    before = psutil.Process().memory_info().rss

    trim_heap()

    assert before - psutil.Process().memory_info().rss > freed // 2


class _HeapFigures(ctypes.Structure):
    """What mallinfo2(3) says; `hblks` blocks of the system's own are in use."""

    _fields_: ClassVar = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def test_in_an_exact_heap_large_blocks_are_the_systems_own() -> None:
    """A block of 24 MiB is mapped and given back; else it is put where freed ones may lie later."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        pytest.skip("this C library is not glibc, or older than 2.33")
    library.mallinfo2.restype = _HeapFigures
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]

    def mapped(size: int) -> int:
        before = library.mallinfo2().hblks
        block = library.malloc(size)
        found = library.mallinfo2().hblks - before
        library.free(block)
        assert library.mallinfo2().hblks == before
        return int(found)

    mapped(30 * 2**20)  # freed, it lets glibc keep what is smaller
    assert mapped(24 * 2**20) == 0
    with exact_heap():
        assert mapped(24 * 2**20) == 1
    assert mapped(24 * 2**20) == 0
