"""What merging takes, as a whole and layer by layer, each way in a process of its own.

    python benchmarks/merge_memory.py
    python benchmarks/merge_memory.py --stored bfloat16 --blocks 4

A Llama-shaped model with random weights (24 blocks, 1,024 wide: 317 million parameters, 1.27 GB in
float32) and a LoRA adapter of rank 16 on all linear layers are written to a temporary folder, and
merged:

- *whole*: the model is loaded in float32, merged by peft's `merge_and_unload(safe_merge=True)`,
  rounded and saved;
- *streamed*: the same by `MergedWeights` and `save_streamed`;
- *stage, on the device* and *stage, offloaded*: `merge_adapter` with its proofs, the model held
  whole or block by block meanwhile.

Memory is the highest resident size above what the process held once its libraries were imported;
files that are mapped count too. CPU time is that of the process, imports left out. At last the
files of both ways are compared, weight by weight.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
TOKENIZER = REPOSITORY / "assets" / "base_tiny"
WAYS = ("whole", "streamed", "stage, on the device", "stage, offloaded")
ROWS, PROMPT, ANSWER = 4, 120, 40


def main() -> None:
    """Merge every way, or one where a parent process says so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--stored", default="float32", help="number type of the base")
    parser.add_argument("--shard", default="200MB", help="merge.max_shard_size")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))
    if arguments.folder:
        folder = Path(arguments.folder)
        found = (
            merge(folder, arguments.way, arguments.shard)
            if arguments.way
            else write_model(folder, arguments.blocks, arguments.stored)
        )
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as name:
        run = lambda way: in_new_process(Path(name), way, sys.argv[1:])  # noqa: E731
        print_table(run(None), {way: run(way) for way in WAYS})
        print(compare(Path(name)))


def in_new_process(folder: Path, way: str | None, options: list[str]) -> dict[str, Any]:
    """Run a part where no earlier one left anything behind."""
    command = [sys.executable, __file__, *options, "--folder", str(folder)]
    command += ["--way", way] if way else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def write_model(folder: Path, blocks: int, stored: str) -> dict[str, Any]:
    """Write a base with random weights, an adapter that moves it, and rows to compare on."""
    import torch
    from peft import get_peft_model
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from retune.modeling.methods.lora import as_peft

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=1_024,
        intermediate_size=2_560,
        num_hidden_layers=blocks,
        num_attention_heads=16,
        num_key_value_heads=4,
        dtype=getattr(torch, stored),
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    largest = max(weight.numel() for weight in model.parameters()) * 4
    block = sum(weight.numel() for weight in model.model.layers[0].parameters()) * 4
    parameters = model.num_parameters()
    model.to(getattr(torch, stored)).save_pretrained(folder / "base", max_shard_size="200MB")
    AutoTokenizer.from_pretrained(TOKENIZER).save_pretrained(folder / "base")
    settings: dict[str, Any] = {"dropout": 0.0, "target_modules": "all-linear", "rslora": False}
    adapted = get_peft_model(model.float(), as_peft(r=16, alpha=32, **settings))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    adapted.save_pretrained(folder / "adapter")
    write_rows(folder)
    adapter = (folder / "adapter" / "adapter_model.safetensors").stat().st_size
    return {"parameters": parameters, "largest": largest, "block": block, "adapter": adapter}


