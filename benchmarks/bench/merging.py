"""Merging an adapter: streamed, against loading the model and `merge_and_unload`."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from safetensors import safe_open

from benchmarks.bench.processes import Work
from benchmarks.merge_memory import merge_streamed, merge_whole, write_model


def merge(folder: Path, blocks: int, streamed: bool) -> Work:
    """Merge a Llama-shaped model with random weights and write it in files of 200 MB.

    Args:
        folder: Of this side.
        blocks: 10.8 million parameters each, beside 33 million of the vocabulary.
        streamed: Layer by layer, as the stage does.
    """
    write_model(folder, blocks, "float32")
    target, do = folder / "merged", merge_streamed if streamed else merge_whole

    def run() -> Path:
        for old in (target, folder / "scratch"):
            shutil.rmtree(old, ignore_errors=True)
        do(folder, target, "200MB", "")
        return target

    run()  # modules of the model's family are imported by its first loading
    return run, _digests


def _digests(target: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in target.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                values = file.get_tensor(name).numpy().tobytes()
                found[name] = hashlib.sha256(values).hexdigest()
    return found
