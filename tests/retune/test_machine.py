"""What is said of a device without torch is what torch says of it."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from retune import machine
from retune.errors import ConfigError
from retune.machine import find_device, find_free_ram, find_memory, list_gpu_memories
from retune.modeling.devices import (
    choose_compute_dtype,
    choose_device,
    choose_dtype,
    pick_compute_dtype,
    pick_dtype,
)


@pytest.mark.parametrize(("limit", "used", "free"), [(100, 30, 70), (2000, 30, 500), (20, 30, 0)])
def test_free_ram_is_that_of_the_machine_or_what_a_container_has_left(
    monkeypatch: pytest.MonkeyPatch, limit: int, used: int, free: int
) -> None:
    """Of a machine with 500 bytes left."""
    monkeypatch.setattr(machine, "_cgroup_limit", lambda: limit)
    monkeypatch.setattr(machine, "_cgroup_used", lambda: used)
    memory = SimpleNamespace(available=500)
    monkeypatch.setattr("retune.machine.psutil.virtual_memory", lambda: memory)
    assert find_free_ram() == free


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


# What a C library does with a block depends on all that its process has held and freed before: each
# of these two stands in a process of its own, which has held nothing large.
_TRIMMED = """
import psutil
from retune.machine import trim_heap

blocks = [bytearray(100 * 1024) for _ in range(640)]
del blocks[:-1]
before = psutil.Process().memory_info().rss
trim_heap()
print(before - psutil.Process().memory_info().rss)
"""

_MAPPED = """
import ctypes
from retune.machine import exact_heap

library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()

class Figures(ctypes.Structure):  # of mallinfo2(3): hblks blocks of the system's own are in use
    _fields_ = [(name, ctypes.c_size_t) for name in names]

library.mallinfo2.restype = Figures

def mapped(size):
    before = library.mallinfo2().hblks
    block = library.malloc(size)
    found = library.mallinfo2().hblks - before
    library.free(block)
    return found

mapped(30 * 2**20)  # freed, it lets glibc keep what is smaller
found = [mapped(24 * 2**20)]
with exact_heap():
    found.append(mapped(24 * 2**20))
found.append(mapped(24 * 2**20))
print(*found)
"""


def _print_in_a_new_process(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not glibc, or before 2.33")
def test_freed_blocks_between_held_ones_go_back_to_the_system() -> None:
    """639 blocks of 100 KiB below one that is held stay with glibc until the heap is trimmed."""
    assert int(_print_in_a_new_process(_TRIMMED)) > 639 * 100 * 1024 // 2


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not glibc, or before 2.33")
def test_in_an_exact_heap_large_blocks_are_the_systems_own() -> None:
    """A block of 24 MiB is mapped there, and lies where freed ones may lie before and after."""
    assert _print_in_a_new_process(_MAPPED).split() == ["0", "1", "0"]
