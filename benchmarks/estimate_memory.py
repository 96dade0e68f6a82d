"""Estimated beside measured peak memory of real trainings, each in a process of its own.

    python benchmarks/estimate_memory.py --rounds 2
    python benchmarks/estimate_memory.py --only lora,full

The embedded base under each method, and LoRA on tiny random models of each family, all with 16 rows
of 512 tokens. A case is measured by training three steps (`train_adapter`) on invented rows, of
which each batch holds one of the longest; it is estimated in another process, without weights.
Measured peaks differ from process to process: each round measures every case once.

Two errors are printed: of the whole process, libraries included, and of the part above what the
process held beside its model before training, which is what calibration corrects: the C library
keeps places of freed tensors that are not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).resolve().parents[1]
ANSWER = 40
STEPS = 3
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"method": {"kind": "lora"}},
    "qlora": {"method": {"kind": "qlora"}, "quantization": {"kind": "nf4"}},
    "full": {"method": {"kind": "full"}},
    "checkpointed lora": {
        "method": {"kind": "lora"},
        "training": {"gradient_checkpointing": True},
    },
    "bottleneck": {"method": {"kind": "bottleneck"}},
    "prefix": {"method": {"kind": "prefix"}},
    "prompt": {"method": {"kind": "prompt"}},
}
ROWS, TOKENS = 16, 512
FAMILIES = ("llama", "qwen3", "gemma3", "gpt2")


def list_cases(only: list[str]) -> list[dict[str, Any]]:
    """Return what is measured: a model, a method and a shape each."""
    shape = {"rows": ROWS, "tokens": TOKENS}
    cases = [{"model": "embedded", "name": name, **shape} for name in METHODS]
    cases += [{"model": family, "name": "lora", **shape} for family in FAMILIES]
    return [case for case in cases if not only or case["name"] in only or case["model"] in only]


def main() -> None:
    """Measure all cases, or one where a parent process says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="names of methods or models, with commas")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    # Settings and tiny models are made as the tests make them, in the processes of the cases too.
    sys.path.insert(0, str(REPOSITORY))
    if arguments.case:
        print(json.dumps(run_case(json.loads(arguments.case), arguments.part)))
        return
    cases = list_cases([name for name in arguments.only.split(",") if name])
    with tempfile.TemporaryDirectory() as folder:
        for family in {case["model"] for case in cases} - {"embedded"}:
            write_family(Path(folder) / family, family)
        for case in cases:
            case["folder"] = str(
                REPOSITORY / "assets" / "base_tiny"
                if case["model"] == "embedded"
                else Path(folder) / case["model"]
            )
        # Two at a time: a peak does not suffer from what runs beside it.
        with ThreadPoolExecutor(max_workers=2) as pool:
            found = pool.map(lambda case: in_new_process(case, "estimate"), cases)
            rounds = [
                pool.map(lambda case: in_new_process(case, "measure"), cases)
                for _ in range(arguments.rounds)
            ]
            estimated, turns = list(found), [list(each) for each in rounds]
        measured = [list(each) for each in zip(*turns, strict=True)]
    print_table(cases, measured, estimated)


def write_family(folder: Path, family: str) -> None:
    """Write a tiny random model of a family, as the tests have it."""
    from tests.tiny_models import write_snapshot

    write_snapshot(folder, family)


def in_new_process(case: dict[str, Any], part: str) -> dict[str, Any]:
    """Run a part of a case where no earlier one left anything behind."""
    command = [sys.executable, __file__, "--case", json.dumps(case), "--part", part]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["died"])[-1]
        return {"error": reason}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def run_case(case: dict[str, Any], part: str) -> dict[str, Any]:
    """Measure or estimate a case in this process."""
    chosen = METHODS[case["name"]]
    sections = {
        "seed": 1,
        "model": {"id": case["model"]},
        "quantization": chosen.get("quantization", {"kind": "none"}),
        "method": chosen["method"],
        "training": {
            "max_steps": STEPS,
            "warmup_steps": 0.0,
            "batch_size": case["rows"],
            "evaluations": 0,
            **chosen.get("training", {}),
        },
    }
    with tempfile.TemporaryDirectory() as name:
        inputs = make_inputs(case, Path(name))
        return (measure if part == "measure" else estimate)(inputs, sections, Path(name))


