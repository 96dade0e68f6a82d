"""Stage `prepare_sides`: the chats of each side in one table, after every row was audited."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retune.data.chats.auditing import FAULTS, AuditRules
from retune.data.chats.databases import write_used_databases
from retune.data.chats.describing import describe_exceptions
from retune.data.chats.encoding import CHATS_FILE, ENDS_FILE
from retune.data.chats.findings import EXAMPLES, FIRST, SideFindings
from retune.data.chats.gathering import SourceTables, gather_rows
from retune.data.findings import AUDIT_FILE, LEFT_OUT_FILE, AuditReport
from retune.data.schemas import CHAT_SCHEMA
from retune.data.stages import ChatInputs, ChatSettings
from retune.digests import digest_folder
from retune.records import LOG_FOLDER, ChatRef, Share, Side
from retune.spine.stage import Workdir

SIDES: tuple[Side, ...] = ("train", "validation", "test")


def prepare_sides(inputs: ChatInputs, settings: ChatSettings, work: Workdir) -> ChatRef:
    """Gather each side's chats from the sources, and audit every row.

    Rows that nothing can be learned from are left out and listed; rows whose prompt carries loss or
    holds the answer are counted and listed, and `limits` decides on them.

    Args:
        inputs: Rows by side, the sources' texts and chats, databases, and the base.
        settings: The length limit, and which tokens carry loss.
        work: `<side>/rows.parquet`, `<side>/databases.parquet` and the audit go to its artifact
            folder.

    Returns:
        Counts of rows, tokens and faults.

    Raises:
        DataError: No row of a side is left.
    """
    sources = [
        SourceTables(rows.folder / "rows.parquet", chats.folder / CHATS_FILE)
        for rows, chats in zip(inputs.rows, inputs.chats, strict=True)
    ]
    rules = _make_rules(inputs, settings)
    findings: dict[Side, SideFindings] = {}
    (work.artifact / LOG_FOLDER).mkdir()
    total = inputs.split.train + inputs.split.validation + inputs.split.test
    with open(work.artifact / LEFT_OUT_FILE, "w", encoding="utf-8") as listed:
        for side in SIDES:
            before = sum(one.rows for one in findings.values())
            found = findings[side] = SideFindings(side, listed)
            tables = gather_rows(inputs.split.folder / f"{side}.parquet", sources)
            held = replace(rules, earlier_suffice=side == "train" and rules.assistant_may)
            with _open_side(work.artifact / side) as writer:
                for table in tables:
                    kept = found.audit(table, held)
                    writer.write_table(table.select(CHAT_SCHEMA.names).filter(pa.array(kept)))
                    work.reporter.progress("rows", before + found.rows, total)
            found.refuse_empty(settings.max_length)
    for side, found in findings.items():
        write_used_databases(work.artifact / side / "databases.parquet", inputs, found.used)
    _write_report(work.artifact, findings, inputs, settings.max_length)
    return _describe(work.artifact, findings, inputs)


def _make_rules(inputs: ChatInputs, settings: ChatSettings) -> AuditRules:
    ends = {
        token
        for chats in inputs.chats
        for token in json.loads((chats.folder / ENDS_FILE).read_text("utf-8"))
    }
    return AuditRules(
        max_length=settings.max_length,
        end_ids=frozenset(ends),
        decode=_load_decoder(inputs.base.folder),
        assistant_may=settings.loss_on in ("assistant", "marked"),
    )


def _load_decoder(folder: Path) -> Callable[[Sequence[int]], str]:
    path = folder / "tokenizer.json"
    if path.is_file():
        # transformers would import torch, which this stage's process does not hold.
        from tokenizers import Tokenizer

        fast = Tokenizer.from_file(str(path))
        return lambda ids: str(fast.decode(list(ids), skip_special_tokens=False))
    from retune.data.chats.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(folder)
    return lambda ids: str(tokenizer.decode(list(ids)))


def _open_side(folder: Path) -> pq.ParquetWriter:
    folder.mkdir()
    return pq.ParquetWriter(folder / "rows.parquet", CHAT_SCHEMA, compression="zstd")


def _write_report(
    folder: Path, findings: dict[Side, SideFindings], inputs: ChatInputs, max_length: int
) -> None:
    examples: dict[str, tuple[str, ...]] = {}
    for found in findings.values():
        for name, shown in found.examples.items():
            examples[name] = (*examples.get(name, ()), *shown)[:EXAMPLES]
    report = AuditReport(
        sides={side: found.as_audit() for side, found in findings.items()},
        examples=examples,
        max_length=max_length,
        repaired=sum(chats.repaired for chats in inputs.chats),
        prompts=_describe_prompts(inputs),
    )
    (folder / AUDIT_FILE).write_text(report.model_dump_json(indent=2) + "\n", "utf-8")


def _describe(folder: Path, findings: dict[Side, SideFindings], inputs: ChatInputs) -> ChatRef:
    sides = list(findings.values())
    train = findings["train"]
    return ChatRef(
        digest=digest_folder(folder, without=(LOG_FOLDER,)),
        folder=folder,
        train=train.kept,
        validation=findings["validation"].kept,
        test=findings["test"].kept,
        side_digests={side: digest_folder(folder / side) for side in SIDES},
        tokenizer_digest=inputs.base.tokenizer_digest,
        train_tokens=train.tokens,
        answer_tokens=train.target_tokens,
        longest_tokens=max(side.longest for side in sides),
        faults={name: _share(name, sides) for name in FAULTS},
        prompts=_describe_prompts(inputs),
    )


def _describe_prompts(inputs: ChatInputs) -> tuple[str, ...]:
    said = dict.fromkeys(sentence for chats in inputs.chats for sentence in chats.prompts)
    return (
        *said,
        *describe_exceptions(
            folded=sum(chats.folded for chats in inputs.chats),
            apart=sum(chats.apart for chats in inputs.chats),
        ),
    )


def _share(name: str, sides: Sequence[SideFindings]) -> Share:
    first = [row_id for side in sides for row_id in side.first[name]]
    return Share(
        rows=sum(side.faults[name] for side in sides),
        of=sum(side.rows for side in sides),
        first=tuple(first[:FIRST]),
    )
