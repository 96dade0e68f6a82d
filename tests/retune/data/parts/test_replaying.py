"""Replay: all that is new is learned, and a seeded draw of what the champion has seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retune.data.parts.replaying import count_replayed, replay_rows
from retune.data.parts.splitting import hash_name
from retune.data.quality.texts import write_hash
from retune.data.schemas import CHAT_SCHEMA, HISTORY_SCHEMA, INDEX_SCHEMA
from retune.data.stages import ReplayInputs, ReplaySettings
from retune.data.tables import read_rows, write_table
from retune.digests import digest_folder
from retune.errors import DataError
from retune.records import ChatRef, Side, SplitRef
from tests.making import make_workdir, settings_of, source_of

SIDES: tuple[Side, ...] = ("train", "validation", "test")


def chat_row(name: str) -> dict[str, Any]:
    """Return a row of three prompt tokens and two answer tokens, the last of which is learned."""
    texts = dict.fromkeys(("row_id", "group", "question", "prompt", "answer"), name)
    ids = {"prompt_ids": [1, 2, 3], "answer_ids": [4, 5], "loss_mask": [False] * 4 + [True]}
    return {**texts, "db_id": None, "label": None, **ids}


def index_row(name: str) -> dict[str, Any]:
    folded = hash_name(name)
    named = {"row_id": name, "group": name, "key": name, "label": None, "db_id": None}
    return {"source": 0, "row": 0, **named, "held_out": False, "exact": folded, "folded": folded}


class Bench:
    """Ten training rows, of which the champion has learned the first six."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def replay(self, names: list[str], seen: list[str], replay: float, seed: int = 7) -> ChatRef:
        self.count += 1
        folder = self.folder / str(self.count)
        (folder / "split").mkdir(parents=True)
        write_table(folder / "split" / "train.parquet", map(index_row, names), INDEX_SCHEMA)
        for side in SIDES:
            (folder / "chat" / side).mkdir(parents=True)
            rows = names if side == "train" else [side]
            write_table(folder / "chat" / side / "rows.parquet", map(chat_row, rows), CHAT_SCHEMA)
            (folder / "chat" / side / "databases.parquet").write_bytes(b"databases")
        history = [
            {"side": "train", "row_id": n, "content": write_hash(hash_name(n)), "group": n}
            for n in seen
        ]
        write_table(folder / "seen.parquet", history, HISTORY_SCHEMA)
        inputs = ReplayInputs(
            chat=self.chat(folder / "chat"),
            split=SplitRef(
                digest="s", folder=folder / "split", groups_shared=0, train=1, validation=1, test=1
            ),
            seen=source_of(folder / "seen.parquet"),
        )
        settings = settings_of(ReplaySettings, retrain={"replay": replay}, seed=seed)
        return replay_rows(inputs, settings, make_workdir(folder / "work"))

    def chat(self, folder: Path) -> ChatRef:
        return ChatRef(
            digest="c",
            folder=folder,
            train=10,
            validation=1,
            test=1,
            side_digests={side: digest_folder(folder / side) for side in SIDES},
            tokenizer_digest="t",
            train_tokens=50,
            answer_tokens=10,
            longest_tokens=5,
            faults={},
        )


def learned(chat: ChatRef) -> list[str]:
    return [row["row_id"] for row in read_rows(chat.side("train").folder / "rows.parquet")]


NAMES = [f"r{number}" for number in range(10)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_new_rows_are_all_there_and_old_ones_are_their_part(bench: Bench) -> None:
    """Four new rows and a third of all from the old: two of those, in the order of the file."""
    found = bench.replay(NAMES, NAMES[:6], 1 / 3)
    names = learned(found)
    assert names[2:] == NAMES[6:] and set(names[:2]) < set(NAMES[:6])
    assert names == sorted(names) and found.train == 6
    # Six rows of five tokens, of which one carries loss.
    assert (found.train_tokens, found.answer_tokens) == (30, 6)


def test_validation_and_test_stay_as_they_are(bench: Bench) -> None:
    """Their digests are those of the sides before, so what was scored on them is found again."""
    found = bench.replay(NAMES, NAMES[:6], 0.3)
    before = bench.chat(bench.folder / "1" / "chat")
    for side in ("validation", "test"):
        assert found.side(side).digest == before.side(side).digest
        assert digest_folder(found.side(side).folder) == before.side(side).digest
    assert found.side("train").digest == digest_folder(found.side("train").folder)
    assert found.side("train").digest != before.side("train").digest


def test_the_draw_is_by_the_seed_and_by_each_row_s_name(bench: Bench) -> None:
    """The same again; another with another seed; and a row that is added changes it by its part."""
    many = [f"r{number}" for number in range(100)]
    draws = [learned(bench.replay(many, many[:90], 0.5, seed)) for seed in (7, 7, 8)]
    assert draws[0] == draws[1] != draws[2]
    more = learned(bench.replay([*many, "new"], many[:90], 0.5))
    assert set(draws[0]) <= set(more) and len(more) == len(draws[0]) + 2


@pytest.mark.parametrize(
    ("new", "seen", "replay", "expected"),
    [(70, 100, 0.3, 30), (70, 10, 0.3, 10), (5, 9, 1.0, 9), (5, 9, 0.0, 0), (0, 9, 0.5, 0)],
)
def test_the_part_is_of_all_training_rows(
    new: int, seen: int, replay: float, expected: int
) -> None:
    """30 of 100 rows for 0.3; never more than there are; all of them for 1."""
    assert count_replayed(new, seen, replay) == expected


def test_nothing_new_is_refused(bench: Bench) -> None:
    """A champion that has learned every row has nothing to go on with."""
    with pytest.raises(DataError, match="has learned all 10 training rows"):
        bench.replay(NAMES, NAMES, 0.3)
    assert bench.replay(NAMES, NAMES, 1.0).train == 10
