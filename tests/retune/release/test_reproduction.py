"""A version made again: equal by digests, or from which stage on, and how far off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from retune.records import Record
from retune.registry.records import VersionManifest
from retune.release.reproduction import Reproduction, compare_runs
from retune.score_records import GateDecision
from retune.spine.store import Store
from retune.watching import StageLine


class Made(Record):
    """A record of a stage: its content, and its figures."""

    digest: str
    train_loss: float | None = None
    metrics: dict[str, dict[str, float]] | None = None


def seal(store: Store, stage: str, key: str, made: Made, weight: float = 0.0) -> None:
    work = store.open_work(stage, key)
    save_file({"w": np.full((2, 2), weight, np.float32)}, work / "artifact" / "model.safetensors")
    parts = {"library.torch": "2.13.0"}
    store.seal(stage, key, made, key_parts=parts, provenance={"seconds": 1.0})


class Twice:
    """One run in a store, and the same in another, with what each of its stages made."""

    def __init__(self, folder: Path) -> None:
        self.then, self.now = Store(folder / "then"), Store(folder / "now")
        self.first: dict[str, tuple[str, str]] = {}
        self.lines: list[StageLine] = []

    def stage(
        self,
        name: str,
        then: Made,
        now: Made,
        *,
        weights: tuple[float, float] = (0, 0),
        **line: Any,
    ) -> None:
        keys = line.pop("keys", ("k", "k"))
        seal(self.then, name, keys[0], then, weights[0])
        seal(self.now, name, keys[1], now, weights[1])
        made = {"state": "ran", "reason": "", "seconds": 1.0, "key": keys[1], **line}
        self.lines.append(StageLine(name=name, **made))
        self.first[self.lines[-1].label] = (keys[0], then.digest)

    def compare(self) -> Reproduction:
        manifest = VersionManifest(
            model_name="m",
            version=3,
            made_at="2026-01-01T00:00:00Z",
            released=self.first["merge_adapter"][1],
            base="b",
            base_name="base",
            recipe={},
            recipe_file="r.yaml",
            sources={},
            sides={},
            rows_digest="",
            template="",
            seeds={},
            libraries={"torch": "2.12.0"},
            lock_digest=None,
            commit=None,
            machine={"cpus": "-1"},
            stages={label: key for label, (key, _) in self.first.items()} | {"decide": "d"},
            digests={label: digest for label, (_, digest) in self.first.items()} | {"decide": "d"},
            decision=GateDecision(digest="d", promote=True, reasons=(), comparisons=()),
        )
        return compare_runs(manifest, self.lines, self.now, self.then, kept=True)


@pytest.fixture
def twice(tmp_path: Path) -> Twice:
    return Twice(tmp_path)


def test_equal_digests_are_equal_whatever_was_not_made_again(twice: Twice) -> None:
    """The decision, which rests on a champion, is not asked for; machine and libraries are told."""
    twice.stage("train_adapter", Made(digest="a"), Made(digest="a"))
    twice.stage("merge_adapter", Made(digest="m"), Made(digest="m"))
    found = twice.compare()
    assert found.equal and found.differs_from is None and found.figures == ()
    assert [each.label for each in found.stages] == ["train_adapter", "merge_adapter"]
    assert "torch: 2.12.0 then, 2.13.0 now" in found.notes
    assert any(note.startswith("cpus: -1 then") for note in found.notes)
    assert found.store == twice.now.root


def test_the_first_difference_is_named_with_figures_and_weights(twice: Twice) -> None:
    """Loss 0.5 to 0.75, a match rate of 0.25 to 0.5, weights of 1 to 1.125."""
    metric = {"low": 0.0, "high": 1.0}
    twice.stage("split_rows", Made(digest="s"), Made(digest="s"))
    twice.stage(
        "train_adapter", Made(digest="a", train_loss=0.5), Made(digest="b", train_loss=0.75)
    )
    twice.stage("merge_adapter", Made(digest="m"), Made(digest="n"), weights=(1, 1.125))
    twice.stage(
        "score_sql",
        Made(digest="x", metrics={"match": {**metric, "value": 0.25}}),
        Made(digest="y", metrics={"match": {**metric, "value": 0.5}}),
        role="merged",
        keys=("k", "other"),
    )
    found = twice.compare()
    assert not found.equal and found.differs_from == "train_adapter"
    assert found.largest_weight_difference == 0.125
    pairs = {each.name: (each.then, each.now) for each in found.figures}
    assert pairs == {
        "train_adapter.train_loss": (0.5, 0.75),
        "score_sql (merged).match": (0.25, 0.5),
    }
    outcomes = {each.label: (each.equal, each.same_question) for each in found.stages}
    assert outcomes["split_rows"] == (True, True) and outcomes["train_adapter"] == (False, True)
    assert outcomes["score_sql (merged)"] == (False, False)
