"""What an export is: what was wanted, what was written, and what proves it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from retune.publishing.choices import ExportForm, NumberType
from retune.records import Record

EXPORT_FILE = "retune_export.json"
"""Written last: a folder that has it is a whole export."""
MANIFEST_FILE = "retune_manifest.json"
CARD_FILE = "README.md"


class ExportRequest(Record):
    """What is to be exported, and where to."""

    form: ExportForm
    target: Path
    """Folder of the export; absent, empty or, with `force`, an earlier export."""
    max_shard_size: str = "2GB"
    """Largest size of one file of weights, such as ``2GB`` or ``500MB``."""
    number_type: NumberType = "auto"
    """Of the weights in a GGUF file; auto: bf16 for weights in bfloat16, else f16."""
    converter: Path | None = None
    """llama.cpp's `convert_hf_to_gguf.py`, to be used in place of the converter here."""
    prove: bool = True
    """Whether the export is loaded and asked prompts."""
    force: bool = False
    """Whether an earlier export at the target is replaced."""


class ExportedFile(Record):
    """One file of an export."""

    bytes: int
    sha256: str


class ExportProof(Record):
    """What an export said when it was loaded again."""

    prompts: int
    answers_equal: int
    """Prompts that it answered with the same text as the version; for an adapter, as the adapter
    in the store over its base."""
    compared_with: str
    """What it was compared with, in words."""
    max_weight_difference: float | None = None
    """Largest difference of a weight read back, as a part of what its number type may round; None
    where weights were copied byte for byte."""


class Export(Record):
    """A finished export: the content of `retune_export.json`."""

    model_name: str
    version: int
    form: ExportForm
    released: str
    """Content digest of the released model."""
    base_name: str
    license: str | None
    """Licence of the base, by its snapshot; None where it names none."""
    made_at: str
    """Date and time, UTC, ISO 8601 with seconds."""
    files: dict[str, ExportedFile]
    """All files but this one, by path."""
    proof: ExportProof | None
    """None where it was not asked for, or cannot be given; `notes` say so."""
    notes: tuple[str, ...] = Field(default=())
    """What is not in it, a sentence each."""