def write_rows(folder: Path) -> None:
    """Write invented rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            "prompt_ids": [5 + (row * 7 + at) % 3_000 for at in range(PROMPT)],
            "answer_ids": [9 + at for at in range(ANSWER)],
        }
        for row in range(ROWS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")


def merge(folder: Path, way: str, shard: str) -> dict[str, Any]:
    """Merge one way in this process, and measure it."""
    from retune.training.resource_meter import watch_memory

    do = {"whole": merge_whole, "streamed": merge_streamed}.get(way, merge_stage)
    target = folder / way.replace(", ", "-").replace(" ", "-")
    do(folder, target, shard, way, warm=True)
    started, wall = time.process_time(), time.monotonic()
    with watch_memory("cpu") as memory:
        do(folder, target, shard, way)
    return {
        "above": memory.peak - memory.before,
        "cpu": time.process_time() - started,
        "wall": time.monotonic() - wall,
    }


def merge_whole(folder: Path, target: Path, shard: str, way: str, warm: bool = False) -> None:
    """Hold the whole model."""
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaForCausalLM

    if warm:
        return
    del LlamaForCausalLM, way
    dtype = AutoConfig.from_pretrained(folder / "base").dtype
    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, folder / "adapter").merge_and_unload(safe_merge=True)
    merged.to(dtype).save_pretrained(target, max_shard_size=shard)


def merge_streamed(folder: Path, target: Path, shard: str, way: str, warm: bool = False) -> None:
    """Hold a shard and a layer."""
    import copy

    from transformers import AutoConfig, LlamaForCausalLM

    from retune.data.chats.tokenizers import load_tokenizer
    from retune.weights.lent_weights import Names
    from retune.weights.merged_weights import MergedWeights, put_adapter_unfilled
    from retune.weights.saving import save_streamed
    from retune.weights.stored_weights import open_stored

    if warm:
        return
    del LlamaForCausalLM, way
    dtype = AutoConfig.from_pretrained(folder / "base").dtype
    tokenizer = load_tokenizer(folder / "base")
    model, base = open_stored(folder / "base", scratch=folder / "scratch", tokenizer=tokenizer)
    names, plain = Names(model), copy.deepcopy(model)
    merged = MergedWeights(put_adapter_unfilled(model, folder / "adapter"), names, base)
    save_streamed(plain, merged, target, dtype=dtype, max_shard_size=shard)


def merge_stage(folder: Path, target: Path, shard: str, way: str, warm: bool = False) -> None:
    """Merge and prove, as a run does."""
    from transformers import LlamaForCausalLM

    from retune.model_records import AdapterRef, BaseRef, Placement, StagePlace
    from retune.modeling.placement import PLACES, StagePlaces
    from retune.records import SideRef
    from retune.spine.stage import Workdir
    from retune.weights.merge import merge_adapter
    from retune.weights.stages import MergeInputs, MergeSettings
    from tests.making import settings_of

    if warm:
        return
    del LlamaForCausalLM
    figures: dict[str, Any] = dict.fromkeys(
        ("trainable_parameters", "total_parameters", "steps", "best_step", "resumed_from_step"), 1
    )
    figures |= {"train_loss": 1.0, "validation_loss": None, "base_validation_loss": None}
    inputs = MergeInputs(
        adapter=AdapterRef(digest="a", folder=folder / "adapter", **figures),
        base=BaseRef(
            digest="b", folder=folder / "base", model_id="base", revision=None, tokenizer_digest="t"
        ),
        rows=SideRef(digest="c", folder=folder),
        template=None,
    )
    placement: Placement = "offloaded" if way.endswith("offloaded") else "device"
    places = StagePlaces(stages={"merge_adapter": StagePlace(placement=placement)})
    scratch = folder / "scratch"
    for each in (target, scratch):
        each.mkdir(exist_ok=True)
    work = Workdir(target, scratch, context={PLACES: places.model_dump_json()})
    section = {"check_rows": ROWS, "max_shard_size": shard}
    merge_adapter(inputs, settings_of(MergeSettings, merge=section), work)


def print_table(model: dict[str, Any], found: dict[str, dict[str, Any]]) -> None:
    """Print what was measured, in MB and seconds."""
    sizes = {name: model[name] / 1e6 for name in ("largest", "block", "adapter")}
    print(
        f"{model['parameters']:,} parameters; in float32 the largest weight is "
        f"{sizes['largest']:,.0f} MB and a block {sizes['block']:,.0f} MB; the adapter is "
        f"{sizes['adapter']:,.0f} MB.\n"
    )
    print("| way | peak above libraries, MB | CPU, s | wall, s |")
    print("|---|--:|--:|--:|")
    for way, each in found.items():
        print(f"| {way} | {each['above'] / 1e6:,.0f} | {each['cpu']:,.1f} | {each['wall']:,.1f} |")


def compare(folder: Path) -> str:
    """Say whether all ways wrote the same weights, bit for bit."""
    from safetensors import safe_open

    found = []
    for way in WAYS:
        weights: dict[str, Path] = {}
        for path in sorted(
            (folder / way.replace(", ", "-").replace(" ", "-")).glob("*.safetensors")
        ):
            with safe_open(path, "pt") as file:
                weights |= dict.fromkeys(file.keys(), path)
        found.append(weights)
    different = sum(not equal(name, [each[name] for each in found]) for name in found[0])
    same = all(each.keys() == found[0].keys() for each in found)
    return (
        f"\n{len(found[0])} weights, {different} of them not the same in all; names equal: {same}."
    )


def equal(name: str, paths: list[Path]) -> bool:
    """Tell whether a weight is the same in several files."""
    import torch
    from safetensors import safe_open

    weights = []
    for path in paths:
        with safe_open(path, "pt") as file:
            weights.append(file.get_tensor(name))
    return all(torch.equal(weights[0], each) for each in weights)


if __name__ == "__main__":
    main()
