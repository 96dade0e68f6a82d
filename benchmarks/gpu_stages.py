"""Every stage of a run on a GPU, with a model of real shape: time, and peaks beside the plan.

    python -m benchmarks.gpu_stages
    python -m benchmarks.gpu_stages --model qwen2.5-3b --memory 6GB --steps 4

A snapshot is written whose weights are random and whose shape is that of a public configuration in
benchmarks/configs. A QLoRA recipe (4 bits, one row at a time, activations computed again, a paged
optimizer in 8 bits) is run with it as a user would run it, while PyTorch may hold no more of the
card than ``--memory`` less what CUDA itself takes of it. Then each stage is run again from its
saved request, without that limit, and its highest memory on the device (as PyTorch's allocator
counts it) and in RAM (highest resident size) are printed beside what was planned.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = Path(__file__).with_name("configs")
TOKENIZER = REPOSITORY / "assets" / "base_tiny"
DATA = REPOSITORY / "assets" / "text_to_sql_pt"


def main() -> None:
    """Run all of it, or one part where a parent process says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qwen2.5-3b", help="folder of benchmarks/configs")
    parser.add_argument("--memory", default="6GB", help="of the card; the run is held to it")
    parser.add_argument("--steps", type=int, default=4, help="of 16 rows each")
    parser.add_argument("--part", choices=("model", "peaks"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="for model and stores; else temporary")
    arguments = parser.parse_args()
    if arguments.part == "model":
        write_model(arguments.folder / "base", arguments.model)
    elif arguments.part == "peaks":
        measure_stages(arguments.folder)
    elif arguments.folder:
        run_all(arguments.folder.absolute(), arguments)
    else:
        with tempfile.TemporaryDirectory() as name:
            run_all(Path(name), arguments)


def run_all(folder: Path, arguments: argparse.Namespace) -> None:
    """Write the model, run the recipe under the limit, and print the table."""
    from benchmarks.plan_memory import read_plan

    folder.mkdir(parents=True, exist_ok=True)
    in_new_process(folder, "model", "--model", arguments.model)
    recipe = write_recipe(folder, arguments)
    card, context = read_card()
    limit = parse_bytes(arguments.memory) - context
    print(f"{card}; CUDA's context takes {context / 1e6:,.0f} MB", flush=True)
    began = time.monotonic()
    run = [sys.executable, "-m", "retune.cli", "run", str(recipe)]
    done = subprocess.run(run, check=False, env=limited(folder, limit))
    print(
        f"the whole run with {limit / 1e6:,.0f} MB for PyTorch: exit code {done.returncode}, "
        f"{time.monotonic() - began:.0f} s",
        flush=True,
    )
    measured = in_new_process(folder, "peaks")
    try:
        planned = read_plan(recipe, folder)
    except subprocess.CalledProcessError as error:
        print(f"there is no plan: {error.stderr[-2000:]}")
        planned = {}
    print_table(planned, measured)


def print_table(planned: dict[str, dict[str, Any]], measured: str) -> None:
    """Print the plan of each stage beside what it took."""
    print("| stage | held | seconds | device MB: plan | peak | error | RAM MB: plan | peak |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for line in measured.splitlines():
        if not line.startswith("{"):
            continue
        found = json.loads(line)
        stage = planned.get(found["stage"])
        if stage is None:
            print(f"| {found['stage']} | | {found['seconds']:.1f} | | | | | |")
            continue
        device, ram = stage["device_bytes"], stage["ram_bytes"]
        error = f"{device / found['device'] - 1:+.0%}" if found["device"] and device else ""
        shown = [f"{size / 1e6:,.0f}" for size in (device, found["device"], ram, found["ram"])]
        print(
            f"| {found['stage']} | {stage['form']} {stage['placement']} | {found['seconds']:.1f} "
            f"| {shown[0]} | {shown[1]} | {error} | {shown[2]} | {shown[3]} |"
        )


def in_new_process(folder: Path, part: str, *more: str) -> str:
    """Run a part of this program where nothing was loaded before; return what it printed."""
    command = [sys.executable, "-m", "benchmarks.gpu_stages", "--part", part]
    done = subprocess.run(
        [*command, "--folder", str(folder), *more],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=limited(folder, None),
    )
    return done.stdout


def limited(folder: Path, most: int | None) -> dict[str, str]:
    """Return the environment of a process; with a limit on what PyTorch takes of the card."""
    from benchmarks.plan_memory import environment

    found = environment(folder)
    found["PYTHONPATH"] = os.pathsep.join(
        [found["PYTHONPATH"], *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    if most is not None:
        import torch

        share = most / torch.cuda.get_device_properties(0).total_memory
        found["PYTORCH_CUDA_ALLOC_CONF"] = f"per_process_memory_fraction:{share:.6f}"
    return found


def read_card() -> tuple[str, int]:
    """Return the card's name with the versions, and the bytes that CUDA takes of it."""
    import bitsandbytes
    import torch
    import transformers

    before = used_bytes()
    torch.zeros(1, device="cuda")
    torch.cuda.synchronize()
    versions = (
        f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"bitsandbytes {bitsandbytes.__version__}"
    )
    return f"{torch.cuda.get_device_name(0)}, {versions}", used_bytes() - before


def used_bytes() -> int:
    """Return how much of the card is taken, by whomever."""
    said = subprocess.run(
        ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(said.stdout.split()[0]) * 2**20


def parse_bytes(text: str) -> int:
    """Return a size such as 6GB in bytes."""
    from retune.preflight.forecast import parse_memory

    found = parse_memory(text)
    assert found is not None
    return found


def write_recipe(folder: Path, arguments: argparse.Namespace) -> Path:
    """Write a recipe of few rows and steps, as conf/recipes/qlora_under_6gb.yaml is set."""
    text = f"""
name: gpu
data:
  train: {DATA}/train.jsonl
  test: {DATA}/test.jsonl
  databases: {DATA}/databases.jsonl
  columns: {{question: question, answer: query, group: db_id, database: db_id, row_id: id}}
split: {{max_train_rows: {16 * arguments.steps}, max_validation_rows: 4, max_test_rows: 32,
         test_fraction: 0.1}}
prompt: {{max_length: 256}}
model: {{id: {folder}/base, attention: sdpa}}
quantization: {{kind: nf4, double: true}}
method: {{kind: qlora, r: 8, alpha: 16, target_modules: all-linear}}
training:
  max_steps: {arguments.steps}
  batch_size: 16
  gradient_accumulation: 16
  learning_rate: 2.0e-4
  optimizer: paged_adamw_8bit
  gradient_checkpointing: true
  evaluations: 1
  evaluation_rows: 4
scoring: {{max_new_tokens: 32, resamples: 200, runtime: {{batch_size: 4}}}}
merge: {{check_rows: 4, tolerance: 1.0}}
gate: {{min_rows: 1}}
registry: {{model_name: gpu}}
device: {{memory: {arguments.memory}}}
store: {{folder: {folder}/store}}
"""
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def write_model(folder: Path, name: str) -> None:
    """Write a snapshot of random weights in bfloat16, with the demo's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    config = AutoConfig.from_pretrained(CONFIGS / name)
    for each in ("pad_token_id", "eos_token_id", "bos_token_id"):
        setattr(config, each, getattr(tokenizer, each))
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="2GB")
    tokenizer.save_pretrained(folder)


def measure_stages(folder: Path) -> None:
    """Run each stage again, into a store of its own; print what it held at most, as JSON."""
    import torch

    import retune.training.supervised  # noqa: F401
    from retune.spine.stage import StageRequest, load_table, run_stage
    from retune.training.resource_meter import watch_memory

    table = load_table("retune.stages:STAGES")
    for name, path in list_requests(folder / "store"):
        saved = json.loads(path.read_text("utf-8"))
        request = StageRequest.model_validate({**saved, "store": str(folder / "again")})
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        began = time.monotonic()
        with watch_memory("cpu") as ram:
            run_stage(table[saved["stage"]], request)
        found = {
            "stage": name,
            "seconds": time.monotonic() - began,
            "device": torch.cuda.max_memory_allocated(),
            "ram": ram.peak,
        }
        print(json.dumps(found), flush=True)


def list_requests(store: Path) -> Iterator[tuple[str, Path]]:
    """Yield the saved request of each stage that holds a model, by its name in the plan."""
    from benchmarks.plan_memory import list_requests as list_planned

    for name, paths in list_planned(store):
        yield from ((name, path) for path in paths)
    for stage in ("probe_model", "probe_robustness", "decide"):
        yield from ((stage, path) for path in sorted((store / "requests" / stage).glob("*.json")))


if __name__ == "__main__":
    main()
