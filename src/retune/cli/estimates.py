"""Asking for an estimate in a process of its own, and printing it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retune.calibrating import read_calibration
from retune.commands import set_options
from retune.data.prepared import PreparedData
from retune.errors import ConfigError, DataError, RetuneError, StageDied, StageError
from retune.inputs import Inputs, locate_inputs
from retune.modeling.memory.estimates import TrainingEstimate
from retune.pages.numbers import show_bytes
from retune.recipe.loading import LoadedRecipe
from retune.recipe.recipe import Recipe
from retune.records import ModelRef
from retune.training.stages import TrainSettings

if TYPE_CHECKING:
    from tasks.run import RecipeRun

_BAR = 32
_HOUR = 3600.0
_UNITS = {"MB": 1000**2, "GB": 1000**3}


def prepare(loaded: LoadedRecipe) -> tuple[RecipeRun, Inputs, PreparedData]:
    """Prepare a recipe's rows, without weights and without services.

    Args:
        loaded: The recipe.

    Returns:
        A run that computes right here, what the recipe names, and its rows.

    Raises:
        RetuneError: The recipe's model or rows are wrong.
    """
    from flows.preparing import prepare_job
    from tasks.running import prepare_run

    run = prepare_run(loaded, direct=True)
    source = locate_inputs(loaded, with_weights=False)
    return run, source, prepare_job(run, source).data


def estimate_run(
    run: RecipeRun,
    source: Inputs,
    data: PreparedData,
    *,
    timed: bool,
    device: str | None = None,
) -> TrainingEstimate:
    """Estimate a recipe's training in a process of its own.

    Args:
        run: Of the recipe.
        source: Its base.
        data: Its rows.
        timed: Whether a few real steps are run, where the weights are on this machine.
        device: cpu or cuda; None is what this machine has.

    Returns:
        The estimate.

    Raises:
        RetuneError: The model cannot be built, or the process failed.
    """
    if not data.chat.train:
        raise DataError("no training rows: there is nothing to estimate. Look at retune check.")
    recipe = run.loaded.recipe
    if recipe.method.kind == "frozen":
        raise ConfigError(
            "method.kind is frozen: the memory of a head's training is not estimated. It is about "
            "that of the base's weights and one pass without gradients."
        )
    has_weights = any(source.base.folder.glob("*.safetensors"))
    model = ModelRef(
        digest=source.base.digest,
        folder=source.base.folder,
        quantization="none",
        parameters=0,
        footprint_bytes=0,
        base_footprint_bytes=0,
        reference_perplexity=0.0,
        base_reference_perplexity=0.0,
    )
    request = {
        "inputs": {
            "train": data.chat.side("train").model_dump(mode="json"),
            "validation": data.chat.side("validation").model_dump(mode="json"),
            "base": source.base.model_dump(mode="json"),
            "model": model.model_dump(mode="json"),
        },
        "settings": TrainSettings.of(recipe).by_name(),
        "device": device,
        "capacity_bytes": parse_memory(recipe.device.memory),
        "calibration": read_calibration(run.store.root),
        "timed": timed and has_weights and device is None and recipe.head is None,
    }
    found = _ask(request)
    return found.model_copy(update={"notes": (*found.notes, *coverage_notes(recipe))})


def coverage_notes(recipe: Recipe) -> list[str]:
    """Say which trainings of a recipe the estimate leaves out."""
    found = []
    if recipe.head is not None:
        found.append(
            "head: the language model is counted, and the classification head is not; a head "
            "takes less, since nothing is projected to the vocabulary"
        )
    if recipe.dpo is not None:
        found.append("dpo: not counted, supervised fine-tuning is; pairs and a reference take more")
    if recipe.grpo is not None:
        found.append("grpo: not counted, supervised fine-tuning is; writing answers takes more")
    return found


def parse_memory(text: str | None) -> int | None:
    """Return the bytes of a size such as ``24GB``, in units of 1,000; None for None."""
    return None if text is None else int(text[:-2]) * _UNITS[text[-2:]]


def _ask(request: dict[str, Any]) -> TrainingEstimate:
    with tempfile.TemporaryDirectory(prefix="retune-estimate-") as name:
        asked, answer = Path(name) / "request.json", Path(name) / "answer.json"
        asked.write_text(json.dumps(request), encoding="utf-8")
        done = subprocess.run(
            [
                sys.executable,
                *("-P", "-m", "retune.training.estimating", str(asked), str(answer)),
            ],
            capture_output=True,
            # The message is read back: neither side may go by the user's terminal.
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "PYTHONIOENCODING": "utf-8:backslashreplace"},
            check=False,
        )
        if done.returncode == 0:
            return TrainingEstimate.model_validate_json(answer.read_bytes())
    raise _failure(done.returncode, done.stderr.strip().splitlines())


def _failure(code: int, lines: list[str]) -> RetuneError:
    if code < 0:
        return StageDied(
            f"the process that estimates died with signal {-code}, as when memory runs out while "
            "steps are timed. Run again with --no-steps."
        )
    kinds: dict[int, type[RetuneError]] = {2: ConfigError, 3: DataError}
    return kinds.get(code, StageError)("\n".join(lines[-1:]) or "the estimate failed")


def print_estimate(console: Console, found: TrainingEstimate, recipe: Recipe) -> None:
    """Print an estimate: parts with bars, fits or not, work, time and cost.

    Args:
        console: Where to.
        found: The estimate.
        recipe: For prices.
    """
    console.print(_parts_table(found))
    console.print(fit_text(found), style="green" if found.fits else "bold red", soft_wrap=True)
    for advice in found.advice:
        line = f"  {set_options(advice.overrides)}: {_size(advice.peak_bytes)}"
        console.print(Text(line), soft_wrap=True)
    if not found.fits and not found.advice:
        console.print("  no single change was found with which it would fit")
    table = Table(show_header=False, box=None, padding=(0, 1))
    for name, text in _work_lines(found, recipe):
        table.add_row(name, Text(text))
    console.print(table)
    for note in found.notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def _parts_table(found: TrainingEstimate) -> Table:
    memory = found.memory
    batch = f"{memory.batch.rows} rows x {memory.batch.tokens:,} tokens"
    table = Table(title=f"peak memory on {memory.device}, batch of {batch}", title_justify="left")
    for column, side in (("part", "left"), ("bytes", "right"), ("", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    most = max(1, *memory.parts().values())
    for name, size in memory.parts().items():
        table.add_row(name, _size(size), "█" * round(size / most * _BAR))
    table.add_section()
    table.add_row("sum", _size(memory.total), "")
    if found.calibration is not None:
        table.add_row(
            "calibrated", _size(found.peak_bytes), f"above runtime x {found.calibration:.2f}"
        )
    return table


def fit_text(found: TrainingEstimate) -> str:
    """Say in one sentence whether a training fits, and by how much."""
    beside = abs(found.capacity_bytes - found.peak_bytes)
    what = "fits, with" if found.fits else "does not fit, by"
    end = " to spare" if found.fits else ""
    return (
        f"{what} {_size(beside)}{end}: peak {_size(found.peak_bytes)} of "
        f"{_size(found.capacity_bytes)}"
    )


def refuse_unfit(found: TrainingEstimate) -> None:
    """Refuse a training that certainly does not fit.

    What tensors take at once is counted; what the C library holds beside them differs from run to
    run, and is no reason.

    Args:
        found: The estimate.

    Raises:
        ConfigError: Its tensors alone need more than the device has.
    """
    needed = found.memory.total - found.memory.allocator
    if needed <= found.capacity_bytes:
        return
    ways = [f"{set_options(each.overrides)} ({_size(each.peak_bytes)})" for each in found.advice]
    instead = f"It would fit with: {'; '.join(ways)}." if ways else "No single change makes it fit."
    raise ConfigError(
        f"device.memory: {_size(found.capacity_bytes)}, but this training needs at least "
        f"{_size(needed)}. {instead} retune estimate shows the parts."
    )


def _work_lines(found: TrainingEstimate, recipe: Recipe) -> list[tuple[str, str]]:
    memory = found.memory
    share = memory.trainable_parameters / max(1, memory.total_parameters)
    lines = [
        (
            "parameters",
            f"{memory.trainable_parameters:,} of {memory.total_parameters:,} trained ({share:.2%})",
        ),
        ("work", f"{found.steps:,} steps, about {found.tokens:,} tokens"),
    ]
    times, seconds = found.times, found.seconds
    if times is None or seconds is None:
        return [*lines, ("time", "not measured: no steps were run")]
    text = f"{seconds:,.0f} s ({times.seconds_per_step:.2f} s per step, evaluations not included)"
    lines.append(("time", text))
    lines.append(("measured", f"{_size(times.peak_memory_bytes)} in {times.steps} steps"))
    cost = _cost(found, recipe)
    if cost is not None:
        lines.append(("cost", f"{cost:,.2f} {recipe.device.currency}"))
    return lines


def _cost(found: TrainingEstimate, recipe: Recipe) -> float | None:
    price = recipe.device.price_per_hour
    return None if price is None or found.seconds is None else found.seconds / _HOUR * price


def as_mapping(found: TrainingEstimate, recipe: Recipe) -> dict[str, Any]:
    """Return an estimate as JSON has it, with what is derived from it."""
    return {
        **found.model_dump(mode="json"),
        "total_bytes": found.memory.total,
        "fits": found.fits,
        "seconds": found.seconds,
        "cost": _cost(found, recipe),
        "currency": recipe.device.currency,
    }


def _size(size: int) -> str:
    return show_bytes(size)
