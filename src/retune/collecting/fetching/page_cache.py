"""Raw pages by address, so that an interrupted run fetches nothing twice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from retune.collecting.records import FetchedPage
from retune.records import Record
from retune.spine.durable_files import disk_error
from retune.whole_files import replacing


class _Entry(Record):
    url: str
    final_url: str
    media_type: str
    charset: str | None
    sha256: str


class PageCache:
    """A folder with two files per page: the body as it came, and what was said about it.

    Args:
        folder: Made when the first page is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, url: str) -> FetchedPage | None:
        """Return a page, or None where it is absent or damaged."""
        entry_path, body_path = self._paths(url)
        try:
            entry = _Entry.model_validate(json.loads(entry_path.read_text("utf-8")))
            body = body_path.read_bytes()
        except (FileNotFoundError, ValidationError, ValueError):
            return None
        if entry.url != url or hashlib.sha256(body).hexdigest() != entry.sha256:
            return None
        return FetchedPage(body=body, **entry.model_dump(exclude={"sha256"}))

    def save(self, page: FetchedPage) -> None:
        """Keep a page; a kill between the two files leaves it absent.

        Raises:
            ArtifactError: The disk does not take it.
        """
        entry_path, body_path = self._paths(page.url)
        entry = _Entry(
            sha256=hashlib.sha256(page.body).hexdigest(), **page.model_dump(exclude={"body"})
        )
        try:
            with replacing(body_path) as part:
                part.write_bytes(page.body)
            with replacing(entry_path) as part:
                part.write_bytes(entry.model_dump_json().encode())
        except OSError as error:
            raise disk_error(entry_path, error) from error

    def _paths(self, url: str) -> tuple[Path, Path]:
        name = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
        folder = self._folder / name[:2]
        return folder / f"{name}.json", folder / f"{name}.body"
