"""Rows written as the loading stages leave them, and the two stages that turn them into chats."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from retune.data.schemas import DATABASE_SCHEMA, INDEX_SCHEMA, ROW_SCHEMA
from retune.data.tables import write_table
from retune.model_records import BaseRef
from retune.records import ChatRef, DatasetRef, EncodedRef, Side, Source, SplitRef
from tests.making import make_workdir, settings_of

EMPTY = {
    "row_id": None,
    "group": None,
    "history": [],
    "question": "Quantos?",
    "context": "",
    "thinking": None,
    "answer": "SELECT 1",
    "label": None,
    "db_id": None,
    "file": 0,
    "line": 1,
}
HARMONY_TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}"
    "{% if m.role == 'assistant' %}"
    "{% if m.thinking is defined and loop.last %}<|channel|>analysis<|message|>{{ m.thinking }}"
    "<|end|><|start|>assistant{% endif %}"
    "<|channel|>final<|message|>{% else %}<|message|>{% endif %}{{ m.content }}"
    "{{ '<|return|>' if m.role == 'assistant' and loop.last else '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


class Bench:
    """Makes sources, sides and chats below a folder."""

    def __init__(self, root: Path, base: BaseRef) -> None:
        self.root, self.base = root, base
        self.numbers: Iterator[int] = count()

    def folder(self, name: str) -> Path:
        folder = self.root / f"{name}-{next(self.numbers)}"
        folder.mkdir()
        return folder

    def source(
        self,
        rows: Sequence[dict[str, Any]],
        format: str = "instruction",
        databases: Sequence[dict[str, str]] = (),
    ) -> DatasetRef:
        """Write rows, each given by what differs from `EMPTY`."""
        folder = self.folder("rows")
        write_table(folder / "rows.parquet", [EMPTY | row for row in rows], ROW_SCHEMA)
        write_table(folder / "databases.parquet", databases, DATABASE_SCHEMA)
        return DatasetRef(
            digest=folder.name,
            folder=folder,
            format=format,
            rows=len(rows),
            bad_rows=0,
            labels=(),
            databases=len(databases),
        )

    def encode(
        self, rows: DatasetRef, *, template: Source | None = None, **prompt: Any
    ) -> EncodedRef:
        from retune.data.chats.encoding import format_chat
        from retune.data.stages import EncodeInputs, EncodeSettings

        return format_chat(
            EncodeInputs(rows=rows, databases=None, base=self.base, template=template),
            settings_of(EncodeSettings, prompt=prompt),
            make_workdir(self.folder("encode") / "work"),
        )

    def split(
        self, sources: Sequence[DatasetRef], sides: dict[Side, list[tuple[int, int]]]
    ) -> SplitRef:
        """Write the index of each side: pairs of source and row."""
        from retune.data.tables import read_rows

        folder = self.folder("split")
        texts = [read_rows(source.folder / "rows.parquet") for source in sources]
        for side in ("train", "validation", "test"):
            write_table(
                folder / f"{side}.parquet",
                [
                    {
                        "source": source,
                        "row": row,
                        "row_id": f"{source}-{row}",
                        "group": "g",
                        "key": "k",
                        "label": texts[source][row]["label"],
                        "db_id": texts[source][row]["db_id"],
                        "held_out": False,
                        "exact": 0,
                        "folded": 0,
                    }
                    for source, row in sides[side]
                ],
                INDEX_SCHEMA,
            )
        sizes = {side: len(rows) for side, rows in sides.items()}
        return SplitRef(digest=folder.name, folder=folder, groups_shared=0, **sizes)

    def prepare(
        self,
        sources: Sequence[DatasetRef],
        chats: Sequence[EncodedRef],
        sides: dict[Side, list[tuple[int, int]]],
        **prompt: Any,
    ) -> ChatRef:
        from retune.data.chats.preparing import prepare_sides
        from retune.data.stages import ChatInputs, ChatSettings

        return prepare_sides(
            ChatInputs(
                split=self.split(sources, sides),
                rows=tuple(sources),
                chats=tuple(chats),
                databases=None,
                base=self.base,
            ),
            settings_of(ChatSettings, prompt=prompt),
            make_workdir(self.folder("chat") / "work"),
        )

    def audit(
        self,
        rows: Sequence[dict[str, Any]],
        *,
        format: str = "instruction",
        template: Source | None = None,
        **prompt: Any,
    ) -> ChatRef:
        """Put the rows on the training side, between two sound ones for the other sides."""
        sound = {"question": "Oi?", "answer": "Olá, tudo bem"}
        source = self.source([*rows, sound, sound], format)
        n = len(rows)
        return self.prepare(
            [source],
            [self.encode(source, template=template, **prompt)],
            {
                "train": [(0, row) for row in range(n)],
                "validation": [(0, n)],
                "test": [(0, n + 1)],
            },
            **prompt,
        )


@pytest.fixture
def bench(tmp_path: Path, base: BaseRef) -> Bench:
    """Chats of the tiny Llama, whose template has generation marks."""
    return Bench(tmp_path, base)


@pytest.fixture(scope="session")
def harmony_base(
    snapshot: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> BaseRef:
    """A tokenizer with gpt-oss's tags, a template with its channels, and no weights."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("harmony") / "harmony"
    tokenizer = AutoTokenizer.from_pretrained(snapshot("llama"))
    tags = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": tags})
    tokenizer.eos_token = "<|return|>"
    tokenizer.chat_template = HARMONY_TEMPLATE
    tokenizer.save_pretrained(folder)
    return BaseRef(digest="h", folder=folder, model_id="h", revision=None, tokenizer_digest="h")


@pytest.fixture
def harmony_bench(tmp_path: Path, harmony_base: BaseRef) -> Bench:
    """Chats of a tokenizer of gpt-oss's kind."""
    return Bench(tmp_path, harmony_base)


@pytest.fixture
def read_audit() -> Callable[[ChatRef], Any]:
    """Read the report of an audit."""
    from retune.data.findings import AuditReport

    def read(chat: ChatRef) -> AuditReport:
        return AuditReport.model_validate_json((chat.folder / "log/audit.json").read_text())

    return read


@pytest.fixture
def read_left_out() -> Callable[[ChatRef], list[dict[str, Any]]]:
    """Read the list of rows at fault."""

    def read(chat: ChatRef) -> list[dict[str, Any]]:
        lines = (chat.folder / "log/left_out.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]

    return read
