"""The plan of memory of every stage: of models at real sizes, and beside what a run really takes.

    python benchmarks/plan_memory.py plans
    python benchmarks/plan_memory.py measure --limit

`plans` prints a table per model in benchmarks/configs: their public configurations, of which no
weight is needed. Rows are 256 tokens long, half of them answer.

`measure` builds a model of 312 million weights (Llama's classes, random), plans a small recipe with
it, and runs that with a `device.memory` of 15 % above the highest peak of the plan. Then it runs
each stage again, from its saved request, in a process of its own, and prints the highest memory
of that process (`ru_maxrss`) beside the plan, and the most of it that was not mapped from files
(looked at 20 times a second): the system takes mapped pages back where others need the room. With
`--limit`, the whole run stands under a hard limit of the same size (RLIMIT_DATA): each process that
asks for more private memory than that is refused. Mapped weights count there, and addresses without
memory behind them, such as the places of freed blocks: hence 15 % and not less.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = Path(__file__).with_name("configs")
TOKENS, ANSWER = 256, 128
MARGIN = 1.15
PLACES = "placements"
"""Under which name a stage's context holds what the plan says (`retune.modeling.placement`)."""


@dataclass(frozen=True)
class Case:
    """A model on a machine.

    Attributes:
        folder: Below `CONFIGS`.
        device: Memory of each GPU.
        ram: Of the machine.
        devices: GPUs; with several, FSDP.
        attention: Whose work is counted; transformers builds gpt-oss with eager attention alone.
    """

    folder: str
    device: str
    ram: str
    devices: int = 1
    attention: str = "sdpa"


CASES = (
    Case("qwen2.5-3b", "6GB", "16GB"),
    Case("gpt-oss-20b", "16GB", "64GB", attention="eager"),
    Case("gpt-oss-20b", "48GB", "128GB", attention="eager"),
    Case("gemma-3-27b", "24GB", "128GB"),
    Case("llama-3-70b", "80GB", "256GB", devices=2),
    Case("llama-3-70b", "80GB", "256GB"),
)


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("plans", "measure"))
    parser.add_argument("--only", default="", help="names of models, with commas")
    parser.add_argument("--limit", action="store_true", help="run once more under a hard limit")
    parser.add_argument("--keep", type=Path, help="folder for model and stores; else temporary")
    arguments = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    if arguments.what == "plans":
        names = [name for name in arguments.only.split(",") if name]
        print_plans([case for case in CASES if not names or case.folder in names])
    elif arguments.keep:
        measure(arguments.keep.absolute(), limited=arguments.limit)
    else:
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name), limited=arguments.limit)


def print_plans(cases: list[Case]) -> None:
    """Print the plan of each case."""
    from rich.console import Console

    from retune.cli.memory_tables import print_plan
    from retune.errors import DoesNotFit
    from retune.preflight.memory_plan import refuse_unplanned

    console = Console(width=110)
    for case in cases:
        plan, recipe = plan_case(case)
        gpus = f"{case.devices} x {case.device}" if case.devices > 1 else case.device
        console.print(f"\n{case.folder}, QLoRA, on {gpus} with {case.ram} of RAM", style="bold")
        print_plan(console, plan)
        try:
            refuse_unplanned(plan, recipe)
            console.print("goes through", style="green")
        except DoesNotFit as refused:
            console.print(refused.message, soft_wrap=True, markup=False)


