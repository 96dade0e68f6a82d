"""What tests are made of: work folders, sources, sections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retune.digests import digest_file
from retune.records import Record, Source
from retune.stage import Workdir


def make_workdir(folder: Path) -> Workdir:
    """Make the folders of a computation."""
    for name in ("artifact", "scratch"):
        (folder / name).mkdir(parents=True)
    return Workdir(folder / "artifact", folder / "scratch")


def source_of(path: Path) -> Source:
    """Return a file and its digest."""
    return Source(digest=digest_file(path), path=path)


def section_of(kind: type[Record], **sections: dict[str, Any]) -> Any:
    """Build a stage's section from plain mappings, as a recipe file gives them."""
    return kind.model_validate_json(json.dumps(sections))
