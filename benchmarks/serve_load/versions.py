"""A registry with two versions of the shipped base, which answer otherwise in places."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
from safetensors.torch import load_file, save_file

from benchmarks.bench.shipped import BASE, ask_row, load_base, read_chats, read_rows
from retune.data.chats.rendering import render_prompt
from retune.data.schemas import CHAT_SCHEMA
from retune.data.tables import write_table
from retune.digests import digest_folder
from retune.records import SideRef
from retune.registry.versions.finding import CHAMPION
from retune.tracking import connect
from tests.retune.registry.test_registering import Bench

NAME = "base"
_CHANGED = "model.layers.3.mlp.down_proj.weight"
_ROWS = 4


class TwoVersions(Bench):
    """A store whose model `NAME` has two versions, the first of them champion."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        shutil.copytree(BASE, root / "merged-1")
        shutil.copytree(BASE, root / "merged-2")
        path = root / "merged-2" / "model.safetensors"
        weights = load_file(path)
        weights[_CHANGED] *= 0.5
        save_file(weights, path, metadata={"format": "pt"})
        self.register(NAME, 1)
        self.register(NAME, 2, promote=False)

    def _write_rows(self, folder: Path) -> SideRef:
        folder.mkdir()
        loaded = load_base()
        rows = [
            {
                "row_id": str(number),
                "prompt": render_prompt(
                    loaded.tokenizer, [{"role": "user", "content": ask_row(row)}]
                ),
                "prompt_ids": chat.prompt,
                "answer": row["query"],
                "answer_ids": chat.answer,
            }
            for number, (row, chat) in enumerate(
                zip(read_rows("test", _ROWS), read_chats(loaded, "test", _ROWS), strict=True)
            )
        ]
        write_table(folder / "rows.parquet", rows, pa.schema(CHAT_SCHEMA))
        return SideRef(digest=digest_folder(folder), folder=folder)

    def move(self, version: int) -> None:
        """Let the alias champion point to a version."""
        connect(self.uri).set_registered_model_alias(NAME, CHAMPION, str(version))