def make_inputs(case: dict[str, Any], folder: Path) -> Any:
    """Write invented rows, and name the model."""
    from retune.model_records import ModelRef
    from retune.modeling.snapshots import locate_base
    from retune.records import SideRef
    from retune.training.stages import TrainInputs

    rows = [
        {
            "row_id": str(row),
            # One row in four is the longest; the others are padded to it.
            "prompt_ids": [5 + (row * 7 + at) % 3000 for at in range(prompt_length(case, row))],
            "answer_ids": [9 + at for at in range(ANSWER)],
            "loss_mask": None,
        }
        for row in range(case["rows"] * 2)
    ]
    types = [("row_id", pa.string()), ("prompt_ids", pa.list_(pa.int64()))]
    types += [("answer_ids", pa.list_(pa.int64())), ("loss_mask", pa.list_(pa.bool_()))]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(types)), folder / "rows.parquet")
    side = SideRef(digest="0" * 64, folder=folder)
    base = locate_base(case["folder"], None)
    figures = dict.fromkeys(("parameters", "footprint_bytes", "base_footprint_bytes"), 0)
    figures |= dict.fromkeys(("reference_perplexity", "base_reference_perplexity"), 1)
    model = ModelRef(digest=base.digest, folder=base.folder, quantization="none", **figures)
    return TrainInputs(train=side, validation=side, base=base, model=model)


def prompt_length(case: dict[str, Any], row: int) -> int:
    """Return the tokens of a row before its answer."""
    return int(case["tokens"]) - ANSWER - 8 * (row % 4)


def measure(inputs: Any, sections: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train, and return what it took."""
    from retune.spine.stage import Workdir
    from retune.training.resource_record import read_measured
    from retune.training.stages import TrainSettings
    from retune.training.supervised import train_adapter
    from tests.making import settings_of

    folders = [folder / name for name in ("artifact", "scratch", "model")]
    for each in folders:
        each.mkdir()
    model = quantized(inputs, sections, Workdir(folders[2], folders[1]))
    inputs = inputs.model_copy(update={"model": model})
    settings = settings_of(TrainSettings, **sections)
    train_adapter(inputs, settings, Workdir(folders[0], folders[1]))
    found = read_measured(folders[0])
    assert found is not None
    return {"total": found.peak_memory_bytes, "above": found.training_bytes}


def quantized(inputs: Any, sections: dict[str, Any], work: Any) -> Any:
    """Return the model that training starts from, quantized where the case asks for it."""
    from retune.modeling.devices import choose_device
    from retune.weights.quantize import write_quantized
    from retune.weights.stages import QuantizeSettings
    from tests.making import settings_of

    settings = settings_of(QuantizeSettings, **sections)
    if settings.kind == "none":
        return inputs.model
    write_quantized(inputs.base.folder, settings, choose_device(), work)
    return inputs.model.model_copy(update={"folder": work.artifact, "quantization": "nf4"})


def estimate(inputs: Any, sections: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Estimate without weights."""
    from retune.machine import find_device
    from retune.preflight.estimate_training import estimate_training
    from retune.preflight.stages import EstimateInputs, EstimateSettings
    from retune.spine.stage import Workdir
    from tests.making import settings_of

    asked = EstimateInputs(base=inputs.base, train=inputs.train, device=find_device("cpu"))
    settings = settings_of(EstimateSettings, **sections)
    found = estimate_training(asked, settings, Workdir(folder, folder)).memory
    assert found is not None
    return {"total": found.total, "above": found.above_runtime}


def print_table(
    cases: list[dict[str, Any]],
    measured: list[list[dict[str, Any]]],
    estimated: list[dict[str, Any]],
) -> None:
    """Print a Markdown table in MB, and how many cases are within 10 %."""
    print(
        "| model | method | batch | total estimated | measured | error "
        "| above runtime estimated | measured | error |"
    )
    print("|---|---|---|--:|--:|--:|--:|--:|--:|")
    near = {"total": 0, "above": 0}
    for case, rounds, found in zip(cases, measured, estimated, strict=True):
        name = f"| {case['model']} | {case['name']} | {case['rows']} x {case['tokens']} |"
        wrong = next((each["error"] for each in [found, *rounds] if "error" in each), None)
        if wrong:
            print(f"{name} {wrong} ||||||")
            continue
        cells = []
        for part in ("total", "above"):
            mean = sum(each[part] for each in rounds) / len(rounds)
            spread = " to ".join(
                f"{pick(each[part] for each in rounds) / 1e6:,.0f}" for pick in (min, max)
            )
            error = found[part] / mean - 1
            near[part] += abs(error) <= 0.1
            cells += [f"{found[part] / 1e6:,.0f}", spread, f"{error:+.0%}"]
        print(f"{name} {' | '.join(cells)} |")
    print(f"\nwithin 10 %: total {near['total']}, above {near['above']} of {len(cases)}")


if __name__ == "__main__":
    main()