def plan_case(case: Case) -> Any:
    """Return the plan of a case, and its recipe."""
    from retune.errors import ConfigError
    from retune.machine import Device
    from retune.modeling.memory.estimate_memory import Plan, estimate_memory
    from retune.modeling.memory.memory_estimate import BatchShape
    from retune.modeling.memory.model_sizes import Work
    from retune.modeling.prequantized import quantized_as
    from retune.preflight.measure_stages import CHECKED, REFERENCE, SCORED, size_stages
    from retune.preflight.planning import find_room, list_forms, plan_stages
    from retune.recipe.recipe import Recipe

    folder, device = CONFIGS / case.folder, Device(name="cuda", bfloat16=True, present=False)
    recipe = Recipe.model_validate(
        {
            "name": case.folder.replace(".", "-"),
            "data": {"train": "rows.jsonl"},
            "model": {"id": str(folder), "attention": case.attention},
            "quantization": {"kind": "nf4"},
            "method": {"kind": "qlora", "r": 8, "target_modules": "all-linear"},
            "training": {
                "batch_size": 16,
                "gradient_accumulation": 16,
                "gradient_checkpointing": True,
                "optimizer": "paged_adamw_8bit",
                "evaluations": 0,
            },
            "scoring": {"runtime": {"batch_size": 4}},
            "registry": {"model_name": "plan"},
            "device": {"memory": case.device, "ram": case.ram},
        }
    )
    rows = recipe.scoring.runtime.batch_size
    works = {
        SCORED: [
            Work(rows=rows, tokens=TOKENS),
            Work(rows=rows, tokens=TOKENS - ANSWER, written=recipe.scoring.max_new_tokens),
        ],
        REFERENCE: [Work(rows=rows, tokens=TOKENS)],
        CHECKED: [Work(rows=recipe.merge.check_rows, tokens=TOKENS, kept=ANSWER + 1, losses=False)],
    }
    forms = list_forms(recipe, device, quantized_as(folder))
    sizes = size_stages(
        folder, works, device=device, forms=(*forms, "nf4"), dtype="auto", quantized=True
    )
    batch = BatchShape(rows=1, tokens=TOKENS, answer_tokens=ANSWER)
    parts = (recipe.model, recipe.quantization, recipe.method, recipe.training)
    try:
        training = estimate_memory(Plan(folder, *parts, batch, device))
    except ConfigError as error:
        print(error.message)
        training = None
    room = find_room(recipe, device)
    spread, sharded = case.devices, case.devices > 1
    plan = plan_stages(sizes, training, recipe, room, forms, devices=spread, sharded=sharded)
    return plan, recipe


def measure(folder: Path, *, limited: bool) -> None:
    """Run the recipe on a machine of its plan, and print each stage's peak beside its plan."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = write_recipe(folder, memory="")
    print("planning", flush=True)
    planned = max(stage["ram_bytes"] for stage in read_plan(recipe, folder).values())
    limit = math.ceil(planned * MARGIN / 1e6)
    recipe = write_recipe(folder, memory=f"device: {{memory: {limit}MB}}")
    run = [sys.executable, "-m", "retune.cli", "run", str(recipe), "--json"]
    if limited:
        # What was found for the plan is found anew, under the limit.
        shutil.rmtree(folder / "store")
        run_limited(run, folder, limit)
    else:
        print("running the recipe", flush=True)
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL, env=environment(folder))
    print_peaks(read_plan(recipe, folder), folder)


def print_peaks(stages: dict[str, dict[str, Any]], folder: Path) -> None:
    """Print each stage's peak beside its plan; of the training also that with glibc's own heap."""
    print("| stage | planned MB | measured MB | error | not mapped MB | CPU s |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    for name, paths in list_requests(folder / "store"):
        if name not in stages:
            continue
        planned = stages[name]["ram_bytes"]
        peaks = [peak_again(path, folder) for path in paths]
        print_peak(name, planned, max(peaks, key=lambda each: each.all))
        if name == "train_adapter":
            kept = peak_again(paths[0], folder, told=False)
            print_peak(f"{name}, what is freed kept", planned, kept)


def print_peak(name: str, planned: int, found: Peak) -> None:
    """Print a row."""
    sizes = [f"{size / 1e6:,.0f}" for size in (planned, found.all, found.own)]
    error = f"{planned / found.all - 1:+.0%}"
    row = (name, *sizes[:2], error, sizes[2], f"{found.cpu_seconds:.0f}")
    print("| " + " | ".join(row) + " |", flush=True)


def run_limited(run: list[str], folder: Path, limit: int) -> None:
    """Run the recipe, no process of it with more data than a number of MB."""
    # Arrow's own allocator reserves a GiB of addresses that it does not use, which would count.
    within = {**environment(folder), "ARROW_DEFAULT_MEMORY_POOL": "system"}
    done = subprocess.run(
        run,
        check=False,
        stdout=subprocess.DEVNULL,
        env=within,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit * 10**6,) * 2),
    )
    trained = list((folder / "store" / "train_adapter").glob("*/manifest.json"))
    rungs = {json.loads(path.read_text("utf-8"))["record"]["memory_rung"] for path in trained}
    less = next(iter(rungs), None)
    print(
        f"the whole run under RLIMIT_DATA {limit:,} MB: exit code {done.returncode}; "
        f"trained as the recipe says: {'yes' if trained and less is None else less or 'no'}",
        flush=True,
    )


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a run that touches nothing of the user's."""
    paths = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])
    own = {"PREFECT_HOME": str(folder / "prefect"), "PYTHONPATH": paths}
    return {**os.environ, **own, "OMP_WAIT_POLICY": "PASSIVE"}


