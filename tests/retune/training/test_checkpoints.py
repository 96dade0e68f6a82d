"""Sealed checkpoints: only whole ones are resumed from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retune.training.checkpoints import (
    SEAL,
    is_sealed,
    latest_sealed,
    seal_checkpoint,
    write_atomically,
)


def write_checkpoint(folder: Path, step: int, *, sealed: bool = True) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    (checkpoint / "sub").mkdir(parents=True)
    (checkpoint / "optimizer.pt").write_bytes(b"state")
    (checkpoint / "sub" / "rng.pth").write_bytes(b"random")
    if sealed:
        seal_checkpoint(checkpoint)
    return checkpoint


def test_a_sealed_checkpoint_is_whole(tmp_path: Path) -> None:
    """Sealing twice changes nothing: the seal is no part of what it seals."""
    checkpoint = write_checkpoint(tmp_path, 4)
    assert is_sealed(checkpoint)
    seal_checkpoint(checkpoint)
    assert is_sealed(checkpoint)


def flip(checkpoint: Path) -> None:
    path = checkpoint / "optimizer.pt"
    before = path.stat()
    path.write_bytes(b"stat3")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / SEAL).unlink(),
        lambda folder: (folder / SEAL).write_text("{"),
        lambda folder: (folder / SEAL).write_text("[1]"),
        lambda folder: (folder / SEAL).write_text('{"optimizer.pt": 5}'),
        lambda folder: (folder / "sub" / "rng.pth").unlink(),
        lambda folder: (folder / "optimizer.pt").write_bytes(b"sta"),
        flip,
    ],
    ids=["no seal", "cut seal", "list", "no digest", "no random state", "cut file", "bit flip"],
)
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    """The one before it is resumed from, and the damaged one is deleted."""
    older, newer = write_checkpoint(tmp_path, 2), write_checkpoint(tmp_path, 4)
    spoil(newer)
    assert latest_sealed(tmp_path) == older
    assert not newer.exists()


def test_the_latest_is_the_highest_step(tmp_path: Path) -> None:
    """By number: as text, 10 comes before 9."""
    write_checkpoint(tmp_path, 9)
    latest = write_checkpoint(tmp_path, 10)
    write_checkpoint(tmp_path, 11, sealed=False)
    assert latest_sealed(tmp_path) == latest


def test_without_checkpoints_there_is_nothing_to_resume(tmp_path: Path) -> None:
    """The folder need not exist."""
    assert latest_sealed(tmp_path / "none") is None


def test_a_kill_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new text becomes visible in one step, the rename."""
    path = tmp_path / "best.json"
    write_atomically(path, "old")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
