"""Disks that do not take what a stage writes, and how that has to end; as data."""

from __future__ import annotations

import functools
import shutil
import subprocess

from retune.spine.store import MIN_FREE_BYTES
from tests.faults.running_faults import Fault
from tests.faults.stage_faults import MANIFEST_WRITTEN, at


def full_disks() -> list[Fault]:
    written = r"{key}\.work/artifact/(?!manifest)"
    stages = ("load_rows", "clean_rows", "score_sql", "train_adapter", "merge_adapter")
    found = [
        Fault(
            f"{stage}: disk full as it writes",
            at("open", written, "disk", "ENOSPC"),
            stage=stage,
            code=4,
            says="no disk space left",
            often=stage == "score_sql",
        )
        for stage in stages
    ]
    found += [
        Fault(
            f"train_adapter: {what} at its {place}",
            at(event, path, "disk", number),
            stage="train_adapter",
            code=4,
            says=says,
            often=number == "EROFS" and place == "manifest",
        )
        for what, number, says in (
            ("disk full", "ENOSPC", "no disk space left"),
            ("quota reached", "EDQUOT", "no disk space left"),
            ("file system read-only", "EROFS", "cannot be written"),
        )
        for place, event, path in (
            ("manifest", *MANIFEST_WRITTEN),
            ("work folder", "os.mkdir", r"{key}\.work/artifact$"),
            ("lock", "open", r"locks/{key}\.lock$"),
        )
    ]
    found += [
        Fault(
            f"{stage}: no file may grow beyond {most // 1024} KiB",
            {"from_start": True, "does": "limit files", "given": most},
            stage=stage,
            code=4,
            says="cannot be written",
            often=stage == "quantize_model",
        )
        for stage, most in (
            ("quantize_model", 200 * 1024),
            ("train_adapter", 100 * 1024),
            ("merge_adapter", 200 * 1024),
        )
    ]
    return found


@functools.cache
def may_mount() -> bool:
    """Return whether a process may have disks of its own here, as a container may not."""
    program = shutil.which("unshare")
    if program is None:
        return False
    command = [program, "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "-", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def small_disks() -> list[Fault]:
    """A disk that is full in earnest, wherever that comes about, in files of whatever library."""

    def of(stage: str, name: str, says: str, **given: int) -> Fault:
        folder = "{project}/.retune/" + stage
        return Fault(
            f"{stage}: {name}",
            {"from_start": True, "does": "small disk", "given": {"folder": folder, **given}},
            stage=stage,
            code=4,
            says=says,
            needs=may_mount,
        )

    found = [
        of(
            stage,
            f"another program fills its disk but for {left // 1024} KiB",
            "no disk space left",
            bytes=MIN_FREE_BYTES + 2**20,
            left=left,
        )
        for stage, left in (
            ("clean_rows", 16 * 1024),
            ("quantize_model", 512 * 1024),
            ("score_sql", 8 * 1024),
            ("train_adapter", 128 * 1024),
            ("merge_adapter", 512 * 1024),
        )
    ]
    nearly_full = of(
        "train_adapter",
        "its disk is nearly full as it begins",
        "64 MiB needed to start train_adapter",
        bytes=MIN_FREE_BYTES - 2**20,
    )
    return [*found, nearly_full]


def disk_faults() -> list[Fault]:
    """Return what goes wrong with the disk of a stage that is computed by hand."""
    return [*full_disks(), *small_disks()]
