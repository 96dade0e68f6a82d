"""What goes wrong in one stage, and how that has to end; as data."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from retune.spine.store import MANIFEST
from tests.faults.running_faults import Fault, restoring

KILLED = -signal.SIGKILL


def at(event: str, path: str, does: str, given: Any = None, **more: Any) -> dict[str, Any]:
    """Return a plan: at the n-th event over a path something is done."""
    return {"event": event, "path": path, "does": does, "given": given, **more}


def calling(function: str, does: str, given: Any = None, **more: Any) -> dict[str, Any]:
    """Return a plan: at the n-th call of a function something is done."""
    return {"call": function, "does": does, "given": given, **more}


MANIFEST_WRITTEN = ("open", r"{key}\.work/artifact/manifest\.json$")
PREPARING = (
    *("load_databases", "load_rows", "clean_rows", "split_rows", "remove_leaks", "format_chat"),
    *("prepare_sides", "check_method", "estimate_training", "measure_stages"),
)
COMPUTING = (
    *("quantize_model", "score_perplexity", "score_general_text", "score_sql", "probe_model"),
    *("train_adapter", "merge_adapter", "decide", "register_model"),
)


def killed_at_the_seal() -> list[Fault]:
    return [
        Fault(
            f"{stage}: killed before its manifest is written",
            at(*MANIFEST_WRITTEN, "kill all"),
            stage=stage,
            code=KILLED,
            often=stage in ("clean_rows", "merge_adapter"),
        )
        for stage in (*PREPARING, *COMPUTING)
    ]


TRAINING_MOMENTS = {
    "before its request is kept": ("open", r"requests/train_adapter/{key}\.json$"),
    "as it begins": ("os.mkdir", r"{key}\.work/artifact$"),
    "in the first checkpoint": ("open", r"checkpoint-\d+/"),
    "before a checkpoint's seal": ("open", r"sealed\.json\.tmp$"),
    "as a checkpoint is sealed": ("os.rename", r"sealed\.json\.tmp$"),
    "in the second checkpoint": ("open", r"checkpoint-2/"),
    "as a curve is written": ("open", r"metrics\.jsonl$"),
    "as the adapter is written": ("os.mkdir", r"{key}\.work/artifact/log$"),
    "before it takes its place": ("os.rename", r"{key}\.work/artifact$"),
}


def killed_in_training() -> list[Fault]:
    found = [
        Fault(
            f"train_adapter: killed {moment}",
            at(event, path, "kill all"),
            stage="train_adapter",
            code=KILLED,
            often=moment == "before a checkpoint's seal",
        )
        for moment, (event, path) in TRAINING_MOMENTS.items()
    ]
    found += [
        Fault(
            f"train_adapter: killed {moment}",
            at(event, path, "kill all"),
            stage="train_adapter",
            code=KILLED,
            first=True,
            again="reused",
            often=moment == "after it took its place",
        )
        for moment, event, path in (
            ("after it took its place", "open", r"known/train_adapter/{key}\.json$"),
            ("as its work folder is removed", "shutil.rmtree", r"{key}\.work$"),
        )
    ]
    return found


def adapter(project: Path) -> Path:
    (folder,) = (
        each for each in (project / ".retune" / "train_adapter").glob("*") if each.suffix != ".work"
    )
    return folder


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Turn one bit, and set the time of the change back."""
    before = path.stat()
    found = bytearray(path.read_bytes())
    found[len(found) // 2] ^= 1
    path.write_bytes(found)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights cut short": lambda at: cut(at / "adapter_model.safetensors"),
    "a bit of the weights turned": lambda at: flip(at / "adapter_model.safetensors"),
    "weights deleted": lambda at: (at / "adapter_model.safetensors").unlink(),
    "weights emptied": lambda at: os.truncate(at / "adapter_model.safetensors", 0),
    "manifest cut short": lambda at: cut(at / MANIFEST),
    "a bit of the manifest turned": lambda at: flip(at / MANIFEST),
    "manifest deleted": lambda at: (at / MANIFEST).unlink(),
    "manifest no text": lambda at: (at / MANIFEST).write_bytes(b"\xff\xfe\x00"),
    "weights became a folder": lambda at: _become_folder(at / "adapter_model.safetensors"),
}


