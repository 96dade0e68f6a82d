"""The device at hand and its memory, asked of system and driver: a flow does not import torch."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil

from retune.errors import ConfigError
from retune.recipe.sections.base import Devices
from retune.records import Record

DeviceName = Literal["cpu", "cuda"]

GPU_CONTEXT_BYTES = 650_000_000
"""What CUDA takes of a GPU for a process before its first tensor, kernels of torch included: 647 MB
on an H200 with torch 2.11 (benchmarks/gpu_stages.py); smaller GPUs keep less."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Numbers of mallopt(3)."""
_EXACT_BLOCK = 128 * 2**10
"""With which glibc begins; it raises it to the size of whatever block is freed."""
_LARGEST_THRESHOLD = 32 * 2**20
"""Up to which it raises it."""


class Device(Record):
    """What a training's memory depends on in a device, its size aside."""

    name: DeviceName
    bfloat16: bool
    """Whether `auto` multiplies in bfloat16 there."""
    present: bool = True
    """Whether this machine has it, so that its kernels can be asked."""


def find_device(name: DeviceName | None = None) -> Device:
    """Describe a device as torch would use it.

    Args:
        name: Which; None is the one that this machine computes on.

    Returns:
        The device; a GPU has bfloat16, by emulation where it must.
    """
    gpus = list_gpu_memories()
    if (name or ("cuda" if gpus else "cpu")) == "cuda":
        return Device(name="cuda", bfloat16=True, present=bool(gpus))
    # As `torch.cpu._is_avx512_bf16_supported` asks it.
    return Device(name="cpu", bfloat16="avx512_bf16" in _cpu_flags())


def find_memory(device: DeviceName) -> int:
    """Return the memory of a device of this machine in bytes.

    Args:
        device: Which.

    Returns:
        Of a CPU what the machine has, or the container where that is less; of GPUs the first one's.

    Raises:
        ConfigError: There is no GPU.
    """
    if device == "cpu":
        return min(int(psutil.virtual_memory().total), _cgroup_limit())
    gpus = list_gpu_memories()
    if not gpus:
        raise ConfigError(
            "device.memory: is null, and this machine has no GPU to ask. Write how much memory "
            "the GPU has, such as 24GB."
        )
    return gpus[0]


def find_free_ram() -> int:
    """Return how many bytes of RAM a process can still take, here or in the container's limit."""
    return max(0, min(int(psutil.virtual_memory().available), _cgroup_limit() - _cgroup_used()))


def read_status(name: str) -> int:
    """Return a size of this process, such as ``VmRSS``, in bytes; 0 where the system has none."""
    try:
        text = Path("/proc/self/status").read_text("ascii", errors="replace")
    except OSError:
        return 0
    found = next((line for line in text.splitlines() if line.startswith(f"{name}:")), None)
    return int(found.split()[1]) * 1024 if found else 0


def list_gpu_memories() -> tuple[int, ...]:
    """Return the bytes of each GPU that CUDA shows to this process and torch was built for."""
    if not _torch_has_cuda():
        return ()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count, device, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    found = []
    for place in range(count.value):
        driver.cuDeviceGet(ctypes.byref(device), place)
        driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
        found.append(int(size.value))
    return tuple(found)


def count_scoring_devices(devices: Devices) -> int:
    """Say on how many devices a model is scored.

    Args:
        devices: The recipe's setting.

    Returns:
        All GPUs for auto, one where there is none.

    Raises:
        ConfigError: There are not as many GPUs.
    """
    seen = len(list_gpu_memories())
    if devices == "auto":
        return max(1, seen)
    if seen and devices > seen:
        raise ConfigError(
            f"scoring.runtime.devices: is {devices}, and this process may see {seen} "
            f"GPU{'s' if seen > 1 else ''}. Write auto or at most {seen}, or widen "
            "CUDA_VISIBLE_DEVICES."
        )
    return devices


def trim_heap() -> None:
    """Give freed memory back to the system, where the C library can be asked for it.

    glibc keeps it, and puts new tensors beside the holes that freed ones of other sizes have left.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def exact_heap() -> Iterator[None]:
    """Let each larger block of memory be one of its own, which is given back when it is freed.

    glibc keeps the places of freed blocks for later ones; where large blocks of many sizes come and
    go between others that stay, as in a training, the process grows to a multiple of what it uses.
    Afterwards blocks are kept as glibc does at the most, whose own choice cannot be given back.
    Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _EXACT_BLOCK)
    # Blocks would be put where earlier ones are kept.
    trim_heap()
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_THRESHOLD)


@cache
def _torch_has_cuda() -> bool:
    # Finding a package does not import it.
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    lines = Path(spec.origin).with_name("version.py").read_text("utf-8").splitlines()
    return any(line.startswith("cuda:") and not line.endswith("= None") for line in lines)


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text("ascii", errors="replace")
    except OSError:
        return set()
    return next(
        (set(line.split(":", 1)[1].split()) for line in text.splitlines() if line[:5] == "flags"),
        set(),
    )


def _cgroup_limit() -> int:
    # A container may have less than its machine.
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text("ascii"))
        except (OSError, ValueError):
            continue
    return sys.maxsize


def _cgroup_used() -> int:
    """Return what a container holds, without the files that it has read and can let go of."""
    folder = Path("/sys/fs/cgroup")
    try:
        held = int((folder / "memory.current").read_text("ascii"))
        figures = (folder / "memory.stat").read_text("ascii").splitlines()
    except (OSError, ValueError):
        return 0
    dropped = next((line.split()[1] for line in figures if line.startswith("inactive_file ")), "0")
    return max(0, held - int(dropped))
