"""`retune doctor`: whether this machine can do the work, each finding with what to do about it."""

from __future__ import annotations

import platform
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from rich.text import Text

from retune.cli.consoles import open_console
from retune.cli.services.prefect_api import prepare_prefect
from retune.errors import RetuneError, ServiceError
from retune.recipe.credentials import masked
from retune.spine.provenance import library_versions
from retune.tracking import check_tracking, choose_tracking, default_uri, shown_uri

_LIBRARIES = ("prefect", "mlflow", "torch", "transformers", "trl", "peft", "bitsandbytes")
_MIN_FREE_GIB = 2.0


def examine() -> None:
    """Print one line per check.

    Raises:
        ServiceError: A check failed; the line says which.
    """
    console = open_console()
    checks: dict[str, Callable[[], str]] = {
        "versions": _versions,
        "memory": _memory,
        "disk": _disk,
        "device": _device,
        "4-bit": _four_bit,
        "prefect": _prefect,
        "mlflow": _mlflow,
    }
    failed = []
    for name, check in checks.items():
        with console.status(f"looking at {name}"):
            found, fine = _attempt(check)
        failed += [] if fine else [name]
        mark = ("ok  ", "green") if fine else ("FAIL", "red")
        console.print(Text.assemble(mark, f" {name.ljust(9)} {found}"), soft_wrap=True)
    if failed:
        raise ServiceError(f"Not ready: {', '.join(failed)}.")


def _attempt(check: Callable[[], str]) -> tuple[str, bool]:
    try:
        return masked(check()), True
    except (RetuneError, OSError, RuntimeError, ImportError) as error:
        return masked(f"{type(error).__name__}: {error}"), False


def _versions() -> str:
    found = library_versions(_LIBRARIES)
    missing = [name for name, version in found.items() if version == "absent"]
    if missing:
        raise ServiceError(f"not installed: {', '.join(missing)}. Run `make install`.")
    shown = ", ".join(f"{name} {version}" for name, version in found.items())
    return f"python {platform.python_version()}, {shown}, sqlite {sqlite3.sqlite_version}"


def _memory() -> str:
    memory = psutil.virtual_memory()
    return f"{memory.available / 2**30:.1f} GiB of {memory.total / 2**30:.1f} GiB free"


def _disk() -> str:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < _MIN_FREE_GIB:
        raise ServiceError(f"{free:.1f} GiB free here; at least {_MIN_FREE_GIB} GiB are needed.")
    return f"{free:.1f} GiB free in {Path.cwd()}"


def _device() -> str:
    import torch

    from retune.modeling.devices import choose_compute_dtype, choose_device

    device = choose_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    dtype = str(choose_compute_dtype("auto", device)).removeprefix("torch.")
    return f"{device.type} {name}, {psutil.cpu_count()} cores, trains in {dtype}"


def _four_bit() -> str:
    """Quantize a layer and take a gradient through it, as QLoRA does."""
    import torch
    from bitsandbytes.nn import Linear4bit

    from retune.modeling.devices import choose_device
    from retune.modeling.four_bit import use_plain_4bit_kernels

    device = choose_device()
    layer = Linear4bit(64, 64, quant_type="nf4", compute_dtype=torch.float32).to(device)
    use_plain_4bit_kernels(layer, torch.float32)
    inputs = torch.ones(2, 64, device=device, requires_grad=True)
    layer(inputs).sum().backward()
    if inputs.grad is None or not inputs.grad.abs().sum() > 0:
        raise ServiceError("no gradient passes through a 4-bit layer; use quantization.kind: none.")
    return "NF4 layers quantize, and gradients pass through them"


def _prefect() -> str:
    prepare_prefect()
    from prefect.client.orchestration import get_client

    started = time.monotonic()
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
        where = str(client.api_url)
    if error is not None:
        raise ServiceError(f"Prefect's API does not answer: {error}")
    return f"answers at {where} after {time.monotonic() - started:.1f} s"


def _mlflow() -> str:
    with tempfile.TemporaryDirectory() as folder:
        tracking = choose_tracking(
            None, None, name="doctor", store_root=Path(folder), resolve=Path.absolute
        )
        started = time.monotonic()
        check_tracking(tracking.uri)
        seconds = f"{time.monotonic() - started:.1f} s"
        if tracking.uri == default_uri(Path(folder)):
            return f"opens a new database in {seconds}"
        return f"{shown_uri(tracking.uri)} (MLFLOW_TRACKING_URI) answers after {seconds}"