def _become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def damaged_artifacts() -> list[Fault]:
    """What stands in the store is damaged: computed anew at once, to the same bytes."""
    return [
        Fault(
            f"train_adapter: {name} in the store",
            stage="train_adapter",
            gone=("merge_adapter",),
            before=lambda project, spoil=spoil: spoil(adapter(project)),  # type: ignore[misc]
            first=True,
            again="own",
            often=name == "a bit of the weights turned",
        )
        for name, spoil in DAMAGES.items()
    ]


def checkpoints(project: Path) -> Path:
    (folder,) = (project / ".retune" / "train_adapter").glob("*.work/scratch/checkpoints")
    return folder


def copy_unsealed(at: Path) -> None:
    """Put a later checkpoint beside that a kill left without its seal."""
    shutil.copytree(at / "checkpoint-2", at / "checkpoint-4")
    (at / "checkpoint-4" / "sealed.json").unlink()


CHECKPOINTS: dict[str, Callable[[Path], object]] = {
    "optimizer cut short": lambda at: cut(at / "checkpoint-2" / "optimizer.pt"),
    "random state deleted": lambda at: (at / "checkpoint-2" / "rng_state.pth").unlink(),
    "bit of its weights turned": lambda at: flip(at / "checkpoint-2" / "adapter_model.safetensors"),
    "seal cut short": lambda at: cut(at / "checkpoint-2" / "sealed.json"),
    "seal of another kind": lambda at: (at / "checkpoint-2" / "sealed.json").write_text("[1]"),
    "later one without a seal": copy_unsealed,
    "folder deleted": lambda at: shutil.rmtree(at / "checkpoint-2"),
    "all deleted": shutil.rmtree,
}


def damaged_checkpoints() -> list[Fault]:
    """A training is killed, and its last checkpoint is not what it was when it goes on."""
    return [
        Fault(
            f"train_adapter: killed, then its last checkpoint: {name}",
            at("open", r"checkpoint-3/", "kill all"),
            stage="train_adapter",
            code=KILLED,
            lifted=lambda project, spoil=spoil: spoil(checkpoints(project)),  # type: ignore[misc]
            often=name == "optimizer cut short",
        )
        for name, spoil in CHECKPOINTS.items()
    ]


STEP = "transformers.trainer:Trainer.training_step"
OUT_OF_MEMORY = "torch:OutOfMemoryError"


def failing_numbers() -> list[Fault]:
    """Memory that runs out, and figures that are none."""
    return [
        Fault(
            "train_adapter: memory runs out in one step",
            calling(STEP, "raise", OUT_OF_MEMORY, nth=1, times=1),
            stage="train_adapter",
            first=True,
            # The same rows in two parts: equal but for rounding.
            again="own",
            often=True,
        ),
        Fault(
            "train_adapter: memory runs out in every step",
            calling(STEP, "raise", OUT_OF_MEMORY),
            stage="train_adapter",
            code=5,
            says="with activations computed again. Less memory is needed by",
            # It goes on with the smallest parts, as the first try found out.
            again="own",
        ),
        Fault(
            "train_adapter: memory runs out as the base is loaded",
            calling("retune.training.supervised:_build_sft_trainer", "raise", OUT_OF_MEMORY),
            stage="train_adapter",
            code=5,
            says="fewer rows at a time there would not help",
        ),
        Fault(
            "train_adapter: a loss that is not a number",
            calling(STEP, "not a number", nth=2),
            stage="train_adapter",
            code=5,
            says="the loss is not a number at step 3 of 4",
            often=True,
        ),
        Fault(
            "score_perplexity: memory runs out in one batch",
            calling("retune.inference.token_losses:_batch_nlls", "raise", OUT_OF_MEMORY, times=1),
            stage="score_perplexity",
            first=True,
            # Half the rows at a time: equal but for rounding.
            again="own",
        ),
        Fault(
            "score_sql: memory runs out in one batch",
            calling("retune.inference.generation:decode", "raise", OUT_OF_MEMORY, times=1),
            stage="score_sql",
            first=True,
            again="reused",
        ),
        Fault(
            "score_perplexity: memory runs out in every batch",
            calling("retune.inference.token_losses:_batch_nlls", "raise", OUT_OF_MEMORY),
            stage="score_perplexity",
            code=5,
            says="score_perplexity: memory ran out",
        ),
    ]