def write_recipe(folder: Path, *, memory: str) -> Path:
    """Write the model and a recipe of few rows and steps, with a line on the memory there is."""
    if not (folder / "base" / "config.json").is_file():
        write_model(folder / "base")
    data = REPOSITORY / "assets" / "text_to_sql_pt"
    text = f"""
name: memory
data:
  train: {data}/train.jsonl
  test: {data}/test.jsonl
  databases: {data}/databases.jsonl
  columns: {{question: question, answer: query, group: db_id, database: db_id, row_id: id}}
split: {{max_train_rows: 16, max_validation_rows: 4, max_test_rows: 8, test_fraction: 0.1}}
model: {{id: {folder}/base}}
quantization: {{kind: nf4}}
method: {{kind: qlora, r: 8}}
training: {{max_steps: 2, batch_size: 8, evaluations: 0}}
scoring: {{max_new_tokens: 8, resamples: 200, runtime: {{batch_size: 8}}}}
merge: {{max_shard_size: 200MB, check_rows: 4, tolerance: 1.0}}
gate: {{min_rows: 1}}
registry: {{model_name: memory}}
store: {{folder: {folder}/store}}
{memory}
"""
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def write_model(folder: Path) -> None:
    """Write a random model of 312 million weights (1.25 GB in float32) with the demo tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    tokenizer = AutoTokenizer.from_pretrained(REPOSITORY / "assets" / "base_tiny")
    ids = ("pad_token_id", "eos_token_id", "bos_token_id")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=1024,
        num_hidden_layers=24,
        intermediate_size=2752,
        num_attention_heads=16,
        num_key_value_heads=16,
        max_position_embeddings=2048,
        **{name: getattr(tokenizer, name) for name in ids},
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder, max_shard_size="200MB")
    tokenizer.save_pretrained(folder)


def read_plan(recipe: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the plan of each stage as `retune estimate --json` says it."""
    command = [sys.executable, "-m", "retune.cli", "estimate", str(recipe), "--no-steps", "--json"]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment(folder)
    )
    plan = json.loads(done.stdout.strip().splitlines()[-1])["plan"]
    return {stage["stage"]: stage for stage in plan["stages"]}


def list_requests(store: Path) -> list[tuple[str, list[Path]]]:
    """Return the saved requests of each stage that holds a model, by its name in the plan.

    What is scored has one for each kind of score; the plan is of the largest.
    """
    order = ("check_method", "quantize_model", "train_adapter", "merge_adapter")
    found = {name: sorted((store / "requests" / name).glob("*.json")) for name in order}
    for scores in ("score_perplexity", "score_general_text", "score_sql"):
        for path in sorted((store / "requests" / scores).glob("*.json")):
            model = json.loads(path.read_text("utf-8"))["inputs"]["model"]
            roles = {"base": "base", "merge_adapter": "merged"}
            role = "adapter" if model["adapter"] else roles.get(Path(model["weights"]).parent.name)
            found.setdefault(f"score {role or 'base'}", []).append(path)
    return [(name, paths) for name, paths in found.items() if paths]


@dataclass(frozen=True)
class Peak:
    """What a process took.

    Attributes:
        all: The most that it held, in bytes.
        own: The most of it that was not mapped from files.
        cpu_seconds: Its time, libraries and loading included.
    """

    all: int
    own: int
    cpu_seconds: float


def peak_again(request: Path, folder: Path, *, told: bool = True) -> Peak:
    """Run a stage again in a process of its own, and measure that.

    Args:
        request: As a computation left it.
        folder: Where what it makes is written for a while.
        told: Whether it is told its places in the plan.
    """
    saved = json.loads(request.read_text("utf-8"))
    if not told:
        saved["context"].pop(PLACES)
    # Its artifact would be found and nothing computed: it goes to another store.
    with tempfile.TemporaryDirectory(dir=folder) as name:
        copied = Path(name) / "request.json"
        copied.write_text(json.dumps({**saved, "store": f"{name}/store"}), encoding="utf-8")
        command = [sys.executable, "-m", "retune.stage", saved["stage"], str(copied)]
        child = subprocess.Popen(command, env=environment(folder), stdout=subprocess.DEVNULL)
        own = 0
        while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
            own = max(own, read_own(child.pid))
            time.sleep(0.05)
        _, status, usage = ended
        if status:
            raise SystemExit(f"{saved['stage']}: ended with status {status}")
    return Peak(usage.ru_maxrss * 1024, own, usage.ru_utime + usage.ru_stime)


def read_own(process: int) -> int:
    """Return the bytes of a process that are not mapped from files; 0 where it has just ended."""
    lines = Path(f"/proc/{process}/status").read_text("ascii", errors="replace").splitlines()
    found = next((line for line in lines if line.startswith("RssAnon:")), None)
    return int(found.split()[1]) * 1024 if found else 0


if __name__ == "__main__":
    main()