def clocks() -> list[Fault]:
    return [
        Fault(
            f"{stage}: the clock is {what}",
            {"from_start": True, "does": "move the clock", "given": seconds},
            stage=stage,
            first=True,
            again="reused",
        )
        for stage in ("train_adapter", "decide")
        for what, seconds in (("set back a day", -86_400.0), ("ten years ahead", 3.2e8))
    ]


def changing_inputs() -> list[Fault]:
    """What a stage reads is no longer what its key says."""
    added = {"path": "{project}/data/train.jsonl", "text": "{}\n"}
    config = {"path": "{project}/model/config.json", "text": " "}
    return [
        Fault(
            "load_rows: a row is added while it reads",
            calling("retune.data.rows:_read", "append", added),
            stage="load_rows",
            of="train.jsonl",
            code=3,
            says="train.jsonl: changed since the run began",
            often=True,
            **restoring("data/train.jsonl"),
        ),
        Fault(
            "load_databases: its file changes as it begins",
            at("open", r"requests/load_databases/", "append", added | {"path": DATABASES}),
            stage="load_databases",
            code=3,
            says="changed since the run began",
            **restoring("data/databases.jsonl"),
        ),
        Fault(
            "quantize_model: the base changes while it is read",
            calling("retune.weights.quantize:write_quantized", "append", config),
            stage="quantize_model",
            code=3,
            says="changed since the run began",
            **restoring("model/config.json"),
        ),
        Fault(
            "merge_adapter: the adapter that it reads is damaged",
            stage="merge_adapter",
            before=lambda project: flip(adapter(project) / "adapter_model.safetensors"),
            code=4,
            says="artifact damaged: adapter_model.safetensors changed",
            lifted=lambda project: flip(adapter(project) / "adapter_model.safetensors"),
            often=True,
        ),
        Fault(
            "score_sql: the rows that it reads are gone",
            stage="score_sql",
            before=lambda project: (project / ".retune/prepare_sides").rename(project / "aside"),
            code=4,
            says="artifact deleted",
            lifted=lambda project: (project / "aside").rename(project / ".retune/prepare_sides"),
        ),
    ]


DATABASES = "{project}/data/databases.jsonl"


@contextmanager
def held_for_a_second(project: Path, key: str) -> Iterator[None]:
    """Hold a stage's lock, as another run does that is about to end."""
    lock = FileLock(project / ".retune" / "locks" / f"{key}.lock", thread_local=False)
    lock.acquire()
    threading.Timer(1.0, lock.release).start()
    yield
    lock.release(force=True)


def places() -> list[Fault]:
    """What stands where an artifact, its work or its lock belongs."""

    def at_key(make: Callable[[Path], object]) -> Callable[[Path, str], object]:
        return lambda project, key: make(project / ".retune" / "train_adapter" / key)

    def left_work(artifact: Path) -> None:
        rubbish = artifact.with_name(f"{artifact.name}.work") / "artifact" / "rubbish" / "file"
        rubbish.parent.mkdir(parents=True)
        rubbish.write_text("of a run that was killed")

    found = [
        Fault(
            "train_adapter: " + name,
            stage="train_adapter",
            prepare=at_key(make),
            first=True,
            again="reused",
        )
        for name, make in {
            "a file stands at its place": lambda place: place.write_text("a file"),
            "a link to nowhere stands at its place": lambda place: place.symlink_to("nowhere"),
            "an empty folder stands at its place": lambda place: place.mkdir(),
            "a work folder was left with files": left_work,
            "its lock was left by a process that is gone": lambda place: (
                place.parents[1] / "locks" / f"{place.name}.lock"
            ).write_text("4194303"),
        }.items()
    ]
    return [
        *found,
        Fault(
            "train_adapter: another process holds its lock for a while",
            stage="train_adapter",
            beside=held_for_a_second,
            first=True,
            again="reused",
        ),
    ]


def stage_faults() -> list[Fault]:
    """Return what goes wrong in a stage that is computed by hand."""
    return [
        *killed_at_the_seal(),
        *killed_in_training(),
        *damaged_artifacts(),
        *damaged_checkpoints(),
        *failing_numbers(),
        *clocks(),
        *changing_inputs(),
        *places(),
    ]
